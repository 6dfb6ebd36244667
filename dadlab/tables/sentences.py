"""Sentences: what a paper says of a table, put as comparisons and judged by `dadlab.tables.verdicts`.

They are data (`papers/dad/rows.json`), written down after a first run of six methods had been seen and before all other
rows, or marked as later. A sentence
holds if all its comparisons hold and does not hold if one of them does not. Comparisons with rows that nobody can train
here are left out, and the sentence says so; every comparison of a table counts in the correction, those that could not
be made included, but once where several sentences make it. `A − B` in a row's place is the gain of A over B.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from dadlab.profile import nearest
from dadlab.style import KEPT, REJECTED
from dadlab.tables.measured import NOT_RUN, Measured
from dadlab.tables.rows import NOT_YET, ROWS
from dadlab.tables.verdicts import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Verdict,
    claims_record,
    described,
    judge,
    judge_all,
    printed,
)

NOT_MEASURED = "not measured"
ONE_SEED = " (one seed, images alone)"  # said of its interval
LATER = " (added after the first results)"  # said of a sentence
LESS = " − "  # between two rows: the gain of the first over the second


@dataclass(frozen=True)
class Sentence:
    """A sentence of the paper about a table, and the comparisons that it amounts to."""

    text: str
    comparisons: tuple[Claim, ...]


def read_sentences(number: int | str, lower_is_better: Sequence[str] = (), path: Path = ROWS) -> list[Sentence]:
    """What the paper says of a table; `first` of each comparison is said to be the better one.

    Args:
        number: of the table.
        lower_is_better: its columns in which less is better.
        path: where the sentences are written down.

    Raises:
        ValueError: unknown table.
    """
    entries = nearest(str(number), json.loads(path.read_text(encoding="utf-8"))["tables"], "table")["claims"]
    return [Sentence(_text(entry), tuple(_comparisons(entry, lower_is_better))) for entry in entries]


def _text(entry: dict[str, Any]) -> str:
    return entry["text"] + LATER * entry.get("later", False)


def _comparisons(entry: dict[str, Any], lower_is_better: Sequence[str]) -> list[Claim]:
    edge = entry.get("above", 0.0)
    return [
        Claim(_text(entry), first, second, column, -np.inf, -edge)
        if column in lower_is_better
        else Claim(_text(entry), first, second, column, edge)
        for first in ([entry["first"]] if isinstance(entry["first"], str) else entry["first"])
        for second in entry["than"]
        for column in entry["on"]
    ]


def as_listed(sentences: Sequence[Sentence]) -> pd.DataFrame:
    """The sentences before any result: what is compared with what, and on which columns."""
    lines = [
        {
            "claim": sentence.text,
            "better": ", ".join(dict.fromkeys(claim.first for claim in sentence.comparisons)),
            "than": ", ".join(dict.fromkeys(claim.second for claim in sentence.comparisons)),
            "on": ", ".join(dict.fromkeys(claim.on for claim in sentence.comparisons)),
        }
        for sentence in sentences
    ]
    return pd.DataFrame(lines).set_index("claim")


@dataclass(frozen=True)
class Judged:
    """A sentence with the verdict of each of its comparisons, None for those that could not be made."""

    sentence: Sentence
    verdicts: tuple[Verdict | None, ...]

    @property
    def verdict(self) -> str:
        said = [NOT_MEASURED if found is None else found.verdict for found in self.verdicts]
        for worst in (FAILS, NOT_MEASURED, OPEN):
            if worst in said:
                return worst
        return HOLDS


def judge_sentences(sentences: Sequence[Sentence], measured: Measured) -> list[Judged]:
    """Judge all that is said of a table, by the seeds that both rows of a comparison have."""
    total = len({replace(claim, text="") for sentence in sentences for claim in sentence.comparisons})
    possible = [_possible(sentence, measured) for sentence in sentences]
    return [
        Judged(sentence, tuple(_judge(claim, measured, total) for claim in sentence.comparisons))
        for sentence in possible
    ]


def _possible(sentence: Sentence, measured: Measured) -> Sentence:
    """A sentence without the comparisons with rows that nobody can train here; as it is where that leaves none."""
    refused = {row.key for row in measured.rows if row.missing and not row.missing.startswith((NOT_RUN, NOT_YET))}
    left = tuple(claim for claim in sentence.comparisons if not refused & _rows_of(claim))
    gone = sorted(refused & set().union(*map(_rows_of, sentence.comparisons)))
    if not gone or not left:
        return sentence
    return replace(sentence, text=f"{sentence.text} (left out: {', '.join(gone)})", comparisons=left)


def _rows_of(claim: Claim) -> set[str]:
    return {row for name in (claim.first, claim.second) for row in name.split(LESS)}


def judge_claims(claims: Sequence[Claim], measured: Mapping[tuple[str, str], np.ndarray]) -> list[Judged]:
    """Judge claims of a figure; those of one text are one sentence.

    Args:
        claims: the comparisons.
        measured: (name, test) → values (S, N), of everything that is compared.
    """
    verdicts = dict(zip(claims, judge_all(claims, measured), strict=True))
    each = {text: tuple(c for c in claims if c.text == text) for text in dict.fromkeys(c.text for c in claims)}
    return [Judged(Sentence(text, own), tuple(verdicts[claim] for claim in own)) for text, own in each.items()]


def _judge(claim: Claim, measured: Measured, total: int) -> Verdict | None:
    seeds = sorted(set.intersection(*(set(measured.values.get(r, {}).get(claim.on, {})) for r in _rows_of(claim))))
    if not seeds:
        return None
    first, second = (_values(measured, name, claim.on, seeds) for name in (claim.first, claim.second))
    return judge(first, second, claims=total, above=claim.above, below=claim.below)


def _values(measured: Measured, name: str, column: str, seeds: Sequence[int]) -> np.ndarray:
    """(S, N) of a row, or of the gain of one row over another."""
    first, *over = (measured.matrix(row, column, seeds) for row in name.split(LESS))
    return first - over[0] if over else first


def verdict_table(judged: Sequence[Judged]) -> Styler:
    """A line a comparison below its sentence and verdict: effect with its corrected interval, and what would tell."""
    lines = [
        {
            "claim": found.sentence.text,
            "verdict": found.verdict,
            "comparison": " − ".join(f"({n})" if LESS in n else n for n in (claim.first, claim.second)),
            "on": claim.on,
            "effect (points)": _effect(claim, verdict),
            "by itself": NOT_MEASURED if verdict is None else verdict.verdict,
            "would tell": "" if verdict is None else verdict.would_tell,
        }
        for found in judged
        for claim, verdict in zip(found.sentence.comparisons, found.verdicts, strict=True)
    ]
    frame = pd.DataFrame(lines).set_index(["claim", "verdict", "comparison", "on"])
    colours = {HOLDS: f"color: {KEPT}", FAILS: f"color: {REJECTED}"}
    return frame.style.map(lambda cell: colours.get(cell, ""), subset=["by itself"]).set_uuid("v")


def _effect(claim: Claim, verdict: Verdict | None) -> str:
    """A measure that is no points has three decimals."""
    if verdict is None:
        return "—"
    return printed(verdict.effect, claim.scale) + ONE_SEED * (verdict.seeds == 1)


def record_of(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """The same for a JSON file."""
    return [
        {
            "claim": found.sentence.text,
            "verdict": found.verdict,
            "comparisons": [
                {**described(claim), "verdict": NOT_MEASURED}
                if verdict is None
                else claims_record([claim], [verdict])[0]
                for claim, verdict in zip(found.sentence.comparisons, found.verdicts, strict=True)
            ],
        }
        for found in judged
    ]
