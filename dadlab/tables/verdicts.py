"""Verdicts on a paper's claims: does a sentence drawn from a table hold in what was measured here?

A claim says in which range the difference of two runs lies, on one test or by one metric; "A beats B" is (0, ∞). The
rule was written down before any result, its interval replaced by a wider one after the first (papers/LOG.md): that of
the paired difference over seeds and images (`dadlab.estimates`), at a level corrected for the number of comparisons of
the table (Bonferroni: 1 − 0.05 / m).

- **holds**: the whole interval lies in the claimed range;
- **does not hold**: none of it does;
- **cannot be told at this scale**: anything else, with the number of seeds or images that would tell.

All values are those of single images, so that a difference is paired by image and by seed. A single seed never tells,
and its interval is over images alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from dadlab.estimates import Estimate, difference, rounded
from dadlab.tables.power import would_tell

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told at this scale"
ERROR = 0.05  # chance that any verdict of a table is wrong


@dataclass(frozen=True)
class Claim:
    """`first` − `second`, by `on`, lies between `above` and `below`.

    Attributes:
        text: the paper's statement, in a sentence.
        first, second: names of the two runs.
        on: the test split or the metric.
        above, below: the claimed range; a lower-is-better claim is (−∞, 0), "no worse by a point" (−1, ∞).
        scale: what a single image's value is multiplied by: 100 turns correctness into points.
    """

    text: str
    first: str
    second: str
    on: str
    above: float = 0.0
    below: float = math.inf
    scale: float = 100.0

    def __post_init__(self) -> None:
        if not self.above < self.below:
            raise ValueError(f"claim {self.text!r}: the range from {self.above} to {self.below} is empty")


@dataclass(frozen=True)
class Verdict:
    """What is said of a claim: one of `HOLDS`, `FAILS`, `OPEN`, the effect with its interval, and what would tell."""

    verdict: str
    effect: Estimate
    level: float
    seeds: int
    images: int
    would_tell: str


def judge(
    first: np.ndarray,
    second: np.ndarray,
    *,
    claims: int,
    above: float = 0.0,
    below: float = math.inf,
    scale: float = 100.0,
    turns: str = "seeds",
) -> Verdict:
    """Whether `first` − `second` lies between `above` and `below`.

    Args:
        first, second: correctness, or any other value an image, (S, N) of S seeds on the same N images.
        claims: m, how many claims are drawn from the same table.
        above, below, scale: as in `Claim`.
        turns: what S counts, in words.

    Raises:
        ValueError: shapes differ, or there is no claim.

    >>> judge(np.ones((5, 100)), np.zeros((5, 100)), claims=3).verdict
    'holds'
    """
    if claims < 1:
        raise ValueError(f"claims must be at least 1, got {claims}")
    level = 1 - ERROR / claims
    effect = difference(first, second, level=level, scale=scale)
    values = scale * (np.asarray(first, float) - np.asarray(second, float))
    seeds, images = values.shape
    verdict = OPEN if seeds < 2 else _placed(effect, above, below)
    edges = {"above": above, "below": below}
    told = would_tell(values, effect, **edges, level=level, turns=turns) if verdict == OPEN else ""
    return Verdict(verdict, effect, level, seeds, images, told)


def judge_all(claims: Sequence[Claim], measured: Mapping[tuple[str, str], np.ndarray]) -> list[Verdict]:
    """The verdict on every claim of one table.

    Args:
        claims: all that is drawn from the table: their number sets the level.
        measured: (run, test or metric) → values (S, N).

    Raises:
        ValueError: something that a claim names was not measured.
    """
    for claim in claims:
        for run in (claim.first, claim.second):
            if (run, claim.on) not in measured:
                raise ValueError(f"claim {claim.text!r}: {run!r} was not measured on {claim.on!r}")
    return [
        judge(
            measured[claim.first, claim.on],
            measured[claim.second, claim.on],
            claims=len(claims),
            above=claim.above,
            below=claim.below,
            scale=claim.scale,
        )
        for claim in claims
    ]


def claims_table(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Claim, test, effect with its interval, verdict and what would tell: a line a claim."""
    lines = [
        {
            "claim": claim.text,
            "difference": f"{claim.first} − {claim.second}",
            "on": claim.on,
            "effect": printed(found.effect, claim.scale),
            "verdict": found.verdict,
            "would tell": found.would_tell,
        }
        for claim, found in zip(claims, verdicts, strict=True)
    ]
    return pd.DataFrame(lines).set_index("claim")


def described(claim: Claim) -> dict[str, Any]:
    """A claim for a JSON file, without an end of its range that is infinite."""
    return {key: value for key, value in asdict(claim).items() if value not in (math.inf, -math.inf)}


def claims_record(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The same for a JSON file."""
    return [
        {**described(claim), **asdict(found), "effect": rounded(found.effect, 4)}
        for claim, found in zip(claims, verdicts, strict=True)
    ]


def printed(effect: Estimate, scale: float = 100.0) -> str:
    """An effect with its interval: points with one decimal, other quantities with three."""
    return effect.text(1 if scale == 100 else 3)


def _placed(effect: Estimate, above: float, below: float) -> str:
    if effect.low > above and effect.high < below:
        return HOLDS
    return FAILS if effect.high <= above or effect.low >= below else OPEN
