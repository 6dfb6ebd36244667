"""Tables: the rows of a published table, measured here.

Rows are trained if they are missing, or else the table says what is missing. All values are kept a seed and a test
image, so that claims about a table are paired tests (`dadlab.tables.verdicts`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dadlab.data import home_split, split_names, training_split
from dadlab.estimates import Estimate, accuracy
from dadlab.evaluate import corruption_score, mce_baseline
from dadlab.fingerprints import fingerprint
from dadlab.making.tokens import train_token_teacher
from dadlab.profile import nearest
from dadlab.provenance import trained_by
from dadlab.results import answered, measure, measure_corrupted
from dadlab.students import VITS
from dadlab.tables.answers import corruptions_answered, teacher_answered, teacher_correct, teacher_corrupted
from dadlab.tables.rows import DISCRETE_VIT, NOT_YET, Row
from dadlab.train import train as train_run

NOT_RUN, SEEDS = "not run", "seeds"  # beginnings of what is said of a row that lacks runs
TEACHER_SEED = 1000  # of trained teachers: outside every comparison
Values = dict[str, dict[int, np.ndarray]]  # column → seed → (N,) values in [0, 1]
Cells = Callable[[Row, int, Path, Sequence[str]], dict[str, np.ndarray]]  # of one seed: column → (N,)


@dataclass(frozen=True)
class Measured:
    """What stands behind a table: `values` of the rows that could be had, and of the others why not.

    `trained` has the commit and the machine of each row's runs, a seed each. `scale` is what a value is multiplied by:
    100 for correctness in per cent. Where rounds of timing take the place of seeds, which `turns` says, no runs stand
    behind the values.
    """

    published: pd.DataFrame
    rows: Sequence[Row]
    seeds: Sequence[int]
    values: dict[str, Values]
    missing: dict[str, str]
    trained: dict[str, dict[int, dict[str, str]]] = field(default_factory=dict)
    scale: float = 100.0
    turns: str = "seeds"

    def matrix(self, row: str, column: str, seeds: Sequence[int] | None = None) -> np.ndarray:
        """(S, N) of one cell."""
        found = self.values[row][column]
        return np.stack([found[seed] for seed in (sorted(found) if seeds is None else seeds)])

    @functools.cached_property
    def estimates(self) -> dict[tuple[str, str], Estimate]:
        """(row, column) → scaled mean with its 95 % interval, of all cells that could be measured.

        One seed tells nothing of others, so that it has no interval; the teacher has no seeds.
        """
        fixed = {row.key for row in self.rows if not (row.method or row.change)}
        cells = [(row, column) for row, values in self.values.items() for column in values]
        found = {cell: accuracy(self.matrix(*cell), scale=self.scale) for cell in cells}
        return {
            (row, column): told if row in fixed or len(self.values[row][column]) > 1 else Estimate(told.mean)
            for (row, column), told in found.items()
        }


def measure_rows(
    published: pd.DataFrame,
    rows: Sequence[Row],
    seeds: Sequence[int],
    runs_dir: Path,
    *,
    columns: Sequence[str] = (),
    train: bool = True,
    cells: Cells | None = None,
) -> Measured:
    """Measure a table's rows, and its averages from them.

    Args:
        published: from `dadlab.tables.published.load_table`: its columns name the tests, its `averages` what they are
            over.
        rows: from `dadlab.tables.rows.read_rows`.
        seeds: of every row.
        runs_dir: where runs live.
        columns: some of the table's; all unless told.
        train: train what is missing; else only runs that are there count, with the seeds that are there, and the
            teacher only if it was asked before. Of a run, answers to the tests are enough (`dadlab.ledger`), unless
            `cells` wants its weights.
        cells: how a row's columns are measured with one seed; on the test splits of their names unless told.

    Raises:
        ValueError: a column that the table has not.
    """
    for name in columns:
        nearest(name, dict.fromkeys(published.columns), "column")
    wanted = [name for name in published.columns if not columns or name in columns]
    averages = {name: parts for name, parts in published.attrs.get("averages", {}).items() if name in wanted}
    asked = [name for name in published.columns if name in {*wanted, *itertools.chain(*averages.values())}]
    rows = [with_teacher(row, runs_dir, train=train) for row in rows]
    measured, lower = Measured(published, rows, seeds, {}, {}), published.attrs.get("lower_is_better", ())
    for row in (row for row in rows if not row.change):
        there = [
            seed for seed in seeds if row.missing or train or is_there(row, seed, runs_dir, () if cells else asked)
        ]
        if row.missing or not there:
            measured.missing[row.key] = row.missing or f"{NOT_RUN} ({row.what})"
            continue
        found = {seed: (cells or tested)(row, seed, runs_dir, asked) for seed in there}
        whole = {seed: _with_averages(each, averages, lower) for seed, each in found.items()}
        by_column = {name: {seed: each[name] for seed, each in whole.items() if name in each} for name in wanted}
        measured.values[row.key] = {name: by_seed for name, by_seed in by_column.items() if by_seed}
        if row.method:
            measured.trained[row.key] = {seed: trained_by(row.run(seed).folder(runs_dir)) for seed in there}
        if not measured.values[row.key]:
            measured.missing[row.key] = NOT_YET
            continue
        if len(there) < len(seeds):
            measured.missing[row.key] = f"{SEEDS} {', '.join(map(str, there))} alone"
    for row in (row for row in rows if row.change):
        _average_change(row, measured)
    return measured


def _with_averages(
    found: dict[str, np.ndarray], averages: Mapping[str, Sequence[str]], lower: Sequence[str]
) -> dict[str, np.ndarray]:
    """A row's columns, and the averages whose parts are all there."""
    complete = {name: parts for name, parts in averages.items() if {*parts} <= found.keys()}
    return found | {name: average_of(found, parts, lower) for name, parts in complete.items()}


