"""The record of a table or figure: what its JSON file says, so that any number can be followed to its runs.

Every cell has the published value, the measured one with its interval (`low` and `high`, which one seed has not) and
seeds, and the gain over the first row of its block; every row its runs' folders, and by which commit on which machine
they were trained; the table its profile, seeds, and the commit and machine that measured and wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dadlab.estimates import Estimate, difference, rounded
from dadlab.files import write_json
from dadlab.profile import Profile
from dadlab.provenance import by_whom, commit, machine, trained_by
from dadlab.run import Run
from dadlab.tables.measured import Measured
from dadlab.tables.rows import SEPARATOR, Row


def record(measured: Measured, **more: Any) -> dict[str, Any]:
    """Everything a table says, for a JSON file: every cell published and measured, its seeds, its runs.

    Args:
        measured: the table.
        more: further entries, such as `claims` and the `command`.
    """
    profile = asdict(measured.rows[0].profile) if measured.rows else {}
    firsts = _firsts(measured)
    lines = [_line(measured, row, row.over or firsts.get(_block(row), "")) for row in measured.rows]
    facts = {measured.turns: list(measured.seeds), "machine": machine(), "commit": commit()}
    printed = {name: measured.published.attrs.get(name) for name in ("title", "unit", "lower_is_better")}
    return {**printed, "profile": profile, **facts, "rows": lines, **more}


def write_picture(out: str, figure: Figure) -> None:
    """Write a figure's picture, which lies beside its record `out`."""
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(out).with_suffix(".png"), dpi=200, bbox_inches="tight")


def write_figure(out: str, record: dict[str, Any], profile: Profile, runs: Iterable[Run], runs_dir: str) -> None:
    """Write a figure's record, with the runs behind it and by whom they were trained, and say where.

    Args:
        out: the file.
        record: what the figure says.
        profile: of its runs, where they do not differ.
        runs: those it was measured with; none where it lacks some.
        runs_dir: where they live.
    """
    folders = [run.folder(Path(runs_dir)) for run in runs]
    trained = by_whom({folder.name: trained_by(folder) for folder in folders}, "runs")
    write_json(
        Path(out),
        {**record, "profile": asdict(profile), "trained": trained, "machine": machine(), "commit": commit()},
    )
    print(f"written: {out}")


def _block(row: Row) -> str:
    return row.name[0] if len(row.name) > 1 else ""


def _firsts(measured: Measured) -> dict[str, str]:
    """Block → its first published row that was measured, which gains are over; the teacher has no part in it."""
    published = {SEPARATOR.join(np.atleast_1d(name)) for name in measured.published.index}
    there = [row for row in measured.rows if row.method and row.key in measured.values and row.key in published]
    return {_block(row): row.key for row in reversed(there)}


def _line(measured: Measured, row: Row, first: str) -> dict[str, Any]:
    values = measured.values.get(row.key, {})
    seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
    trained = bool(row.method) and measured.turns == "seeds"
    runs = {str(seed): row.run(seed).folder(Path()).name for seed in seeds} if trained else {}
    cells = {name: _cell(measured, row.key, name, first if row.method else "") for name in measured.published.columns}
    differs = {
        key: value for key, value in asdict(row.profile).items() if value != asdict(measured.rows[0].profile)[key]
    }
    method = row.method or ("change" if row.change else "teacher")
    line = {"row": list(row.name), "method": method, "student": row.student, "profile": differs}
    told = {"what": row.what, "missing": measured.missing.get(row.key, ""), "runs": runs}
    return {**line, **told, "trained": by_whom(measured.trained.get(row.key, {})), "cells": cells}


def _cell(measured: Measured, row: str, column: str, first: str) -> dict[str, Any]:
    printed = printed_in(measured.published, row, column)
    found = measured.estimates.get((row, column))
    if found is None:
        return {"published": printed}
    by_seed = measured.values[row][column]
    each = {str(seed): round(measured.scale * float(values.mean()), 2) for seed, values in by_seed.items()}
    cell: dict[str, Any] = {
        "published": printed,
        **rounded(found),
        "seeds": each,
        "n": len(next(iter(by_seed.values()))),
    }
    seeds = sorted(set(by_seed) & set(measured.values.get(first, {}).get(column, {})))
    if seeds and row != first:
        pair = (measured.matrix(name, column, seeds) for name in (row, first))
        gained = difference(*pair, scale=measured.scale)
        cell["gain"] = {"over": first, "published": _less(printed, printed_in(measured.published, first, column))}
        cell["gain"] |= rounded(gained if len(seeds) > 1 else Estimate(gained.mean))
    return cell


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else round(first - second, 2)


def printed_in(published: pd.DataFrame, row: str, column: str) -> float | None:
    """A cell of a published table by its row's name, or None where the table has no such row or leaves it empty."""
    keys = {SEPARATOR.join(np.atleast_1d(name)): name for name in published.index}
    value = published.loc[keys[row], column] if row in keys else None
    return None if value is None or np.isnan(value) else float(value)
