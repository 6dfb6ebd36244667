"""Charts of whole tables: published gains against measured ones."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from dadlab.style import COLOURS, LOOKS, styled


@styled
def published_measured(gains: pd.DataFrame, *, by: str = "column", width: float = 4.2) -> Figure:
    """Measured gain against published gain, one point a row and column; on the line they are the same.

    Args:
        gains: from `dadlab.tables.summary.gains`; points with their 95 % intervals.
        by: what marks tell apart: `column`, `row` or `table`.
        width: of the figure, in inches.
    """
    figure, ax = plt.subplots(figsize=(width, 0.8 * width))
    plt.close(figure)
    ax.axhline(0, color=COLOURS["plain"], linewidth=0.8, zorder=0)
    ax.axvline(0, color=COLOURS["plain"], linewidth=0.8, zorder=0)
    reach = [gains[name] for name in ("published", "measured")] if len(gains) else [pd.Series([0.0, 1.0])]
    ends = min(part.min() for part in reach), max(part.max() for part in reach)
    ax.plot(ends, ends, color="#BBBBBB", linewidth=0.8, linestyle=":", zorder=0)
    for place, (name, part) in enumerate(gains.groupby(by, sort=False)):
        marker, colour = LOOKS[place % len(LOOKS)]
        errors = [part["measured"] - part["low"], part["high"] - part["measured"]]
        ax.errorbar(part["published"], part["measured"], yerr=errors, fmt=marker, color=colour, elinewidth=0.8,
                    label=str(name))  # fmt: skip
    ax.set_xlabel("published gain (points)")
    ax.set_ylabel("measured gain (points)")
    if len(gains):
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.3)
    return figure
