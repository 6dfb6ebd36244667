"""Figures: one look for every notebook, one colour for every method.

Colours are Okabe and Ito's, which the common kinds of colour blindness keep apart; markers differ as well, so that
print in grey is read too. Widths are a page's or a column's (7 in, 3.3 in). Every function takes data and returns a
`Figure` that pyplot has already let go: a notebook shows it once, a script saves it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, ParamSpec

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor

from dadlab.generate import Made
from dadlab.methods import METHODS
from dadlab.profile import Attack
from dadlab.results import Estimate
from dadlab.store import REASONS

_P = ParamSpec("_P")
COLOURS = {
    "teacher": "#000000",
    "plain": "#8A8A8A",
    "kd": "#E69F00",
    "kd_two_views": "#CC79A7",
    "dad_q": "#56B4E9",
    "dad": "#0072B2",
}
MARKERS = {"teacher": "*", "plain": "v", "kd": "s", "kd_two_views": "D", "dad_q": "^", "dad": "o"}
KEPT, REJECTED = "#009E73", "#D55E00"
STYLE: Any = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "image.interpolation": "nearest",
}


def _styled(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Draw in the house style and leave matplotlib's own as it was."""

    @functools.wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def title_of(method: str) -> str:
    """A method's name as figures and tables print it."""
    return METHODS[method].title if method in METHODS else method


@_styled
def image_grid(
    rows: Sequence[Tensor], *, titles: Sequence[str], captions: Sequence[str] = (), width: float = 7.0
) -> Figure:
    """Rows of images, a title left of each row and a caption above each column.

    Args:
        rows: each (N, 3, H, W) in [0, 1], all of one shape.
        titles: one a row.
        captions: one a column, or none.
        width: of the figure, in inches, at most; an image is never wider than 0.8.
    """
    margin, cell = 0.9, min(0.8, (width - 0.9) / len(rows[0]))
    width, height = margin + cell * len(rows[0]), cell * len(rows) + 0.22
    figure, ax = _canvas(width, height)
    for r, (images, title) in enumerate(zip(rows, titles, strict=True)):
        bottom = height - 0.22 - (r + 1) * cell
        ax.text(margin - 0.08, bottom + cell / 2, title, ha="right", va="center")
        for c, image in enumerate(images):
            _thumbnail(ax, image, margin + c * cell, bottom, 0.95 * cell)
    for c, caption in enumerate(captions):
        ax.text(margin + (c + 0.475) * cell, height - 0.18, caption, ha="center", va="bottom")
    return figure


