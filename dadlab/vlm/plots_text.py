"""Charts of text features: eigenvalue spectra, cosines of all pairs, accuracy a kind of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from dadlab.style import PAGE, styled
from dadlab.tables.published import TABLES_VLM, load_table
from dadlab.vlm.spectrum import effective_rank, pairwise_cosines, singular_values

COLOURS = ("#8A8A8A", "#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9", "#882255", "#999933", "#000000")
MARKERS = "osD^v<>Pp*"
BINS = 24
_MEANS = {"id": "seen labels", "ood": "unseen labels", "val": "seen labels, for choices"}


@styled
def spectra(features: Mapping[str, Tensor], *, top: int = 10) -> Figure:
    """The largest σ and σ² of mean-centred features, with the effective rank of the whole spectrum in the legend.

    Args:
        features: title → (N, D), at most ten.
        top: values to draw, as many as there are at most.

    Raises:
        ValueError: more than can be told apart.
    """
    _check(features)
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 0.5 * PAGE))
    plt.close(figure)
    sigma = {title: singular_values(found) for title, found in features.items()}
    for ax, name, power in zip(axes, ("σ", "σ²"), (1, 2), strict=True):
        ranked = {f"{title}, {effective_rank(found**power):.1f}": found**power for title, found in sigma.items()}
        _curves(ax, {title: found[:top].tolist() for title, found in ranked.items()}, name)
        ax.legend(title=f"effective rank of {name}", loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return figure


@styled
def published_spectra() -> Figure:
    """Fig. 4 of the second paper, as it can be read from the page."""
    table = load_table("Fig. 4", TABLES_VLM)
    figure, ax = plt.subplots(figsize=(3.4, 2.72))
    plt.close(figure)
    _curves(ax, {str(title): row.tolist() for title, row in table.iterrows()}, "value (σ or σ², not stated)")
    ax.legend()
    return figure


def _check(features: Mapping[str, Tensor]) -> None:
    if len(features) > len(COLOURS):
        raise ValueError(f"{len(features)} kinds of text: {len(COLOURS)} at most can be told apart in one figure")


def _curves(ax: Axes, values: Mapping[str, Sequence[float]], name: str) -> None:
    for (title, shown), colour, marker in zip(values.items(), COLOURS, MARKERS, strict=False):
        ax.plot(range(1, len(shown) + 1), shown, f"{marker}-", color=colour, label=title)
    ax.set_xlabel("component")
    ax.set_ylabel(name)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", color="#8A8A8A", linewidth=0.4, alpha=0.5)
    ax.set_axisbelow(True)
    ax.set_ylim(bottom=0)


@styled
def cosines(features: Mapping[str, Tensor]) -> Figure:
    """How the cosines of all pairs are distributed, in `BINS` equal bins for all texts; means as dotted lines.

    Shares are drawn as lines through the bins' middles, since bars of several texts would hide each other.

    Args:
        features: title → (N, D), at most ten.

    Raises:
        ValueError: more than can be told apart.
    """
    _check(features)
    found = {title: pairwise_cosines(values).numpy() for title, values in features.items()}
    every = np.concatenate(list(found.values()))
    edges = np.linspace(every.min(), every.max() + 1e-6, BINS + 1)
    figure, ax = plt.subplots(figsize=(6.0, 2.52))
    plt.close(figure)
    for (title, values), colour, marker in zip(found.items(), COLOURS, MARKERS, strict=False):
        share = 100 * np.histogram(values, edges)[0] / len(values)
        name = f"{title}, mean {values.mean():.3f}"
        ax.plot((edges[:-1] + edges[1:]) / 2, share, f"{marker}-", color=colour, markersize=3, label=name)
        ax.axvline(values.mean(), color=colour, linewidth=0.9, linestyle=":")
    ax.set_xlabel("cosine of two labels")
    ax.set_ylabel("pairs (%)")
    ax.set_ylim(bottom=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def accuracies(rows: Sequence[Mapping[str, Any]], *, chance: float) -> Figure:
    """Accuracy of every kind of text with its 95 % interval, a panel a split and a group a naming.

    Args:
        rows: of `dadlab.vlm.enrichment.tabulate`.
        chance: accuracy of guessing, in percent.
    """
    splits, namings, kinds = (list(dict.fromkeys(row[key] for row in rows)) for key in ("split", "naming", "text"))
    figure, axes = plt.subplots(1, len(splits), figsize=(PAGE, 0.36 * PAGE), sharey=True, squeeze=False)
    plt.close(figure)
    for ax, split in zip(axes[0], splits, strict=True):
        ax.axhline(chance, color="#999999", linewidth=0.8, linestyle=":", label="chance")
        for place, (kind, colour, marker) in enumerate(zip(kinds, COLOURS, MARKERS, strict=False)):
            by_naming = {row["naming"]: row["accuracy"] for row in rows if (row["split"], row["text"]) == (split, kind)}
            means = [by_naming[naming]["mean"] for naming in namings]
            below = [by_naming[naming]["mean"] - by_naming[naming]["low"] for naming in namings]
            above = [by_naming[naming]["high"] - by_naming[naming]["mean"] for naming in namings]
            at = np.arange(len(namings)) + 0.16 * (place - (len(kinds) - 1) / 2)
            ax.errorbar(at, means, yerr=[below, above], fmt=marker, color=colour, elinewidth=1.1, label=kind)
        ax.set_xticks(range(len(namings)), [f"{naming} names" for naming in namings])
        ax.set_xlim(-0.6, len(namings) - 0.4)
        ax.set_title(f"{split}: {_MEANS.get(split, split)}")
        ax.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        ax.set_axisbelow(True)
    axes[0, 0].set_ylabel("mean per-class accuracy (%)")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
