"""Sentences: what a paper says of a table, put as comparisons and judged by `dadlab.tables.verdicts`.

They are data (`papers/dad/rows.json`), written down after a first run of six methods had been seen and before all other
rows, or marked as later; what we ask of a table ourselves is marked as ours. A sentence holds if all its comparisons
hold and does not hold if one of them does not; one that says "some" holds if one of them does, and does not if none.
Comparisons with rows that nobody can train here are left out, and the sentence says so; every comparison of a table
counts in the correction, those that could not be made included, but once where several sentences make it. In a row's
place `A − B` is the gain of A over B and `A ÷ B` how many times B it reaches; in a column's `mean of A, B` is the mean
of these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dadlab.profile import nearest
from dadlab.tables.measured import NOT_RUN, Measured, average_of
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
)

NOT_MEASURED, IMPOSSIBLE = "not measured", "cannot be made here"
ONE_SEED = " (one seed, images alone)"  # said of its interval
LATER, OURS = " (added after the first results)", " (our own, no sentence of the paper)"  # said of a sentence
LESS, OVER = " − ", " ÷ "  # between two rows: the gain of the first over the second, absolute and relative
MEAN_OF = "mean of "  # before columns, as in `mean of C, A`


@dataclass(frozen=True)
class Sentence:
    """A sentence of the paper about a table, and the comparisons that it amounts to.

    Attributes:
        text: what it says.
        comparisons: what that is in rows and columns.
        some: one of them is enough.
        later: it was written down when results of its table were known.
        ours: it is no sentence of the paper.
        left_out: rows that it names and that nobody can train here.
    """

    text: str
    comparisons: tuple[Claim, ...]
    some: bool = False
    later: bool = False
    ours: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """The text, and what a reader should know of it."""
        gone = f" (left out: {', '.join(self.left_out)})" if self.left_out else ""
        return self.text + LATER * self.later + OURS * self.ours + gone


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
    return [
        Sentence(
            entry["text"],
            tuple(_comparisons(entry, lower_is_better)),
            some=entry.get("some", False),
            later=entry.get("later", False),
            ours=entry.get("ours", False),
        )
        for entry in entries
    ]


def _comparisons(entry: dict[str, Any], lower_is_better: Sequence[str]) -> list[Claim]:
    edge = entry.get("above", 0.0)
    return [
        Claim(entry["text"], first, second, column, -np.inf, -edge)
        if column in lower_is_better
        else Claim(entry["text"], first, second, column, edge)
        for first in ([entry["first"]] if isinstance(entry["first"], str) else entry["first"])
        for second in entry["than"]
        for column in entry["on"]
    ]


def as_listed(sentences: Sequence[Sentence]) -> pd.DataFrame:
    """The sentences before any result: what is compared with what, and on which columns."""
    lines = [
        {
            "claim": sentence.said,
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
        """One of `HOLDS`, `FAILS`, `OPEN`, `NOT_MEASURED`, `IMPOSSIBLE`.

        The last is of a sentence all of whose comparisons name rows that nobody can train here.
        """
        if not self.verdicts:
            return IMPOSSIBLE
        said = [NOT_MEASURED if found is None else found.verdict for found in self.verdicts]
        decisive, other = (HOLDS, FAILS) if self.sentence.some else (FAILS, HOLDS)
        return next((word for word in (decisive, NOT_MEASURED, OPEN) if word in said), other)


def judge_sentences(sentences: Sequence[Sentence], measured: Measured) -> list[Judged]:
    """Judge all that is said of a table, by the seeds that both rows of a comparison have."""
    total = len({replace(claim, text="") for sentence in sentences for claim in sentence.comparisons})
    possible = [_scaled(_possible(sentence, measured), measured.scale) for sentence in sentences]
    return [
        Judged(sentence, tuple(_judge(claim, measured, total) for claim in sentence.comparisons))
        for sentence in possible
    ]


def _possible(sentence: Sentence, measured: Measured) -> Sentence:
    """A sentence without the comparisons with rows that nobody can train here."""
    refused = {row.key for row in measured.rows if row.missing and not row.missing.startswith((NOT_RUN, NOT_YET))}
    left = tuple(claim for claim in sentence.comparisons if not refused & _rows_of(claim))
    gone = sorted(refused & set().union(*map(_rows_of, sentence.comparisons)))
    return replace(sentence, comparisons=left, left_out=tuple(gone))


def _scaled(sentence: Sentence, scale: float) -> Sentence:
    return replace(sentence, comparisons=tuple(replace(claim, scale=scale) for claim in sentence.comparisons))


def _rows_of(claim: Claim) -> set[str]:
    return {*rows_in(claim.first), *rows_in(claim.second)}


def judge_claims(
    claims: Sequence[Claim], measured: Mapping[tuple[str, str], np.ndarray], *, ours: bool = False
) -> list[Judged]:
    """Judge claims of a figure; those of one text are one sentence.

    Args:
        claims: the comparisons.
        measured: (name, test) → values (S, N), of everything that is compared.
        ours: they are no claims of the paper.
    """
    verdicts = dict(zip(claims, judge_all(claims, measured), strict=True))
    each = {text: tuple(c for c in claims if c.text == text) for text in dict.fromkeys(c.text for c in claims)}
    return [
        Judged(Sentence(text, own, ours=ours), tuple(verdicts[claim] for claim in own)) for text, own in each.items()
    ]


def _judge(claim: Claim, measured: Measured, total: int) -> Verdict | None:
    columns = columns_of(claim.on)
    cells = [set(measured.values.get(row, {}).get(column, ())) for row in _rows_of(claim) for column in columns]
    seeds = sorted(set.intersection(*cells))
    if not seeds:
        return None
    first, second = (
        value_of(name, lambda row: _cells(measured, row, columns, seeds)) for name in (claim.first, claim.second)
    )
    return judge(
        first,
        second,
        claims=total,
        above=claim.above,
        below=claim.below,
        scale=claim.scale,
        turns=measured.turns,
    )


def columns_of(on: str) -> list[str]:
    """The columns that a comparison is on.

    >>> columns_of("mean of C, A"), columns_of("Avg (Rendition, Sketch, A)")
    (['C', 'A'], ['Avg (Rendition, Sketch, A)'])
    """
    return on.removeprefix(MEAN_OF).split(", ") if on.startswith(MEAN_OF) else [on]


def rows_in(name: str) -> list[str]:
    """The row of this name, or the two whose gain it is.

    >>> rows_in("DAD"), rows_in("DAD ÷ ViT")
    (['DAD'], ['DAD', 'ViT'])
    """
    return name.split(LESS) if LESS in name else name.split(OVER)


def value_of(name: str, value: Callable[[str], Any]) -> Any:
    """A row's value, or the gain of one row over another.

    >>> printed = {"DAD": 30.0, "ViT": 20.0}.get
    >>> value_of("DAD − ViT", printed), float(value_of("DAD ÷ ViT", printed))
    (10.0, 1.5)
    """
    first, *second = map(value, rows_in(name))
    if not second:
        return first
    return first - second[0] if LESS in name else ratio(first, second[0])


def ratio(values: Any, base: Any) -> Any:
    """Values (S, N) whose mean is the ratio of two means, and whose spread is that ratio's to first order.

    >>> ratio(np.array([[3.0, 5.0]]), np.array([[1.0, 3.0]]))
    array([[2.5, 1.5]])
    """
    found = np.mean(values) / np.mean(base)
    return found + (values - found * base) / np.mean(base)


def _cells(measured: Measured, row: str, columns: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """(S, N) of a column, or of the mean of several, in which more is better."""
    if len(columns) == 1:
        return measured.matrix(row, columns[0], seeds)
    found, lower = measured.values[row], measured.published.attrs["lower_is_better"]
    return np.stack([average_of({name: found[name][seed] for name in columns}, columns, lower) for seed in seeds])


def compared(first: str, second: str) -> str:
    """What is subtracted from what, gains in brackets.

    >>> compared("DAD ÷ ViT", "KD")
    '(DAD ÷ ViT) − KD'
    """
    return LESS.join(f"({name})" if len(rows_in(name)) > 1 else name for name in (first, second))


def record_of(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """The same for a JSON file."""
    return [
        {
            "claim": found.sentence.said,
            "ours": found.sentence.ours,
            "some": found.sentence.some,
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
