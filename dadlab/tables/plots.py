"""Charts of whole tables: published gains against measured ones."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dadlab.style import COLOURS, LOOKS, styled

ACROSS = 3  # panels in a line


@styled
def published_measured(gains: pd.DataFrame, *, by: str = "column", width: float = 4.2) -> Figure:
    """Measured gain against published gain, one point a row and column; on the line they are the same.

    Args:
        gains: from `dadlab.tables.summary.gains`; points with their 95 % intervals.
        by: what marks tell apart: `column` or `row`.
        width: of the figure, in inches.
    """
    figure, ax = plt.subplots(figsize=(width, 0.8 * width))
    plt.close(figure)
    _points(ax, gains, by, _looks(gains[by]))
    ax.set_xlabel("published gain (points)")
    ax.set_ylabel("measured gain (points)")
    if len(gains):
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.3)
    return figure


@styled
def published_measured_each(gains: pd.DataFrame, *, width: float = 8.4) -> Figure:
    """`published_measured` of many tables, a panel each on axes of its own; marks tell columns apart in all alike.

    Args:
        gains: from `dadlab.tables.summary.all_gains`, with the tables' names as they are to be printed.
        width: of the figure, in inches.
    """
    tables, looks = list(gains["table"].unique()), _looks(gains["column"])
    lines = max(1, -(-len(tables) // ACROSS))
    figure, panels = plt.subplots(lines, ACROSS, squeeze=False, figsize=(width, 0.3 * width * lines + 0.5))
    plt.close(figure)
    for ax, table in zip(panels.flat, tables, strict=False):
        _points(ax, gains[gains["table"] == table], "column", looks)
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


def _points(ax: Axes, gains: pd.DataFrame, by: str, looks: dict[str, tuple[str, str]]) -> None:
    ax.axhline(0, color=COLOURS["plain"], linewidth=0.8, zorder=0)
    ax.axvline(0, color=COLOURS["plain"], linewidth=0.8, zorder=0)
    reach = [gains[name] for name in ("published", "measured")] if len(gains) else [pd.Series([0.0, 1.0])]
    ends = min(part.min() for part in reach), max(part.max() for part in reach)
    ax.plot(ends, ends, color="#BBBBBB", linewidth=0.8, linestyle=":", zorder=0)
    for name, part in gains.groupby(by, sort=False):
        marker, colour = looks[str(name)]
        errors = [part["measured"] - part["low"], part["high"] - part["measured"]]
        ax.errorbar(part["published"], part["measured"], yerr=errors, fmt=marker, color=colour, elinewidth=0.8,
                    alpha=0.7, label=str(name))  # fmt: skip
