"""One table, from its number to its record: what is printed, what stands for its rows, what the paper says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from dadlab.tables.defaults import trains
from dadlab.tables.measured import Cells, Measured, measure_rows
from dadlab.tables.published import load_table, with_all_classes
from dadlab.tables.record import record
from dadlab.tables.rows import Row, read_rows
from dadlab.tables.sentences import Sentence, as_listed, judge_sentences, read_sentences, record_of


@dataclass(frozen=True)
class Table:
    """A published table, the trainings that stand for its rows on a profile, and the sentences about it."""

    profile: str
    published: pd.DataFrame
    rows: Sequence[Row]
    sentences: Sequence[Sentence]

    @property
    def listed(self) -> Styler:
        """What the paper says of it, before any result."""
        return as_listed(self.sentences).style

    @property
    def slips(self) -> Styler:
        """Slips and gaps in the printed numbers."""
        return pd.DataFrame(self.published.attrs["notes"]).style.format(na_rep="")

    def measure(
        self,
        seeds: Sequence[int],
        runs_dir: str | Path,
        *,
        columns: Sequence[str] = (),
        train: bool | None = None,
        cells: Cells | None = None,
    ) -> Measured:
        """`dadlab.tables.measured.measure_rows` of its rows.

        Args:
            seeds: of every row.
            runs_dir: where runs live.
            columns: some of the table's; all unless told.
            train: train what is missing; `dadlab.tables.defaults.trains` says when, unless told.
            cells: how a row's columns are measured; on the test splits of their names unless told.

        Raises:
            ValueError: a column that the table has not.
        """
        made = trains(self.profile, train)
        return measure_rows(self.published, self.rows, seeds, Path(runs_dir), columns=columns, train=made, cells=cells)

    def record(self, measured: Measured, **more: Any) -> dict[str, Any]:
        """What its JSON file says: `dadlab.tables.record.record`, with the verdict on every sentence."""
        return record(measured, claims=record_of(judge_sentences(self.sentences, measured)), **more)


def read_table(
    number: int,
    profile: str,
    *,
    students: Mapping[str, str] | None = None,
    shared: Mapping[str, Any] | None = None,
    all_classes: bool = False,
) -> Table:
    """A table of the first paper, as `papers/dad/tables.json` and `papers/dad/rows.json` have it.

    Args:
        number: 1 to 12.
        profile: `fashion` or `imagenet`.
        students: the paper's student and one to train in its place, such as `{"ViT-B": "vit_m"}`.
        shared: fields of the profile, for all rows.
        all_classes: with two columns of ours, R and A among all 1,000 classes.

    Raises:
        ValueError: unknown table, student or field.
    """
    published = load_table(number)
    published = with_all_classes(published) if all_classes else published
    rows = read_rows(number, profile, students=students, shared=shared)
    return Table(profile, published, rows, read_sentences(number, published.attrs["lower_is_better"]))
