"""The second paper's tables, measured: which run stands for which row, its values, its claims' verdicts.

Rows and claims are data (`papers/vlm_ood/experiments.json`), written before any result of these notebooks.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dadlab.profile import nearest, strict
from dadlab.tables.published import PAPERS
from dadlab.tables.verdicts import Claim, Verdict, judge
from dadlab.vlm.archives import ARCHIVES
from dadlab.vlm.evaluate import (
    FEW_SHOT,
    HALVES,
    SHIFTED,
    Values,
    measure_aligned,
    measure_halves,
    measure_shifted,
    teacher_values,
)
from dadlab.vlm.run import AlignRun, Unfit
from dadlab.vlm.text_rows import of_texts, tried

EXPERIMENTS = PAPERS / "vlm_ood" / "experiments.json"


@dataclass(frozen=True)
class Row:
    """A row of a table: its published name, and the run that stands for it, or why there is none.

    Attributes:
        name: as the published table's index has it; or a control's, in the same form.
        label: what claims call it.
        run: with any seed; None for the teacher itself, for texts alone, or where nothing stands for it.
        source: the row's entry in the file.
    """

    name: tuple[Any, ...]
    label: str
    run: AlignRun | None
    source: Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A table with what was measured: `values` (row's label, quantity) → (S, N), and why others are missing."""

    number: str
    rows: Sequence[Row]
    quantities: Mapping[str, Mapping[str, Any]]
    claims: Sequence[Claim]
    seeds: Mapping[str, Sequence[int]]
    values: Mapping[tuple[str, str], np.ndarray]
    missing: Mapping[str, str]
    remark: str

    @functools.cached_property
    def verdicts(self) -> list[Verdict | None]:
        """One a claim, None where one of its rows was not measured; the level counts all claims of the table."""
        return [self._judge(claim) for claim in self.claims]

    def _judge(self, claim: Claim) -> Verdict | None:
        pair = [(label, claim.on) for label in (claim.first, claim.second)]
        if not set(pair) <= self.values.keys():
            return None
        shared = sorted(set(self.seeds[claim.first]) & set(self.seeds[claim.second]))
        first, second = (self.values[key][[list(self.seeds[key[0]]).index(s) for s in shared]] for key in pair)
        if not shared:
            return None
        return judge(first, second, claims=len(self.claims), above=claim.above, below=claim.below, scale=claim.scale)


def read_experiment(number: str, **shared: Any) -> tuple[list[Row], dict[str, Any]]:
    """A table's rows, and its whole entry in `EXPERIMENTS`.

    Args:
        number: as in `dadlab.tables.published.load_table`.
        shared: fields of `AlignRun` that all runs are given, such as `epochs`.

    Raises:
        ValueError: unknown table, run or field. Rows that ask for what the data have not are missing instead.
    """
    content = json.loads(EXPERIMENTS.read_text(encoding="utf-8"))
    entry = nearest(number, content["tables"], "table")
    rows = []
    for source in entry["rows"]:
        name, run = tuple(source["name"]), None
        try:
            run = _run_of(source, content["runs"], shared)
        except Unfit as error:
            source = {**source, "missing": str(error)}
        rows.append(Row(name, source.get("label", name[-1]), run, source))
    if "data" in shared:
        for facts in entry["quantities"].values():
            facts["columns"] = printed_for(shared["data"], facts["columns"])
    return rows, entry


def _run_of(source: Mapping[str, Any], runs: Mapping[str, Any], shared: Mapping[str, Any]) -> AlignRun | None:
    """The run that stands for a row; of texts alone none, but they are tried on the data."""
    if "text" in source:
        tried(source, shared)
    if not (named := source.get("run") or source.get("teacher")):
        return None
    told = nearest(named, dict(runs), "run")
    here = told.get("fashion" if shared.get("data", "fashion") == "fashion" else "on disk", {})
    own = {name: value for name, value in told.items() if name not in ("fashion", "on disk")}
    return strict(AlignRun, {**own, **shared, **here})


def printed_for(data: str, columns: Sequence[str]) -> list[str]:
    """Of a published table's columns those of a data set on disk, and those that name no data set.

    >>> printed_for("cars:/data", ["Birds ID", "Cars ID"]), printed_for("fashion", ["Birds ID", "Cars ID"])
    (['Cars ID'], ['Birds ID', 'Cars ID'])
    """
    archive = ARCHIVES.get(data.partition(":")[0])
    others = {other.column for other in ARCHIVES.values() if archive and other is not archive}
    return [name for name in columns if name.partition(" ")[0] not in others]


def measure_table(number: str, seeds: Sequence[int], runs_dir: Path, *, train: bool = True, **shared: Any) -> Measured:
    """Measure a table's rows, training what is missing.

    Args:
        number: of the table.
        seeds: of every run.
        runs_dir: where runs live.
        train: train what is missing; else only what is there counts, and a remark says what is not.
        shared: fields of `AlignRun` that all runs are given.
    """
    rows, entry = read_experiment(number, **shared)
    keys = {name: facts["value"] for name, facts in entry["quantities"].items()}
    had: dict[str, list[int]] = {}
    values: dict[tuple[str, str], np.ndarray] = {}
    missing = {row.label: row.source["missing"] for row in rows if "missing" in row.source}
    for row in rows:
        found = _row_values(row, seeds, Path(runs_dir), train, **shared) if row.label not in missing else {}
        had[row.label] = sorted(found)
        if len(found) < len(seeds) and row.label not in missing:
            missing[row.label] = f"seeds {', '.join(map(str, sorted(found)))} alone" if found else "not run"
        for quantity, key in {**keys, **row.source.get("measured", {})}.items():
            if found and all(key in of_seed for of_seed in found.values()):
                values[row.label, quantity] = np.stack([found[seed][key] for seed in sorted(found)])
    for quantity in keys:  # "zero" is no row: a claim about one row alone is that its value differs from zero
        shape = next((found.shape for (_, on), found in values.items() if on == quantity), (0, 0))
        values["zero", quantity] = np.zeros((len(seeds), shape[1]))
    had["zero"] = list(seeds)
    claims = [_claim(told) for told in entry["claims"]]
    return Measured(number, rows, entry["quantities"], claims, had, values, missing, entry.get("remark", ""))


def _claim(told: Mapping[str, Any]) -> Claim:
    """A claim that only has an upper bound has no lower one; without either, it is that the difference is positive."""
    return Claim(**{"above": -math.inf, **told} if "below" in told else told)


def _row_values(row: Row, seeds: Sequence[int], runs_dir: Path, train: bool, **shared: Any) -> dict[int, Values]:
    """What was measured of a row: seed → key, as `dadlab.vlm.evaluate` and `dadlab.vlm.text_rows` name it → (N,)."""
    if "text" in row.source:
        return {seed: of_texts(row.source, {**shared, "seed": seed}) for seed in seeds}
    assert row.run is not None
    if "teacher" in row.source:
        values = teacher_values(row.run, runs_dir)
        return {seed: values for seed in seeds}
    kept, measure = _measuring(row)
    runs = {seed: dataclasses.replace(row.run, seed=seed) for seed in seeds}
    there = {seed: run for seed, run in runs.items() if train or (run.folder(runs_dir) / kept).is_file()}
    return {seed: measure(run, runs_dir) for seed, run in there.items()}


def _measuring(row: Row) -> tuple[str, Callable[[AlignRun, Path], Values]]:
    """Where a run's values that a row needs are kept, and what measures them."""
    if row.source.get("halves"):
        return HALVES, measure_halves
    return (SHIFTED, measure_shifted) if row.source.get("shifts") else (FEW_SHOT, measure_aligned)
