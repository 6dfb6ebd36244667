"""Charts of an audit: accuracy away from home against that at home, and where a student may decline to answer."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dadlab.style import COLOURS, MARKERS, styled, title_of
from dadlab.tables.reliability import baseline_line, expected_away


@styled
def robustness_and_trust(
    audited: pd.DataFrame, baseline: pd.DataFrame, declined: pd.DataFrame, home: str, *, width: float = 9.0
) -> Figure:
    """A column a split away from home: above, its accuracy against that at home, a mark a seed, with the line of plain
    students; below, the accuracy on the photographs that a student is surest of, against their share.

    Args:
        audited: `method`, `seed`, `split`, `top-1` in per cent, as from `dadlab.tables.audit.audit`.
        baseline: the same of the line's students.
        declined: `method`, `split`, `coverage` in (0, 1], `top-1`, as from `dadlab.tables.audit.coverage_curves`.
        home: the split in distribution.
        width: of the figure, in inches.
    """
    away = [split for split in audited["split"].unique() if split != home]
    size = (width, 1.5 * width / max(3, len(away)) + 0.7)
    figure, panels = plt.subplots(2, len(away), figsize=size, sharex="row", squeeze=False)
    plt.close(figure)
    for split, (above, below) in zip(away, panels.T, strict=True):
        _line(above, baseline, home, split)
        for method, part in audited.groupby("method", sort=False):
            pivot = part.pivot(index="seed", columns="split", values="top-1")
            looks = {"color": COLOURS.get(str(method), "#333333"), "label": title_of(str(method))}
            above.plot(
                pivot[home], pivot[split], linestyle="none", marker=MARKERS.get(str(method), "o"), alpha=0.8, **looks
            )
            curve = declined[(declined["method"] == method) & (declined["split"] == split)].sort_values("coverage")
            below.plot(100 * curve["coverage"], curve["top-1"], **looks)
        above.set_title(split)
        above.grid(color="#E8E8E8", linewidth=0.5)
        below.grid(color="#E8E8E8", linewidth=0.5)
        below.set_xlim(0, 102)
    panels[0, 0].set_ylabel("top-1 there (%)")
    panels[1, 0].set_ylabel("top-1 of those kept (%)")
    figure.supxlabel(f"above: top-1 on {home} (%); below: photographs kept, the surest first (%)", fontsize=8)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _line(ax: Axes, baseline: pd.DataFrame, home: str, split: str) -> None:
    """Students without interventions and, where they are two or more, the line through them."""
    known = baseline.pivot(index=["method", "seed"], columns="split", values="top-1")
    ax.plot(known[home], known[split], ".", color="#BBBBBB", label="plain, other lengths", zorder=0)
    inside = ((known[[home, split]] > 0) & (known[[home, split]] < 100)).all(axis=None)
    if inside and known[home].nunique() > 1:
        along = np.linspace(known[home].min(), max(known[home].max(), ax.get_xlim()[1]))
        line = baseline_line(known[home], known[split])
        ax.plot(along, expected_away(along.tolist(), line), color="#BBBBBB", linewidth=1.0, zorder=0)