def average_of(found: Mapping[str, np.ndarray], columns: Sequence[str], lower: Sequence[str]) -> np.ndarray:
    """`average` of columns; of what is better lower, 1 less it counts."""
    return average([1 - found[name] if name in lower else found[name] for name in columns])


def _average_change(row: Row, measured: Measured) -> None:
    """Measure a row that is a mean of changes, image by image, over those of them and the seeds that are there."""
    values = measured.values
    wanted = [other for other in measured.rows if other.name[0] == row.change]
    there = [other for other in wanted if {other.key, other.over} <= values.keys()]
    found: Values = {}
    for column in dict.fromkeys(name for other in there for name in values[other.key]):
        pairs = [(values[other.key].get(column), values[other.over].get(column)) for other in there]
        both = [(first, second) for first, second in pairs if first and second]
        seeds = sorted(set(measured.seeds).intersection(*(each for pair in both for each in pair)))
        if both and seeds:
            found[column] = {seed: np.mean([one[seed] - other[seed] for one, other in both], axis=0) for seed in seeds}
    if not found:
        measured.missing[row.key] = f"{NOT_RUN} ({row.what})"
        return
    values[row.key] = found
    fewest = min(found.values(), key=len)
    some = [other.name[-1] for other in there] if len(there) < len(wanted) else []
    few = [f"{SEEDS} {', '.join(map(str, fewest))}"] if len(fewest) < len(measured.seeds) else []
    if some or few:
        measured.missing[row.key] = f"over {', '.join(some + few)} alone"


def with_teacher(row: Row, runs_dir: Path, *, train: bool) -> Row:
    """A row whose profile names the file of its trained teacher; one that lacks it is missing, or trained if told."""
    if row.missing or not row.teacher:
        return row
    file, make = _taught(row.teacher, Path(runs_dir))
    if train and not file.is_file():
        make()
    if not file.is_file():
        return replace(row, missing=f"{NOT_RUN} (teacher: {row.teacher.what}, seed {TEACHER_SEED})")
    return replace(row, profile=replace(row.profile, teacher=str(file)))


def _taught(teacher: Row, runs_dir: Path) -> tuple[Path, Callable[[], object]]:
    """The file of a teacher that is trained first, and how to make it; a Discrete ViT has its student's size."""
    profile = teacher.profile
    if teacher.method != DISCRETE_VIT:
        run = teacher.run(TEACHER_SEED)
        return run.weights(runs_dir), lambda: train_run(run, runs_dir)
    images = training_split(profile)
    recipe: dict[str, Any] = {
        "steps": profile.epochs * -(-len(images) // profile.batch),
        "batch": profile.batch,
        "peak": profile.lr,
    }
    name = f"discrete_{teacher.student}-{fingerprint(images.fingerprint, recipe)}.safetensors"
    file, vit = runs_dir / "teachers" / name, VITS[teacher.student]
    return file, lambda: train_token_teacher(images, file, vit=vit, **recipe, seed=TEACHER_SEED)


def split_of(column: str, data: str) -> str | None:
    """The test split that stands for a column, or None where the data have none."""
    split = home_split(data) if column == "ImageNet" else column.lower()
    return split if split in split_names(data) else None


def is_there(row: Row, seed: int, runs_dir: Path, columns: Sequence[str]) -> bool:
    """Whether nothing needs training: weights are there, or answers to the tests behind all columns, if any.

    The teacher has to have been asked about all those tests, or else the in-distribution one; of the embedded benchmark
    it is asked in minutes.
    """
    data = row.profile.data
    splits = [split for name in columns if (split := split_of(name, data)) is not None]
    if not row.method and data == "fashion":
        return True
    if not row.method:
        asked = all(teacher_answered(row.profile, runs_dir, split) for split in splits or [home_split(data)])
        return asked and ("C" not in columns or corruptions_answered(row.profile, runs_dir))
    run = row.run(seed)
    told = bool(splits or "C" in columns) and answered(run, runs_dir, splits, corruptions="C" in columns)
    return told or run.weights(runs_dir).is_file()


def tested(row: Row, seed: int, runs_dir: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Column → (N,) for one seed; C is what each image adds to mCE, as a fraction (or to plain error)."""
    data = row.profile.data
    splits = {name: split for name in columns if (split := split_of(name, data)) is not None}
    if row.method:
        found = measure(row.run(seed), runs_dir, list(splits.values()))
        cells = {name: found[split].astype(float) for name, split in splits.items()}
    else:
        cells = {name: teacher_correct(row.profile, runs_dir, split).astype(float) for name, split in splits.items()}
    if "C" in columns:
        errors = measure_corrupted(row.run(seed), runs_dir) if row.method else teacher_corrupted(row.profile, runs_dir)
        cells["C"] = corruption_score(errors, mce_baseline(data))
    return cells


def average(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Values whose mean is the mean of the parts' means, one for each image of all parts.

    Resampling them varies as much as resampling each part apart; images of different parts count as different ones,
    also where two styles show the same photograph.

    Args:
        parts: each (N_k,).

    >>> float(average([np.array([0.0, 1.0]), np.array([1.0])]).mean())
    0.75
    """
    total, mean = sum(map(len, parts)), float(np.mean([part.mean() for part in parts]))
    return np.concatenate([mean + (part - part.mean()) * total / (len(parts) * len(part)) for part in parts])
