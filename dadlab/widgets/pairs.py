"""Two students on one shift: which samples they part on, how confusion changes, what the two look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dadlab.dataset import Dataset
from dadlab.estimates import difference
from dadlab.evaluate import answers
from dadlab.pictures import canvas, thumbnail
from dadlab.saliency import overlay, saliency
from dadlab.students import Student
from dadlab.style import KEPT, REJECTED
from dadlab.widgets.latest import Tick

GROUPS = ("only the second is right", "only the first is right", "both are wrong", "both are right")
_BATCH = 256
_CONFUSED = 12  # classes of the confusion map, those that change most


@dataclass(frozen=True)
class Pair:
    """Two runs on one split.

    Attributes:
        first, second: correctness (N,).
        guesses: classes (N,) that the two name.
        labels: (N,).
    """

    first: np.ndarray
    second: np.ndarray
    guesses: tuple[Tensor, Tensor]
    labels: Tensor

    def group(self, name: str) -> np.ndarray:
        """Positions of the samples in one of `GROUPS`."""
        second_only, first_only, neither, both = GROUPS
        return np.flatnonzero(
            {
                second_only: ~self.first & self.second,
                first_only: self.first & ~self.second,
                neither: ~self.first & ~self.second,
                both: self.first & self.second,
            }[name]
        )

    def confusion(self, classes: int) -> np.ndarray:
        """(C, C) second minus first: how many more samples of a row's class are called a column's."""
        counts = [np.bincount((self.labels * classes + g).numpy(), minlength=classes**2) for g in self.guesses]
        return (counts[1] - counts[0]).reshape(classes, classes)

    def summary(self) -> str:
        """Both top-1, their paired difference with its interval, and how many samples each group has, in a line."""
        estimate = difference(self.second[None], self.first[None])
        counts = ", ".join(f"{name}: {len(self.group(name)):,}" for name in GROUPS)
        return (
            f"top-1 {100 * self.first.mean():.1f} % and {100 * self.second.mean():.1f} %, second − first {estimate} "
            f"(interval over images alone: one seed each) · {counts}"
        )


@torch.no_grad()
def guesses(student: Student, dataset: Dataset, tick: Tick = lambda share: None) -> Tensor:
    """Labels (N,) that a student answers with, as `dadlab.evaluate.correct` counts them: among `dataset.among`."""
    parts = torch.arange(len(dataset)).split(_BATCH)
    found = []
    for k, rows in enumerate(parts):
        tick(k / len(parts))
        logits = student(dataset.images(rows).contiguous(memory_format=torch.channels_last))
        found.append(answers(logits, dataset.among))
    return torch.cat(found)


def draw_pair(
    pair: Pair,
    rows: np.ndarray,
    dataset: Dataset,
    students: tuple[Student, Student],
    titles: tuple[str, str],
    group: str,
) -> Figure:
    """Images of a group with what each student says and looks at; below, how confusion changes.

    Args:
        pair: answers of both on the whole split.
        rows: positions (K,) of the images to draw, at most eight.
        dataset: the split.
        students, titles: the two, and their names beside the pictures.
        group: one of `GROUPS`, for the heading.
    """
    columns, cell, left = 8, 0.9, 1.3
    change = pair.confusion(len(dataset.classes))
    shown = most_changed(change)
    side = 0.28 * len(shown)
    width, below = left + columns * (cell + 0.08), side + 0.85
    top = 3 * (cell + 0.26) + below
    figure, ax = canvas(width, top + 0.3)
    ax.text(0.08, top + 0.1, f"{group}: {len(pair.group(group)):,} of {len(pair.labels):,}", fontsize=9)
    if len(rows):
        index = torch.from_numpy(rows)
        images = dataset.images(index)
        maps = [saliency(one, images, said[index]) for one, said in zip(students, pair.guesses, strict=True)]
        looks = [images if m is None else overlay(images, m) for m in maps]
        names = ["image", *("looks at" if m is not None else "no map for" for m in maps)]
        for line, (pictures, name) in enumerate(zip((images, *looks), names, strict=True)):
            y = top - (line + 1) * (cell + 0.26) + 0.22
            title = name if line == 0 else f"{titles[line - 1]}\n{name}"
            ax.text(left - 0.1, y + cell / 2, title, fontsize=9, ha="right", va="center")
            for k, picture in enumerate(pictures):
                _one(ax, picture, left + k * (cell + 0.08), y, cell, pair, dataset.classes, int(index[k]), line)
    _draw_confusion(ax, change, shown, dataset.classes, left, side)
    return figure


def _one(
    ax: Axes, picture: Tensor, x: float, y: float, size: float, pair: Pair, classes: Sequence[str], at: int, line: int
) -> None:
    thumbnail(ax, picture, x, y, size)
    label = int(pair.labels[at])
    said = label if line == 0 else int(pair.guesses[line - 1][at])
    colour = "black" if line == 0 else KEPT if said == label else REJECTED
    ax.text(x + size / 2, y - 0.03, classes[said], fontsize=8, ha="center", va="top", color=colour)


def most_changed(change: np.ndarray) -> np.ndarray:
    """The classes (K,) that take part in most of the change of confusion (C, C), the diagonal aside.

    At most twelve, in label order.
    """
    off = np.abs(change * (1 - np.eye(len(change), dtype=int)))
    return np.sort(np.argsort(-(off.sum(0) + off.sum(1)), kind="stable")[:_CONFUSED])


def _draw_confusion(
    ax: Axes, change: np.ndarray, shown: np.ndarray, classes: Sequence[str], x: float, side: float
) -> None:
    """The change (C, C) of the shown classes (K,), as a square of this side in inches whose left edge is at x.

    Green where the second student does better, which is more answers on the diagonal and fewer beside it; orange where
    it does worse; the stronger, the larger the change.
    """
    step, bottom = side / len(shown), 0.12
    part = change[np.ix_(shown, shown)]
    largest = max(1, int(np.abs(part).max()))
    for i, row in enumerate(part):
        y = bottom + (len(shown) - 1 - i) * step
        ax.text(x - 0.08, y + step / 2, classes[shown[i]], fontsize=8, ha="right", va="center")
        ax.text(x + (i + 0.3) * step, bottom + side + 0.04, classes[shown[i]], fontsize=8, rotation=60, va="bottom")
        for j, value in enumerate(row.tolist()):
            good = (value > 0) == (i == j)
            face = (*_rgb(KEPT if good else REJECTED), abs(value) / largest)
            ax.add_patch(Rectangle((x + j * step, y), 0.94 * step, 0.94 * step, facecolor=face, edgecolor="#8A8A8A",
                                   linewidth=0.3))  # fmt: skip
            if value:
                ax.text(x + (j + 0.47) * step, y + step / 2, f"{value:+d}", fontsize=7, ha="center", va="center")
    words = "confusion, second − first\nrow: true class, column: what is said\n\ngreen: the second does better\n"
    ax.text(
        x + side + 0.7, bottom + side / 2, words + "orange: it does worse", fontsize=9, va="center", linespacing=1.4
    )


def _rgb(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255
