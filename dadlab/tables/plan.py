"""What Tables 1–12 still need: runs that nothing is known of, and how long they would take.

Hours are those of a core that timed every method in the precision that this machine trains in (`COSTS`); stores, caches
and tests come on top, and so do the runs that figures want for themselves.

python -m dadlab.tables.plan
python -m dadlab.tables.plan --seeds 0 1 --tables 1 2
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dadlab.compute import precision
from dadlab.profile import PROFILES, Profile, make_profile, nearest
from dadlab.tables.measured import TEACHER_SEED, is_there, with_teacher
from dadlab.tables.published import PAPERS, load_table
from dadlab.tables.rows import Row, read_rows

_RESULTS = PAPERS / "dad" / "results"
COSTS = {"bf16": _RESULTS / "method_cost.json", "no": _RESULTS / "method_cost_float32.json"}  # by `compute.precision`
TABLES = tuple(number for number in range(1, 13) if number != 7)  # Table 7 times steps, and needs no runs
_STEPS = ("data", "limit", "batch", "image_size")  # how large a step is, and how many an epoch has
UNDER_ATTACK = 12  # wants students themselves, not their answers


def plan(
    profile: str = "fashion",
    *,
    seeds: Sequence[int] = range(5),
    tables: Sequence[int] = TABLES,
    runs_dir: Path = Path("runs"),
    shared: Mapping[str, Any] | None = None,
    cost: Path | None = None,
) -> pd.DataFrame:
    """What would be trained for tables, one line a training.

    Args:
        profile: a preset's name.
        seeds: of every row.
        tables: some of the twelve.
        runs_dir: where runs live.
        shared: fields of the profile for all rows.
        cost: what `benchmarks.method_cost` wrote; that of this machine's precision unless told.

    Returns:
        `student`, `method`, `detail` (what is its own), `tables` that need it, `runs` that are missing, and their
        `hours` on the machine of `cost`, or NaN where a run of this kind was not timed.

    Raises:
        ValueError: a table that has no runs.
    """
    if unknown := [number for number in tables if number not in TABLES]:
        raise ValueError(f"table {unknown[0]}: no runs stand behind it; choose some of {', '.join(map(str, TABLES))}")
    cost = cost or COSTS.get(precision(), COSTS["no"])
    timed = json.loads(cost.read_text(encoding="utf-8"))["students"] if profile == "fashion" else {}
    needed: dict[tuple[str, Profile], _Need] = {}
    for number in tables:
        columns = () if number == UNDER_ATTACK else [*load_table(number).columns]
        for row in (row for row in read_rows(number, profile, shared=shared) if row.method and not row.missing):
            ready = with_teacher(row, runs_dir, train=False)
            if ready.missing and row.teacher:
                _need(needed, row.teacher).add(number, {TEACHER_SEED})
            absent = {seed for seed in seeds if ready.missing or not is_there(ready, seed, runs_dir, columns)}
            if absent:
                _need(needed, row).add(number, absent)
    lines = [need.line(timed.get(need.row.student, {}), make_profile(profile)) for need in needed.values()]
    return pd.DataFrame(lines, columns=["student", "method", "detail", "tables", "runs", "hours"])


@dataclass(frozen=True)
class _Need:
    """A row that lacks runs: which seeds, and for which tables."""

    row: Row
    tables: set[int] = field(default_factory=set)
    seeds: set[int] = field(default_factory=set)

    def add(self, table: int, seeds: set[int]) -> None:
        self.tables.add(table)
        self.seeds.update(seeds)

    def line(self, timed: Mapping[str, Mapping[str, float]], usual: Profile) -> dict[str, Any]:
        """As `plan` returns it; `timed` has the cost of the student's methods in runs of the usual profile."""
        row, minutes = self.row, timed.get(self.row.method, {}).get("minutes a run", math.nan)
        alike = all(getattr(row.profile, name) == getattr(usual, name) for name in _STEPS)
        minutes *= row.profile.epochs / usual.epochs if alike else math.nan
        return {
            "student": row.student,
            "method": row.method,
            "detail": row.own,
            "tables": ", ".join(map(str, sorted(self.tables))),
            "runs": len(self.seeds),
            "hours": len(self.seeds) * minutes / 60,
        }


def _need(needed: dict[tuple[str, Profile], _Need], row: Row) -> _Need:
    return needed.setdefault((row.what, row.profile), _Need(row))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is needed and how long it takes; return the exit status."""
    parser = argparse.ArgumentParser("python -m dadlab.tables.plan", description="what the tables still need")
    parser.add_argument("--profile", default="fashion", help="fashion or imagenet")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--tables", nargs="+", type=int, default=[*TABLES])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--shared", type=json.loads, default={}, help="JSON: fields of the profile for all rows")
    given = parser.parse_args(arguments)
    try:
        nearest(given.profile, PROFILES, "profile")
        about = {"seeds": given.seeds, "tables": given.tables, "runs_dir": given.runs_dir, "shared": given.shared}
        found = plan(given.profile, **about)
    except ValueError as error:
        print(f"dadlab.tables.plan: {error}", file=sys.stderr)
        return 1
    if found.empty:
        print("nothing: every run of these tables is there")
        return 0
    print(found.to_string(index=False, na_rep="?", float_format="{:.1f}".format))
    untimed = int(found["runs"][found["hours"].isna()].sum())
    unknown = f", and {untimed} runs of a kind that was not timed" if untimed else ""
    print(f"{found['runs'].sum()} runs: {found['hours'].sum():.1f} hours of one core as timed{unknown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
