"""The method in one diagram, drawn from a real sample: its images, its codes, and what the teacher says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor

from dadlab.data import held_out
from dadlab.discretizer import VQGAN, load_discretizer
from dadlab.examples import Made, discretize_adversarially, sample_generators
from dadlab.pictures import canvas, plain_to_see, thumbnail
from dadlab.profile import Profile
from dadlab.style import COLOURS, KEPT, REJECTED, styled
from dadlab.teacher import load_teacher

WIDTH, SIDE, GAP, BOTTOM = 7.0, 0.86, 0.36, 0.98  # inches: of the figure, of an image, between images, below them
GRID = 0.74  # side of a grid of codes
QUIET = "#444444"


class Codes(NamedTuple):
    """What Q makes of samples on its way: codes (B, h, w) of x, Q(x) and x′, and the codebook (K, d)."""

    clean: Tensor
    reconstructed: Tensor
    perturbed: Tensor
    codebook: Tensor

    def changed(self, sample: int) -> tuple[int, int]:
        """In how many places x′ has another code than x, and Q(x), to which no attack was added."""
        first = self.clean[sample]
        return int((self.perturbed[sample] != first).sum()), int((self.reconstructed[sample] != first).sum())

    def moved(self, sample: int) -> Tensor:
        """How far each entry of x′ lies from that of x in the codebook's space, (h, w)."""
        before, after = (self.codebook.detach()[grid[sample]] for grid in (self.clean, self.perturbed))
        return (after - before).norm(dim=-1).cpu()


class Step(NamedTuple):
    """A picture of the diagram: the image, its name, and a line below."""

    image: Tensor
    name: str
    note: str


def chosen_sample(
    profile: Profile | None = None, *, split: str = "val", count: int = 64
) -> tuple[Figure, dict[str, Any]]:
    """DAD in one picture, and its numbers: of the first photographs the kept one that fooled φ most.

    Where none is kept it is the very first.

    Args:
        profile: data, teacher, discretizer and attack; the default one unless told.
        split: whose photographs.
        count: how many to choose among.

    Returns:
        The figure; the photograph's `index` in the split, its `class`, and `probabilities`: φ's of that class, in per
        cent, on x, Q(x), x′ and Q(x′). Where Q has codes, how many there are, how many of x′ are others than those of
        x, and how many of Q(x).
    """
    profile = profile or Profile()
    photographs = held_out(profile, split)
    teacher, discretizer = load_teacher(profile.teacher, photographs.classes), load_discretizer(profile.discretizer)
    index = torch.arange(min(count, len(photographs)))
    images, labels = photographs.images(index), photographs.labels[index]
    generators = sample_generators(index, 0)
    made = discretize_adversarially(images, labels, teacher, discretizer, profile.attack, generators)
    said = [teacher(stage).softmax(1) for stage in (made.clean, made.reconstructed, made.perturbed, made.images)]
    best = int(torch.where(made.accepted, said[2][index, labels], 2.0).argmin())
    shares = [round(100 * float(stage[best, labels[best]]), 2) for stage in said]
    facts = {"index": best, "class": photographs.classes[int(labels[best])], "probabilities": shares}
    codes = None
    if isinstance(discretizer, VQGAN):
        with torch.no_grad():
            x, reconstructed, perturbed = map(discretizer.encode, (made.clean, made.reconstructed, made.perturbed))
        codes = Codes(x, reconstructed, perturbed, discretizer.quantize.embedding.weight)
        changed, alone = codes.changed(best)
        facts |= {"codes": x[0].numel(), "codes changed": changed, "codes changed by Q alone": alone}
    return method_diagram(made, photographs.classes, labels, said, sample=best, codes=codes), facts


