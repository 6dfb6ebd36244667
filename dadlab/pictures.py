"""Pictures made of images: grids, the stages of DAD samples."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dadlab.examples import Made
from dadlab.store import REASONS
from dadlab.style import KEPT, PAGE, REJECTED, styled


@styled
def image_grid(rows: Sequence[Tensor], *, titles: Sequence[str], captions: Sequence[str] = ()) -> Figure:
    """Rows of images at most 0.8 inches wide, a title left of each row and a caption above each column.

    Args:
        rows: each (N, 3, H, W) in [0, 1], all of one shape.
        titles: one a row.
        captions: one a column, or none.
    """
    margin, cell = 0.9, min(0.8, (PAGE - 0.9) / len(rows[0]))
    width, height = margin + cell * len(rows[0]), cell * len(rows) + 0.22
    figure, ax = canvas(width, height)
    for r, (images, title) in enumerate(zip(rows, titles, strict=True)):
        bottom = height - 0.22 - (r + 1) * cell
        ax.text(margin - 0.08, bottom + cell / 2, title, ha="right", va="center")
        for c, image in enumerate(images):
            thumbnail(ax, image, margin + c * cell, bottom, 0.95 * cell)
    for c, caption in enumerate(captions):
        ax.text(margin + (c + 0.475) * cell, height - 0.18, caption, ha="center", va="bottom")
    return figure


@styled
def stages(
    made: Made,
    classes: Sequence[str],
    labels: Tensor,
    probabilities: Sequence[Tensor],
    *,
    amplify: float | None = None,
) -> Figure:
    """x, Q(x), x′ − Q(x), x′, Q(x′) of each sample, in two blocks, with what the teacher makes of them.

    Args:
        made: the samples, from `dadlab.examples.discretize_adversarially`.
        classes: class names.
        labels: y (B,).
        probabilities: the teacher's, (B, C), of x, Q(x), x′ and Q(x′).
        amplify: factor on the difference, which is drawn around mid-grey; one that suits its size unless told.
    """
    difference = made.perturbed - made.reconstructed
    amplify = plain_to_see(difference) if amplify is None else amplify
    blocks = 2 if len(labels) > 1 else 1
    lines = -(-len(labels) // blocks)
    block = PAGE / 2
    cell = (block - 0.4) / 5
    height = 0.3 + lines * (cell + 0.3)
    figure, ax = canvas(block * blocks, height)
    heads = ("x", "Q(x)", "x′−Q(x)" if amplify == 1 else f"{amplify:g}·(x′−Q(x))", "x′", "Q(x′)")
    columns = (made.clean, made.reconstructed, (0.5 + amplify * difference).clamp(0, 1), made.perturbed, made.images)
    said: list[Tensor | None] = [*probabilities[:2], None, *probabilities[2:]]
    for sample, label in enumerate(labels.tolist()):
        left, top = block * (sample // lines) + 0.25, height - 0.25 - (sample % lines) * (cell + 0.3)
        ax.text(left - 0.06, top - cell / 2, classes[label], rotation=90, ha="right", va="center")
        for c, (images, head, shares) in enumerate(zip(columns, heads, said, strict=True)):
            x = left + c * cell
            if sample % lines == 0:
                ax.text(x + 0.47 * cell, top + 0.06, head, ha="center", va="bottom", fontsize=7 if c == 2 else 8)
            thumbnail(ax, images[sample], x, top - 0.94 * cell, 0.94 * cell)
            if shares is not None:
                share = f"{float(shares[sample, label]):.2f}"
                ax.text(x + 0.47 * cell, top - cell, share, ha="center", va="top", fontsize=7)
        _verdict(ax, int(made.reason[sample]), left + 4 * cell, top - 0.94 * cell, 0.94 * cell)
    return figure


def plain_to_see(difference: Tensor) -> float:
    """Whole factor, at least 1, that brings a difference to an RMS of about 0.15, but never above 150."""
    rms = float(difference.square().mean().sqrt())
    return max(1.0, round(0.15 / max(rms, 1e-3)))


def _verdict(ax: Axes, reason: int, x: float, y: float, size: float) -> None:
    """Frame Q(x′) and mark it kept, or rejected and why."""
    colour = REJECTED if reason else KEPT
    ax.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=colour, linewidth=1.6))
    text = f"✗ {REASONS[reason]}" if reason else "✓ kept"
    ax.text(x + size, y - 0.15, text, ha="right", va="top", fontsize=7, color=colour)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose data coordinates are inches.

    pyplot, which teaches a notebook to show figures, belongs to the main thread; others draw without it.
    """
    if threading.current_thread() is threading.main_thread():
        figure = plt.figure(figsize=(width, height), layout="none")
        plt.close(figure)
    else:
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return figure, ax


def thumbnail(ax: Axes, image: Tensor, x: float, y: float, size: float) -> None:
    """Put an image (3, H, W) in [0, 1] at a place of a canvas, given its lower left corner and side in inches."""
    pixels = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    ax.imshow(pixels, extent=(x, x + size, y, y + size), interpolation="none", aspect="auto", zorder=1)
