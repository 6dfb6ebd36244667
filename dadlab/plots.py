"""Charts of results: gains a shift, gain against distance, accuracy against epsilon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dadlab.estimates import Estimate
from dadlab.profile import Attack
from dadlab.style import COLOURS, COLUMN, KEPT, LOOKS, MARKERS, PAGE, styled, title_of


@styled
def gains(
    found: Mapping[str, Mapping[str, Estimate]],
    *,
    drop: Mapping[str, float],
    reference: str = "kd",
    home: str = "studio",
    loser: str = "plain",
) -> Figure:
    """Gain over a reference method on every shift, with 95 % intervals.

    Args:
        found: method, or anything else by its title, → split → paired difference to the reference, in points.
        drop: split → points that a student of `loser` loses from `home`; sorts the shifts, smallest drop on top.
        reference: the method that zero stands for.
        home: the split in distribution.
        loser: the method whose losses sort the shifts.
    """
    order = sorted(drop, key=lambda split: drop[split])
    figure, ax = plt.subplots(figsize=(4.6, 0.55 + (0.24 + 0.09 * len(found)) * len(order)))
    plt.close(figure)
    ax.axvline(0, color=COLOURS.get(reference, "#8A8A8A"), linewidth=1.2, zorder=0)
    for place, (method, by_split) in enumerate(found.items()):
        shift = min(0.22, 0.8 / len(found)) * (place - (len(found) - 1) / 2)
        estimates = [by_split[split] for split in order]
        means = [e.mean for e in estimates]
        errors = [[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]
        marker, colour = LOOKS[place % len(LOOKS)]
        ax.errorbar(means, np.arange(len(order)) + shift, xerr=errors, marker=MARKERS.get(method, marker),
                    linestyle="none", color=COLOURS.get(method, colour), elinewidth=1.1,
                    label=title_of(method))  # fmt: skip
    ax.set_yticks(
        range(len(order)), [f"{split}  (−{drop[split]:.0f})" if drop[split] > 0.5 else split for split in order]
    )
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_xlabel(
        f"gain over {title_of(reference)} in top-1 points, 95 % interval\n"
        f"in brackets: points that {title_of(loser)} loses there, from its top-1 on {home}"
    )
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if len(found) > 1:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(3, len(found)))
    return figure


class Point(NamedTuple):
    """One test shift in `distance_gain`: its name, its distance from the training split, and the gain there."""

    name: str
    distance: float
    gain: Estimate

    @property
    def gain_range(self) -> tuple[float, float]:
        return self.gain.low, self.gain.high


@styled
def distance_gain(
    series: Mapping[str, Sequence[Point]], *, reference: str = "kd", distance: str = "distance"
) -> Figure:
    """Gain over a reference against the distance of the test shift, a panel a training distribution.

    Args:
        series: title of the panel → points; panels share their axes.
        reference: the method that gains are measured against.
        distance: what the horizontal axis measures, in words.
    """
    size = (PAGE, 0.8 * PAGE / len(series))
    figure, panels = plt.subplots(1, len(series), sharex=True, sharey=True, squeeze=False, figsize=size)
    plt.close(figure)
    for ax, (title, points) in zip(panels[0], series.items(), strict=True):
        ax.axhline(0, color=COLOURS.get(reference, "#8A8A8A"), linewidth=1.2, zorder=0)
        errors = [[p.gain.mean - p.gain.low for p in points], [p.gain.high - p.gain.mean for p in points]]
        ax.errorbar([p.distance for p in points], [p.gain.mean for p in points], yerr=errors, fmt="o",
                    color=COLOURS["dad"], elinewidth=0.9)  # fmt: skip
        ax.set_title(title)
        ax.margins(x=0.16, y=0.1)
    figure.supxlabel(distance, fontsize=8)
    panels[0, 0].set_ylabel(f"gain over {title_of(reference)} (points)")
    for ax, points in zip(panels[0], series.values(), strict=True):
        _label(figure, ax, points)
    return figure


def _label(figure: Figure, ax: Axes, points: Sequence[Point]) -> None:
    """Write each name beside its point, above or below, wherever it covers the least, and draw a line to it."""
    figure.draw_without_rendering()  # settles the layout, so that places can be compared in points on paper
    scale, size = 72 / figure.dpi, 7
    taken = [scale * ax.transData.transform((p.distance, y)) for p in points for y in np.linspace(*p.gain_range, 21)]
    taken += [scale * ax.transAxes.transform((0, y)) for y in np.linspace(0, 1, 60)]  # the left spine
    taken += [scale * ax.get_yaxis_transform().transform((x, 0)) for x in np.linspace(0, 1, 60)]  # the reference
    for point in points:
        wide = 0.6 * size * len(point.name)
        at = scale * ax.transData.transform((point.distance, point.gain.mean))
        sides = [(dx, dy) for dy in (-3, 8, -14, 16, -22) for dx in (5, -5 - wide)]
        places = [*sides, *((-wide / 2, dy) for dy in (12, -18, 22, -28, 32, -38))]
        covered = [
            sum(-3 < x - at[0] - dx < wide + 3 and -3 < y - at[1] - dy < size + 3 for x, y in taken)
            for dx, dy in places
        ]
        dx, dy = places[int(np.argmin(covered))]
        ax.annotate(point.name, (point.distance, point.gain.mean), (dx, dy), textcoords="offset points", fontsize=size,
                    arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0})  # fmt: skip
        taken += [at + np.array((dx + step, dy + up)) for step in np.arange(0, wide, 3) for up in (0, size)]


@styled
def epsilon_curve(
    epsilons: Sequence[float],
    accuracy: Mapping[str, Sequence[Estimate]],
    kept: Sequence[float],
    *,
    attack: Attack,
    image_size: int = 32,
    chosen: float | None = None,
) -> Figure:
    """Accuracy against ε, with the RMS change a pixel that it means, and below it the share of samples kept.

    Args:
        epsilons: radii, increasing; 0 is allowed.
        accuracy: split → top-1 in percent at each radius.
        kept: share of samples the teacher kept at each radius, in [0, 1].
        attack: whose norm the radii are in.
        image_size: side in pixels.
        chosen: radius to mark.
    """
    figure, (ax, below) = plt.subplots(2, sharex=True, figsize=(COLUMN, COLUMN), height_ratios=(3, 1))
    plt.close(figure)
    for (split, estimates), marker, fill in zip(accuracy.items(), "osD^", (None, "white", None, "white"), strict=False):
        means = [e.mean for e in estimates]
        ax.fill_between(epsilons, [e.low for e in estimates], [e.high for e in estimates], color=COLOURS["dad"],
                        alpha=0.12, linewidth=0)  # fmt: skip
        ax.plot(epsilons, means, marker + "-", color=COLOURS["dad"], markerfacecolor=fill, label=split)
    below.plot(epsilons, 100 * np.asarray(kept), "o-", color=KEPT, markersize=3)
    _epsilon_axis(ax, below, epsilons, lambda e: replace(attack, epsilon=e).rms(image_size))
    for panel in (ax, below):
        panel.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        if chosen is not None:
            panel.axvline(chosen, color="#999999", linewidth=0.8, linestyle=":", zorder=0)
    ax.set_ylabel("top-1 (%)")
    below.set_ylabel("kept (%)")
    below.set_ylim(0, 105)
    below.set_xlabel(f"ε ({'L2, all pixels' if attack.norm == 'l2' else 'L∞'})")
    ax.legend(loc="best")
    return figure


def _epsilon_axis(ax: Axes, below: Axes, epsilons: Sequence[float], rms: Callable[[float], float]) -> None:
    """Ticks at the radii on a logarithmic axis that reaches 0, and the RMS change at the same places on top."""
    smallest = min((e for e in epsilons if e > 0), default=1.0)
    top = ax.twiny()
    top.spines["top"].set_visible(True)
    for panel in (ax, top):
        panel.set_xscale("symlog", linthresh=smallest, linscale=0.5)
        panel.set_xlim(
            min(epsilons) - (0.3 * smallest if min(epsilons) == 0 else 0.15 * smallest), 1.15 * max(epsilons)
        )
        panel.minorticks_off()
    below.set_xticks(epsilons, [f"{e:g}" for e in epsilons])
    top.set_xticks(epsilons, [f"{rms(e):.2g}" for e in epsilons])
    top.set_xlabel("RMS change a pixel (1/255)")


@styled
def attack_curves(
    curves: Mapping[str, Mapping[str, Mapping[float, Estimate]]], *, clean: Mapping[str, float]
) -> Figure:
    """Accuracy against ε in L∞, a panel an attack and a line a method, with 95 % intervals.

    Args:
        curves: attack's title → method → ε (increasing, positive) → top-1 in percent.
        clean: method → top-1 without attack, drawn at the left edge.
    """
    figure, axes = plt.subplots(1, len(curves), sharey=True, squeeze=False, figsize=(PAGE, 0.35 * PAGE))
    plt.close(figure)
    for ax, (title, methods) in zip(axes[0], curves.items(), strict=True):
        for method, points in methods.items():
            radii, found = [255 * epsilon for epsilon in points], list(points.values())
            colour, marker = COLOURS.get(method, "#333333"), MARKERS.get(method, "o")
            ax.fill_between(radii, [e.low for e in found], [e.high for e in found], color=colour, alpha=0.15,
                            linewidth=0)  # fmt: skip
            ax.plot(radii, [e.mean for e in found], marker + "-", color=colour, label=title_of(method))
            ax.plot(0.8 * radii[0], clean[method], marker, color=colour, markerfacecolor="white", clip_on=False)
        ticks = sorted({255 * epsilon for points in methods.values() for epsilon in points})
        ax.set_xscale("log", base=2)
        ax.set_xticks([0.8 * ticks[0], *ticks], ["0", *(f"{tick:.2g}" for tick in ticks)])
        ax.minorticks_off()
        ax.set_title(title)
        ax.set_xlabel("ε (L∞, 1/255)")
        ax.set_ylim(0, 100)
        ax.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes[0, 0].set_ylabel("top-1 under attack (%)")
    axes[0, -1].legend(loc="best")
    return figure
