"""Charts of the first paper's tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dadlab.plots import Point
from dadlab.style import COLOURS, LOOKS, MARKERS, PAGE, styled, title_of
from dadlab.tables.reliability import baseline_line, expected_away

ACROSS = 3  # panels in a line


@styled
def published_measured(gains: pd.DataFrame) -> Figure:
    """Measured gain against published gain, one point a row and a mark a column; on the line they are the same.

    Args:
        gains: from `dadlab.tables.summary.gains`; points with their 95 % intervals.
    """
    figure, ax = plt.subplots(figsize=(4.2, 0.8 * 4.2))
    plt.close(figure)
    _points(ax, gains, _looks(gains["column"]))
    ax.set_xlabel("published gain (points)")
    ax.set_ylabel("measured gain (points)")
    if len(gains):
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.3)
    return figure


@styled
def published_measured_each(gains: pd.DataFrame) -> Figure:
    """`published_measured` of many tables, a panel each on axes of its own; marks tell columns apart in all alike.

    Args:
        gains: from `dadlab.tables.summary.all_gains`, with the tables' names as they are to be printed.
    """
    tables, looks = list(gains["table"].unique()), _looks(gains["column"])
    lines = max(1, -(-len(tables) // ACROSS))
    figure, panels = plt.subplots(lines, ACROSS, squeeze=False, figsize=(8.4, 2.5 * lines + 0.5))
    plt.close(figure)
    for ax, table in zip(panels.flat, tables, strict=False):
        _points(ax, gains[gains["table"] == table], looks)
        ax.set_title(table)
    for ax in panels.flat[len(tables) :]:
        ax.axis("off")
    figure.supxlabel("published gain (points)", fontsize=8)
    figure.supylabel("measured gain (points)", fontsize=8)
    drawn = {name: mark for ax in panels.flat for mark, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=8, handletextpad=0.3)
    return figure


def _looks(names: pd.Series) -> dict[str, tuple[str, str]]:
    """Name → marker and colour, in order of appearance."""
    return {str(name): LOOKS[place % len(LOOKS)] for place, name in enumerate(names.unique())}


def _points(ax: Axes, gains: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    ax.axhline(0, color=COLOURS["plain"], linewidth=0.8, zorder=0)
    ax.axvline(0, color=COLOURS["plain"], linewidth=0.8, zorder=0)
    reach = [gains[name] for name in ("published", "measured")] if len(gains) else [pd.Series([0.0, 1.0])]
    ends = min(part.min() for part in reach), max(part.max() for part in reach)
    ax.plot(ends, ends, color="#BBBBBB", linewidth=0.8, linestyle=":", zorder=0)
    for name, part in gains.groupby("column", sort=False):
        marker, colour = looks[str(name)]
        errors = [part["measured"] - part["low"], part["high"] - part["measured"]]
        ax.errorbar(part["published"], part["measured"], yerr=errors, fmt=marker, color=colour, elinewidth=0.8,
                    alpha=0.7, label=str(name))  # fmt: skip


@styled
def wasserstein_panels(
    absolute: Mapping[str, Sequence[Point]],
    relative: Mapping[str, Sequence[Point]],
    *,
    on: str,
    reference: str,
) -> Figure:
    """Figure 2: accuracy against the distance of a method's augmentation, and gain against the distance of a shift.

    Args:
        absolute: method → a point for each augmentation: its name, its distance, top-1 in per cent.
        relative: method → a point for each shift: its name, its distance, the gain over the reference.
        on: the split of the first panel.
        reference: the method of zero in the second.
    """
    figure, panels = plt.subplots(1, 2, figsize=(PAGE, 0.42 * PAGE))
    plt.close(figure)
    for ax, series in zip(panels, (absolute, relative), strict=True):
        for method, points in series.items():
            ordered = sorted(points, key=lambda point: point.distance)
            means = [p.gain.mean for p in ordered]
            errors = [[p.gain.mean - p.gain.low for p in ordered], [p.gain.high - p.gain.mean for p in ordered]]
            ax.errorbar([p.distance for p in ordered], means, yerr=errors, label=title_of(method), elinewidth=0.8,
                        color=COLOURS.get(method, "#333333"), marker=MARKERS.get(method, "o"),
                        linestyle="none")  # fmt: skip
            if ax is panels[0]:
                ax.plot([p.distance for p in ordered], means, color=COLOURS.get(method, "#333333"), linewidth=0.7)
        places = {point.name: point.distance for points in series.values() for point in points}
        above = ax.secondary_xaxis("top")
        above.set_xticks(
            list(places.values()), list(places), rotation=45, ha="left", rotation_mode="anchor", fontsize=7
        )
        for distance in places.values():
            ax.axvline(distance, color="#DDDDDD", linewidth=0.6, zorder=0)
        ax.margins(x=0.1, y=0.1)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, handletextpad=0.3)
    panels[0].set(xlabel="distance of the augmentation from training images", ylabel=f"top-1 on {on} (%)")
    panels[1].axhline(0, color=COLOURS.get(reference, "#8A8A8A"), linewidth=1.0, zorder=0)
    panels[1].set(
        xlabel="distance of the shift from training images", ylabel=f"gain over {title_of(reference)} (points)"
    )
    return figure


@styled
def robustness_and_trust(audited: pd.DataFrame, baseline: pd.DataFrame, declined: pd.DataFrame, home: str) -> Figure:
    """A column a split away from home: above, its accuracy against that at home, a mark a seed, with the line of plain
    students; below, the accuracy on the photographs that a student is surest of, against their share.

    Args:
        audited: `method`, `seed`, `split`, `top-1` in per cent, as from `dadlab.tables.audit.audit`.
        baseline: the same of the line's students.
        declined: `method`, `split`, `coverage` in (0, 1], `top-1`, as from `dadlab.tables.audit.coverage_curves`.
        home: the split in distribution.
    """
    away = [split for split in audited["split"].unique() if split != home]
    size = (9.0, 13.5 / max(3, len(away)) + 0.7)
    figure, panels = plt.subplots(2, len(away), figsize=size, sharex="row", squeeze=False)
    plt.close(figure)
    for split, (above, below) in zip(away, panels.T, strict=True):
        _plain_line(above, baseline, home, split)
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


def _plain_line(ax: Axes, baseline: pd.DataFrame, home: str, split: str) -> None:
    """Students without interventions and, where they are two or more, the line through them."""
    known = baseline.pivot(index=["method", "seed"], columns="split", values="top-1")
    ax.plot(known[home], known[split], ".", color="#BBBBBB", label="plain, other lengths", zorder=0)
    inside = ((known[[home, split]] > 0) & (known[[home, split]] < 100)).all(axis=None)
    if inside and known[home].nunique() > 1:
        along = np.linspace(known[home].min(), max(known[home].max(), ax.get_xlim()[1]))
        line = baseline_line(known[home], known[split])
        ax.plot(along, expected_away(along.tolist(), line), color="#BBBBBB", linewidth=1.0, zorder=0)