@_styled
def stages(
    made: Made,
    classes: Sequence[str],
    labels: Tensor,
    probabilities: Sequence[Tensor],
    *,
    amplify: float | None = None,
    width: float = 7.0,
) -> Figure:
    """x, Q(x), x′ − Q(x), x′, Q(x′) of each sample, with what the teacher makes of them.

    Args:
        made: the samples, from `dadlab.generate.discretize_adversarially`.
        classes: class names.
        labels: y (B,).
        probabilities: the teacher's, (B, C), of x, Q(x), x′ and Q(x′).
        amplify: factor on the difference, which is drawn around mid-grey; one that suits its size unless told.
        width: of the figure, in inches; samples stand in two blocks.
    """
    amplify = visible_factor(made) if amplify is None else amplify
    blocks = 2 if len(labels) > 1 else 1
    lines = -(-len(labels) // blocks)
    block = width / 2
    cell = (block - 0.4) / 5
    height = 0.3 + lines * (cell + 0.3)
    figure, ax = _canvas(block * blocks, height)
    heads = ("x", "Q(x)", "x′−Q(x)" if amplify == 1 else f"{amplify:g}·(x′−Q(x))", "x′", "Q(x′)")
    difference = (0.5 + amplify * (made.perturbed - made.reconstructed)).clamp(0, 1)
    columns = (made.clean, made.reconstructed, difference, made.perturbed, made.images)
    said: list[Tensor | None] = [*probabilities[:2], None, *probabilities[2:]]
    for sample, label in enumerate(labels.tolist()):
        left, top = block * (sample // lines) + 0.25, height - 0.25 - (sample % lines) * (cell + 0.3)
        ax.text(left - 0.06, top - cell / 2, classes[label], rotation=90, ha="right", va="center")
        for c, (images, head, shares) in enumerate(zip(columns, heads, said, strict=True)):
            x = left + c * cell
            if sample % lines == 0:
                ax.text(x + 0.47 * cell, top + 0.06, head, ha="center", va="bottom", fontsize=7 if c == 2 else 8)
            _thumbnail(ax, images[sample], x, top - 0.94 * cell, 0.94 * cell)
            if shares is not None:
                share = f"{float(shares[sample, label]):.2f}"
                ax.text(x + 0.47 * cell, top - cell, share, ha="center", va="top", fontsize=7)
        _verdict(ax, int(made.reason[sample]), left + 4 * cell, top - 0.94 * cell, 0.94 * cell)
    return figure


def visible_factor(made: Made) -> float:
    """Whole factor, at least 1, that makes x′ − Q(x) plain to see around mid-grey without clipping most of it."""
    rms = float((made.perturbed - made.reconstructed).square().mean().sqrt())
    return max(1.0, round(0.15 / max(rms, 1e-3)))


def _verdict(ax: Axes, reason: int, x: float, y: float, size: float) -> None:
    """Frame Q(x′) and mark it kept, or rejected and why."""
    colour = REJECTED if reason else KEPT
    ax.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=colour, linewidth=1.6))
    text = f"✗ {REASONS[reason]}" if reason else "✓ kept"
    ax.text(x + size, y - 0.15, text, ha="right", va="top", fontsize=7, color=colour)


class Step(NamedTuple):
    """A picture of the method diagram: the image, its name, and a line below."""

    image: Tensor
    name: str
    note: str


@_styled
def method_diagram(
    made: Made, classes: Sequence[str], labels: Tensor, probabilities: Sequence[Tensor], *, sample: int = 0
) -> Figure:
    """What DAD is in one picture, drawn from a real sample.

    Args:
        made: samples, from `dadlab.generate.discretize_adversarially`.
        classes: class names.
        labels: y (B,).
        probabilities: the teacher's, (B, C), of x, Q(x), x′ and Q(x′).
        sample: which of them to draw.
    """
    label, factor = int(labels[sample]), visible_factor(made)
    offset = (0.5 + factor * (made.perturbed[sample] - made.reconstructed[sample])).clamp(0, 1)
    shares = [f"φ: {100 * float(p[sample, label]):.0f} % {classes[label]}" for p in probabilities]
    steps = (
        Step(made.clean[sample], "photograph x", shares[0]),
        Step(made.reconstructed[sample], "Q(x)", shares[1]),
        Step(offset, "attack on φ", "uphill on φ's loss" + (f", ×{factor:g}" if factor > 1 else "")),
        Step(made.perturbed[sample], "x′", shares[2]),
        Step(made.images[sample], "Q(x′)", shares[3]),
    )
    size, gap, bottom = 0.86, 0.36, 0.98
    figure, ax = _canvas(7.0, 2.1)
    left = [0.12 + k * (size + gap) for k in range(len(steps))]
    for x, step in zip(left, steps, strict=True):
        _thumbnail(ax, step.image, x, bottom, size)
        ax.text(x + size / 2, bottom + size + 0.06, step.name, ha="center", va="bottom", fontsize=9)
        ax.text(x + size / 2, bottom - 0.05, step.note, ha="center", va="top", fontsize=7, color="#444444")
    for x, sign in zip(left, ("Q", "+", "=", "Q"), strict=False):
        _sign(ax, x + size, x + size + gap, bottom + size / 2, sign)
    _box(ax, 6.18, bottom + 0.08, 0.78, size - 0.16, f"kept if φ\nstill says\n{classes[label]}", KEPT)
    _arrow(ax, (left[4] + size + 0.03, bottom + size / 2), (6.16, bottom + size / 2))
    _box(ax, 1.75, 0.06, 3.5, 0.5, "student θ:  on x it learns y and φ(x);  on Q(x′), φ(Q(x′))", COLOURS["dad"])
    _arrow(ax, (left[0] + size / 2, bottom - 0.22), (1.73, 0.31), bend="angle,angleA=90,angleB=0,rad=4")
    _arrow(ax, (6.57, bottom + 0.06), (5.27, 0.31), bend="angle,angleA=90,angleB=0,rad=4")
    return figure