@styled
def method_diagram(
    made: Made,
    classes: Sequence[str],
    labels: Tensor,
    probabilities: Sequence[Tensor],
    *,
    sample: int = 0,
    codes: Codes | None = None,
) -> Figure:
    """What DAD is in one picture, drawn from a real sample.

    Args:
        made: samples, from `dadlab.examples.discretize_adversarially`.
        classes: class names.
        labels: y (B,).
        probabilities: the teacher's, (B, C), of x, Q(x), x′ and Q(x′).
        sample: which of them to draw.
        codes: drawn above, if Q has any.
    """
    label, difference = int(labels[sample]), made.perturbed - made.reconstructed
    factor = plain_to_see(difference)
    offset = (0.5 + factor * difference[sample]).clamp(0, 1)
    shares = [f"φ: {100 * float(p[sample, label]):.0f} % {classes[label]}" for p in probabilities]
    steps = (
        Step(made.clean[sample], "photograph x", shares[0]),
        Step(made.reconstructed[sample], "Q(x)", shares[1]),
        Step(offset, "attack on φ", "uphill on φ's loss" + (f", ×{factor:g}" if factor > 1 else "")),
        Step(made.perturbed[sample], "x′", shares[2]),
        Step(made.images[sample], "Q(x′)", shares[3]),
    )
    figure, ax = canvas(WIDTH, 3.16 if codes else 2.1)
    left = [0.12 + k * (SIDE + GAP) for k in range(len(steps))]
    for x, step in zip(left, steps, strict=True):
        thumbnail(ax, step.image, x, BOTTOM, SIDE)
        ax.text(x + SIDE / 2, BOTTOM + SIDE + 0.06, step.name, ha="center", va="bottom", fontsize=9)
        ax.text(x + SIDE / 2, BOTTOM - 0.05, step.note, ha="center", va="top", fontsize=7, color=QUIET)
    for x, sign in zip(left, ("Q", "+", "=", "Q"), strict=False):
        _sign(ax, x + SIDE, x + SIDE + GAP, BOTTOM + SIDE / 2, sign)
    if codes:
        _draw_codes(ax, codes, sample, [left[0] + SIDE + GAP / 2, left[2] + SIDE / 2, left[3] + SIDE + GAP / 2])
    _box(ax, 6.18, BOTTOM + 0.08, 0.78, SIDE - 0.16, f"kept if φ\nstill says\n{classes[label]}", KEPT)
    _arrow(ax, (left[4] + SIDE + 0.03, BOTTOM + SIDE / 2), (6.16, BOTTOM + SIDE / 2))
    _box(ax, 1.75, 0.06, 3.5, 0.5, "student θ:  on x it learns y and φ(x);  on Q(x′), φ(Q(x′))", COLOURS["dad"])
    _arrow(ax, (left[0] + SIDE / 2, BOTTOM - 0.22), (1.73, 0.31), bend="angle,angleA=90,angleB=0,rad=4")
    _arrow(ax, (6.57, BOTTOM + 0.06), (5.27, 0.31), bend="angle,angleA=90,angleB=0,rad=4")
    return figure


def _draw_codes(ax: Axes, codes: Codes, sample: int, middles: Sequence[float]) -> None:
    """Codes of x and of x′ above the arrows that they stand behind, and between them how far each one moved."""
    colours, bottom = code_colours(codes.codebook), BOTTOM + SIDE + 0.36
    before, after = codes.clean[sample].cpu(), codes.perturbed[sample].cpu()
    grids = (colours[before], _heat(codes.moved(sample)), colours[after])
    for middle, grid, name in zip(middles, grids, ("codes of x", "how far they move", "codes of x′"), strict=True):
        thumbnail(ax, grid.permute(2, 0, 1), middle - GRID / 2, bottom, GRID)
        ax.add_patch(Rectangle((middle - GRID / 2, bottom), GRID, GRID, fill=False, edgecolor=QUIET, linewidth=0.6))
        ax.text(middle, bottom + GRID + 0.05, name, ha="center", va="bottom")
    for middle in (middles[0], middles[-1]):
        ax.plot([middle, middle], [BOTTOM + SIDE / 2 + 0.21, bottom - 0.03], color=QUIET, linewidth=0.8, linestyle=":")
    changed, alone = codes.changed(sample)
    said = (("x′ differs from x", f"in {changed} of {before.numel():,} codes"), ("Q(x), not attacked,", f"in {alone}"))
    for start, end, (above, below) in zip(middles, middles[1:], said, strict=False):
        here, there, y = start + GRID / 2 + 0.06, end - GRID / 2 - 0.06, bottom + GRID / 2
        _arrow(ax, (here, y), (there, y))
        ax.text((here + there) / 2, y + 0.05, above, ha="center", va="bottom", fontsize=7, color=QUIET)
        ax.text((here + there) / 2, y - 0.06, below, ha="center", va="top", fontsize=7, color=QUIET)


def _heat(values: Tensor) -> Tensor:
    """Values (h, w) as colours (h, w, 3): white for none, full for the largest."""
    share = (values / values.max().clamp(min=1e-9))[..., None]
    return 1 - share * (1 - torch.tensor(to_rgb(REJECTED)))


def code_colours(codebook: Tensor) -> Tensor:
    """A colour for every code, (K, 3) in [0, 1]: codes of like entries have like colours.

    Red, green and blue are the ranks of an entry (K, d) along the codebook's first three principal components, and
    less strong than they could be.
    """
    entries = codebook.detach().cpu().double()
    centred = entries - entries.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:3]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # an axis may come with either sign
    along = torch.zeros(len(entries), 3, dtype=torch.float64)
    along[:, : len(axes)] = centred @ axes.T
    return (0.15 + 0.75 * along.argsort(0).argsort(0) / max(1, len(entries) - 1)).float()


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
