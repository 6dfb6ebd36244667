"""Verdicts on a paper's claims: does a sentence drawn from a table hold in what was measured here?

A claim says in which range the difference of two runs lies, on one test or by one metric; "A beats B" is (0, ∞). The
rule was written down before any result: the interval of the paired difference over seeds and images
(`dadlab.estimates`), at a level corrected for the number of claims of the table (Bonferroni: 1 − 0.05 / m).

- **holds**: the whole interval lies in the claimed range;
- **does not hold**: none of it does;
- **cannot be told at this scale**: anything else, with the number of seeds or images that would tell.

All values are those of single images, so that a difference is paired by image and by seed. A single seed never tells,
and its interval is over images alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from dadlab.estimates import Components, Estimate, components, difference, rounded, unseen

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told at this scale"
ERROR = 0.05  # chance that any verdict of a table is wrong
POWER = 0.8  # chance that the number named would tell, if the effect is as measured
MOST = 10_000_000  # seeds or images; more are not worth naming
_STEP = 1.05  # between the numbers that are tried


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
) -> Verdict:
    """Whether `first` − `second` lies between `above` and `below`.

    Args:
        first, second: correctness, or any other value an image, (S, N) of S seeds on the same N images.
        claims: m, how many claims are drawn from the same table.
        above, below, scale: as in `Claim`.

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
    told = would_tell(values, effect, above=above, below=below, level=level) if verdict == OPEN else ""
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


def would_tell(values: np.ndarray, effect: Estimate, *, above: float, below: float, level: float) -> str:
    """How many seeds, or else images, or else of both, would tell, were the effect and its variances as measured.

    At the number named, a verdict comes out in `POWER` of all cases. It is the first that does: many more of one kind
    alone may tell less again, as the degrees of freedom fall to those of the other.

    Args:
        values: differences (S, N), as reported.
        effect: their estimate at this level.
        above, below: the claimed range.
        level: of the interval.
    """
    seeds, images = values.shape
    if seeds < 2:
        return "at least 2 seeds"
    distance = min(abs(effect.mean - edge) for edge in (above, below) if math.isfinite(edge))
    if distance == 0:
        return "nothing: the effect lies on the edge"
    if np.ptp(values) == 0:
        needed = _fewest(images + 1, lambda n: _placed(_shrunk(effect, images, n, level), above, below) != OPEN)
        return f"{needed:,} images" if needed else "values that are not all alike"
    parts = components(values)

    def tells(seeds: int, images: int) -> bool:
        return _reach(parts, seeds, images, level) <= distance

    if needed := _fewest(seeds + 1, lambda n: tells(n, images)):
        return f"{needed:,} seeds"
    if needed := _fewest(images + 1, lambda n: tells(seeds, n)):
        return f"{needed:,} images"
    if needed := _fewest(seeds + 1, lambda n: tells(n, -(-n * images // seeds))):
        return f"{needed:,} seeds and {-(-needed * images // seeds):,} images"
    return "nothing: the effect lies on the edge, or all but on it"


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


def claims_record(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The same for a JSON file."""
    return [
        {
            **{key: value for key, value in asdict(claim).items() if value not in (math.inf, -math.inf)},
            **asdict(found),
            "effect": rounded(found.effect, 4),
        }
        for claim, found in zip(claims, verdicts, strict=True)
    ]


def printed(effect: Estimate, scale: float = 100.0) -> str:
    """An effect with its interval: points with one decimal, other quantities with three."""
    return effect.text(1 if scale == 100 else 3)


def _placed(effect: Estimate, above: float, below: float) -> str:
    if effect.low > above and effect.high < below:
        return HOLDS
    return FAILS if effect.high <= above or effect.low >= below else OPEN


def _shrunk(effect: Estimate, images: int, more: int, level: float) -> Estimate:
    """The estimate of values that are all alike on so many images, were they so on more."""
    share = unseen(more, level) / unseen(images, level)
    low, high = (effect.mean + share * (end - effect.mean) for end in (effect.low, effect.high))
    return Estimate(effect.mean, low, high)


def _reach(parts: Components, seeds: int, images: int, level: float) -> float:
    """How far from an edge an effect must lie to be told in `POWER` of all cases."""
    error, freedom = parts.spread(seeds, images)
    return error * (float(student_t.ppf((1 + level) / 2, freedom)) + NormalDist().inv_cdf(POWER))


def _fewest(least: int, enough: Callable[[int], bool]) -> int:
    """Smallest n, `least` or more, that is enough, though more may not be; 0 where there is none worth naming."""
    before, tried = least - 1, least
    while tried <= MOST:
        if enough(tried):
            between = range(before + 1, tried + 1)
            return between[bisect_left(between, True, key=enough)]
        before, tried = tried, max(tried + 1, int(tried * _STEP))
    return 0