def _sign(ax: Axes, start: float, end: float, y: float, sign: str) -> None:
    if sign == "Q":
        _arrow(ax, (start + 0.03, y), (end - 0.03, y))
        ax.text((start + end) / 2, y + 0.05, sign, ha="center", va="bottom", fontsize=9, style="italic")
    else:
        ax.text((start + end) / 2, y, sign, ha="center", va="center", fontsize=14)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: str = "arc3") -> None:
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=8, linewidth=1, connectionstyle=bend, color="#333333",
            shrinkA=0, shrinkB=0,
        )
    )  # fmt: skip


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    shape = FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.08", facecolor="white", edgecolor=colour)
    ax.add_patch(shape)
    shape.set_linewidth(1.4)
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", linespacing=1.3)


@_styled
def gains(
    found: Mapping[str, Mapping[str, Estimate]],
    *,
    drop: Mapping[str, float],
    reference: str = "kd",
    width: float = 4.6,
) -> Figure:
    """Gain over a reference method on every shift, with 95 % intervals.

    Args:
        found: method → split → paired difference to the reference, in points.
        drop: split → points that the plain student loses from `studio`; sorts the shifts, smallest drop on top.
        reference: the method that zero stands for.
        width: of the figure, in inches.
    """
    order = sorted(drop, key=lambda split: drop[split])
    figure, ax = plt.subplots(figsize=(width, 0.55 + (0.24 + 0.09 * len(found)) * len(order)))
    plt.close(figure)
    ax.axvline(0, color=COLOURS[reference], linewidth=1.2, zorder=0)
    for place, (method, by_split) in enumerate(found.items()):
        shift = 0.22 * (place - (len(found) - 1) / 2)
        estimates = [by_split[split] for split in order]
        means = [e.mean for e in estimates]
        errors = [[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]
        ax.errorbar(means, np.arange(len(order)) + shift, xerr=errors, fmt=MARKERS.get(method, "o"),
                    color=COLOURS.get(method, "#333333"), elinewidth=1.1, label=title_of(method))  # fmt: skip
    ax.set_yticks(
        range(len(order)), [f"{split}  (−{drop[split]:.0f})" if drop[split] > 0.5 else split for split in order]
    )
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_xlabel(f"gain over {title_of(reference)} in top-1 points, 95 % interval")
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if len(found) > 1:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(found))
    return figure


class Point(NamedTuple):
    """One test shift in `distance_gain`: its name, its distance from the training split, and the gain there."""

    name: str
    distance: float
    gain: Estimate

    @property
    def gain_range(self) -> tuple[float, float]:
        return self.gain.low, self.gain.high


