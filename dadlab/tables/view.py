"""A table for the eye: published beside measured, the best cells bold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from dadlab.estimates import Estimate
from dadlab.tables.measured import Measured
from dadlab.tables.record import printed_in


def beside(measured: Measured) -> pd.DataFrame:
    """Published and measured side by side: numbers and `Estimate`s, what was trained, and what is missing."""
    published, names = measured.published, [row.name for row in measured.rows]
    lines = []
    for row in measured.rows:
        printed = {name: printed_in(published, row.key, name) for name in published.columns}
        line: dict[tuple[str, str], Any] = {("published", name): value for name, value in printed.items()}
        line |= {("measured", name): measured.estimates.get((row.key, name)) for name in published.columns}
        control = "control" if set(printed.values()) == {None} else ""
        line |= {("", "trained here"): row.what, ("", "remark"): measured.missing.get(row.key, control)}
        lines.append(line)
    index = pd.MultiIndex.from_tuples(names, names=published.index.names)
    frame = pd.DataFrame(lines, index=index if len(names[0]) > 1 else [name[0] for name in names])
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame


def styled(measured: Measured, *, digits: int = 1) -> Styler:
    """`beside` for the eye: measured cells as mean ± half their interval if any, the best of each block bold."""
    frame, lower = beside(measured), measured.published.attrs.get("lower_is_better", [])
    best = best_cells(frame, lower)
    shown = frame.map(lambda cell: cell_text(cell, digits))
    return (
        shown.style.apply(lambda _: best.map(lambda bold: "font-weight: bold" if bold else ""), axis=None)
        .set_properties(**{"text-align": "right", "white-space": "nowrap"})
        .set_caption(f"{measured.published.attrs.get('title', '')} ({measured.published.attrs.get('unit', '')})")
        .set_uuid("t")
    )


def best_cells(frame: pd.DataFrame, lower: Sequence[str]) -> pd.DataFrame:
    """True in the best cell of every column and block; a row alone in its block, as the teacher, does not compete.

    Args:
        frame: numbers or `Estimate`s, a column a (published or measured, name); of two index levels the first is the
            block.
        lower: names of columns in which less is better.
    """
    numbers = frame.map(lambda cell: cell.mean if isinstance(cell, Estimate) else cell)
    blocks = frame.index.get_level_values(0) if frame.index.nlevels > 1 else pd.Index([""] * len(frame))
    best = pd.DataFrame(False, index=frame.index, columns=frame.columns)
    for position, name in enumerate(frame.columns):
        values = pd.to_numeric(numbers.iloc[:, position], errors="coerce").to_numpy(float)
        for block in set(blocks):
            inside = (blocks == block) & ~np.isnan(values)
            if inside.sum() > 1:
                edge = values[inside].min() if name[1] in lower else values[inside].max()
                best.iloc[:, position] |= inside & (values == edge)
    return best


def cell_text(cell: Any, digits: int = 1) -> str:
    """A cell as tables print it: an `Estimate` as mean ± half its interval, a remark as it is, — for nothing.

    An interval whose middle is not the mean has its ends.

    >>> [cell_text(cell) for cell in (Estimate(50.0, 48.0, 52.0), Estimate(50.0), Estimate(0.0, 0.0, 1.8), None)]
    ['50.0 ± 2.0', '50.0', '0.0 [0.0, 1.8]', '—']
    """
    if isinstance(cell, Estimate):
        if not math.isfinite(cell.low):
            return f"{cell.mean:.{digits}f}"
        even = abs((cell.low + cell.high) / 2 - cell.mean) < 0.5 * 10**-digits
        half = f"± {(cell.high - cell.low) / 2:.{digits}f}"
        return f"{cell.mean:.{digits}f} {half if even else f'[{cell.low:.{digits}f}, {cell.high:.{digits}f}]'}"
    if isinstance(cell, str):
        return cell
    return "—" if cell is None or pd.isna(cell) else f"{cell:.{digits}f}"
