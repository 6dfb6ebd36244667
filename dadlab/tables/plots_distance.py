"""Charts against Wasserstein distance: performance against an augmentation's, gains against a shift's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dadlab.plots import Point
from dadlab.style import COLOURS, MARKERS, styled, title_of


@styled
def wasserstein_panels(
    absolute: Mapping[str, Sequence[Point]],
    relative: Mapping[str, Sequence[Point]],
    *,
    on: str,
    reference: str,
    width: float = 7.0,
) -> Figure:
    """Figure 2: accuracy against the distance of a method's augmentation, and gain against the distance of a shift.

    Args:
        absolute: method → a point for each augmentation: its name, its distance, top-1 in per cent.
        relative: method → a point for each shift: its name, its distance, the gain over the reference.
        on: the split of the first panel.
        reference: the method of zero in the second.
        width: of the figure, in inches.
    """
    figure, panels = plt.subplots(1, 2, figsize=(width, 0.42 * width))
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