@_styled
def distance_gain(
    series: Mapping[str, Sequence[Point]], *, reference: str = "kd", distance: str = "distance", width: float = 3.3
) -> Figure:
    """Gain over a reference against the distance of the test shift, one series a training distribution.

    Args:
        series: title → points; the first series is drawn filled and labelled, the second hollow; a line joins a shift's
            two points.
        reference: the method that gains are measured against.
        distance: what the horizontal axis measures, in words.
        width: of the figure, in inches.
    """
    figure, ax = plt.subplots(figsize=(width, 0.8 * width))
    plt.close(figure)
    ax.axhline(0, color=COLOURS[reference], linewidth=1.2, zorder=0)
    looks = (("o", COLOURS["dad"], COLOURS["dad"]), ("s", COLOURS["dad_q"], "white"))
    for (title, points), (marker, colour, fill) in zip(series.items(), looks, strict=False):
        errors = [[p.gain.mean - p.gain.low for p in points], [p.gain.high - p.gain.mean for p in points]]
        ax.errorbar([p.distance for p in points], [p.gain.mean for p in points], yerr=errors, fmt=marker, color=colour,
                    markerfacecolor=fill, elinewidth=0.9, label=title)  # fmt: skip
    ax.set_xlabel(distance)
    ax.set_ylabel(f"gain over {title_of(reference)} (points)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.3)
    ax.margins(x=0.12, y=0.1)
    everything = [p for points in series.values() for p in points]
    for name in {p.name for p in everything}:
        pair = [p for p in everything if p.name == name]
        ax.plot([p.distance for p in pair], [p.gain.mean for p in pair], color="#BBBBBB", linewidth=0.7, zorder=0.5)
    _label(figure, ax, list({p.name: p for p in reversed(everything)}.values()), everything)
    return figure


def _label(figure: Figure, ax: Axes, points: Sequence[Point], marked: Sequence[Point]) -> None:
    """Write each name right of its point, or left, above or below, wherever it covers the least."""
    figure.draw_without_rendering()  # settles the layout, so that places can be compared in points on paper
    scale, size = 72 / figure.dpi, 7
    taken = [scale * ax.transData.transform((p.distance, y)) for p in marked for y in np.linspace(*p.gain_range, 7)]
    taken += [scale * ax.transAxes.transform((0, y)) for y in np.linspace(0, 1, 60)]  # the left spine
    for point in points:
        wide = 0.6 * size * len(point.name)
        at = scale * ax.transData.transform((point.distance, point.gain.mean))
        places = [(5, -3), (-5 - wide, -3), (-wide / 2, 12), (-wide / 2, -18), (5, 8), (-5 - wide, 8), (5, -14)]
        covered = [
            sum(-3 < x - at[0] - dx < wide + 3 and -3 < y - at[1] - dy < size + 3 for x, y in taken)
            for dx, dy in places
        ]
        dx, dy = places[int(np.argmin(covered))]
        ax.annotate(point.name, (point.distance, point.gain.mean), (dx, dy), textcoords="offset points", fontsize=size)
        taken += [at + np.array((dx + step, dy + size / 2)) for step in np.arange(0, wide, 3)]


@_styled
def epsilon_curve(
    epsilons: Sequence[float],
    accuracy: Mapping[str, Sequence[Estimate]],
    kept: Sequence[float],
    *,
    attack: Attack,
    image_size: int = 32,
    chosen: float | None = None,
    width: float = 3.3,
) -> Figure:
    """Accuracy against ε, with the RMS change a pixel that it means, and below it the share of samples kept.

    Args:
        epsilons: radii, increasing; 0 is allowed.
        accuracy: split → top-1 in percent at each radius.
        kept: share of samples the teacher kept at each radius, in [0, 1].
        attack: whose norm the radii are in.
        image_size: side in pixels.
        chosen: radius to mark.
        width: of the figure, in inches.
    """
    figure, (ax, below) = plt.subplots(2, sharex=True, figsize=(width, width), height_ratios=(3, 1))
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


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without axes whose data coordinates are inches."""
    figure = plt.figure(figsize=(width, height), layout="none")
    plt.close(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return figure, ax


def _thumbnail(ax: Axes, image: Tensor, x: float, y: float, size: float) -> None:
    pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    ax.imshow(pixels, extent=(x, x + size, y, y + size), interpolation="nearest", aspect="auto", zorder=1)
