"""One photograph under attack: what the live view computes and draws.

x, Q(x) and the teacher's answers to them are kept, so that a move of a slider costs the gradient steps, one pass
through Q and two of the teacher.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from dadlab.discretizer import VQGAN, Discretizer
from dadlab.examples import Made, discretize_adversarially, sample_generators
from dadlab.pictures import canvas, plain_to_see, thumbnail
from dadlab.profile import Attack
from dadlab.store import REASONS
from dadlab.style import COLOURS, KEPT, REJECTED
from dadlab.widgets.latest import Tick

_M = TypeVar("_M", bound=nn.Module)
_SMALL = 64  # pixels
_SAME, _SLIPPED, _FLIPPED = 0, 1, 2
_CODE_COLOURS = torch.tensor([[0.80, 0.80, 0.80], [0.90, 0.62, 0.0], [0.0, 0.45, 0.70]])  # of the three above


@dataclass(frozen=True)
class Subject:
    """A photograph with the models that look at it, and what they say before any attack.

    Attributes:
        image: x (1, 3, H, W) in [0, 1].
        label: y (1,).
        teacher, discretizer: φ and Q, which answer x and Q(x) from memory.
        codes: (h, w) of x and of Q(x), or None where Q has no codes.
        before: φ's probabilities (C,) of x.
        calls: functions that are called before φ answers anything that is not in memory, to count its work.
    """

    image: Tensor
    label: Tensor
    teacher: nn.Module
    discretizer: Discretizer
    codes: tuple[Tensor, Tensor] | None
    before: Tensor
    calls: list[Callable[[], None]]


@dataclass(frozen=True)
class Look:
    """What an attack made of a subject.

    Attributes:
        made: every stage.
        probabilities: φ's (C,) of x, Q(x), x′ and Q(x′).
        flips: (h, w): 0 where the code stayed, 1 where Q changes it by itself the second time, 2 where the attack did.
        attack: what was done.
        label: y.
        seconds: how long it took.
    """

    made: Made
    probabilities: tuple[Tensor, Tensor, Tensor, Tensor]
    flips: Tensor | None
    attack: Attack
    label: int
    seconds: float

    @property
    def verdict(self) -> str:
        return REASONS[int(self.made.reason[0])]


@torch.no_grad()
def subject(image: Tensor, label: int | None, teacher: nn.Module, discretizer: Discretizer) -> Subject:
    """Ask both models about a photograph (1, 3, H, W); without a label, φ's own answer stands for y."""
    reconstructed = discretizer(image)
    first, second = teacher(image), teacher(reconstructed)
    codes = None
    if isinstance(discretizer, VQGAN):
        codes = discretizer.encode(image)[0], discretizer.encode(reconstructed)[0]
    calls: list[Callable[[], None]] = []
    return Subject(
        image,
        torch.tensor([int(first.argmax()) if label is None else label]),
        _knowing(teacher, ((image, first), (reconstructed, second)), calls),
        _knowing(discretizer, ((image, reconstructed),), []),
        codes,
        first.softmax(1)[0],
        calls,
    )


def _knowing(model: _M, known: Sequence[tuple[Tensor, Tensor]], calls: list[Callable[[], None]]) -> _M:
    """The same model, weights shared, that knows some answers and tells `calls` whenever it has to work for another.

    A question that a gradient is asked of is always worked for.
    """

    def forward(images: Tensor) -> Tensor:
        if not images.requires_grad:
            for question, answer in known:
                if torch.equal(question, images):
                    return answer
        for called in calls:
            called()
        return model(images)

    twin: Any = copy.copy(model)
    twin.forward = forward
    return twin


def look(subject: Subject, attack: Attack, seed: int, tick: Tick = lambda share: None) -> Look:
    """Attack a subject; `tick` is told the share done before every call of the teacher and may raise to stop."""
    started, expected, done = time.monotonic(), attack.steps + 2, 0

    def called() -> None:
        nonlocal done
        tick(done / expected)
        done += 1

    subject.calls[:] = [called]
    generators = sample_generators(torch.zeros(1, dtype=torch.long), seed)
    with _threads_for(subject.image):
        made = discretize_adversarially(
            subject.image, subject.label, subject.teacher, subject.discretizer, attack, generators
        )
        with torch.no_grad():
            said = [subject.teacher(images).softmax(1)[0] for images in (made.reconstructed, made.perturbed)]
    flips = None
    if subject.codes is not None and made.codes is not None:
        flips = code_flips(*subject.codes, made.codes[0])
    probabilities = subject.before, said[0], said[1], made.logits.softmax(1)[0]
    return Look(made, probabilities, flips, attack, int(subject.label), time.monotonic() - started)


@contextlib.contextmanager
def _threads_for(image: Tensor) -> Iterator[None]:
    """One thread for a small image: on a busy machine, cores that wait for each other take seconds over it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if image.shape[-1] <= _SMALL else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def code_flips(first: Tensor, second: Tensor, attacked: Tensor) -> Tensor:
    """(h, w): 2 where codes of x′ differ from those of Q(x), else 1 where those of Q(x) differ from those of x."""
    return torch.where(attacked != second, _FLIPPED, torch.where(second != first, _SLIPPED, _SAME))


def describe(look: Look, classes: Sequence[str]) -> str:
    """The numbers behind the picture, in a line."""
    made, size = look.made, look.made.clean.shape[-1]
    moved = float((made.perturbed - made.reconstructed).norm())
    rms = float(255 * (made.perturbed - made.reconstructed).square().mean().sqrt())
    parts = [f"‖x′−Q(x)‖₂ = {moved:.2f} ({rms:.1f}/255 a pixel)", f"‖Q(x′)−x‖₂ = {float(made.distance):.2f}"]
    if look.flips is not None:
        flipped = int((look.flips == _FLIPPED).sum())
        parts.append(f"{flipped} of {look.flips.numel()} codes flipped")
    verdict = "kept" if look.verdict == REASONS[0] else f"not kept: {look.verdict}"
    parts += [f"y = {classes[look.label]}, {verdict}", f"{size}×{size} in {1000 * look.seconds:.0f} ms"]
    return " · ".join(parts)


_CELL, _GAP = 1.2, 0.12  # inches
_STAGES = ("x", "Q(x)", "x′", "Q(x′)")


def draw(look: Look, classes: Sequence[str]) -> Figure:
    """Stages above, what changed and which codes below, the teacher's five likeliest classes on the right."""
    made = look.made
    figure, ax = canvas(7.2, 3.3)
    left = [0.06 + k * (_CELL + _GAP) for k in range(4)]
    top, bottom = 1.86, 0.3
    for x, images, name, shares in zip(
        left, (made.clean, made.reconstructed, made.perturbed, made.images), _STAGES, look.probabilities, strict=True
    ):
        thumbnail(ax, images[0], x, top, _CELL)
        _words(ax, x, top + _CELL, name, f"{100 * float(shares[look.label]):.0f} %")
    ax.add_patch(Rectangle((left[3], top), _CELL, _CELL, fill=False, edgecolor=_colour(look), linewidth=2.5, zorder=2))
    pairs = ((made.reconstructed, made.clean), (made.perturbed, made.reconstructed), (made.images, made.clean))
    for x, (after, before), name in zip(left[1:], pairs, ("Q(x)−x", "x′−Q(x)", "Q(x′)−x"), strict=True):
        factor = plain_to_see(after - before)
        thumbnail(ax, 0.5 + factor * (after - before)[0], x, bottom, _CELL)
        _words(ax, x, bottom + _CELL, f"{factor:g}·({name})" if factor > 1 else name)
    _draw_flips(ax, look.flips, left[0], bottom)
    _draw_shares(ax, look, classes, left[3] + _CELL + 0.22)
    return figure


def _words(ax: Axes, x: float, y: float, name: str, more: str = "") -> None:
    ax.text(x, y + 0.05, name, fontsize=9, fontweight="bold", va="bottom")
    ax.text(x + _CELL, y + 0.05, more, fontsize=9, ha="right", va="bottom")


def _colour(look: Look) -> str:
    return KEPT if look.verdict == REASONS[0] else REJECTED


def _draw_flips(ax: Axes, flips: Tensor | None, x: float, y: float) -> None:
    if flips is None:
        ax.text(x + _CELL / 2, y + _CELL / 2, "this Q has\nno codes", fontsize=9, ha="center", va="center")
        return
    _words(ax, x, y + _CELL, "codes", f"{int((flips == _FLIPPED).sum())}/{flips.numel()}")
    thumbnail(ax, _CODE_COLOURS[flips].permute(2, 0, 1), x, y, _CELL)
    for k, (value, name) in enumerate(((_FLIPPED, "flipped by attack"), (_SLIPPED, "by Q alone"))):
        _key(ax, x + 1.32 * k, y - 0.2, _CODE_COLOURS[value].tolist(), name)


def _draw_shares(ax: Axes, look: Look, classes: Sequence[str], x: float) -> None:
    """The five likeliest classes before and after, two bars each; the true class is bold."""
    before, after = look.probabilities[0], look.probabilities[3]
    top = torch.maximum(before, after).topk(min(5, len(classes))).indices.tolist()
    names, wide, row = 0.9, 0.58, 0.41
    verdict = "✓ kept" if look.verdict == REASONS[0] else f"✗ {look.verdict}"
    ax.text(x, 3.11, verdict, fontsize=9, fontweight="bold", va="bottom", color=_colour(look))
    ax.text(x, 2.86, "teacher's top five, %", fontsize=9, va="bottom")
    for k, label in enumerate(top):
        y = 2.4 - row * k
        name = classes[label] if len(classes[label]) <= 12 else f"{classes[label][:11]}…"
        bold = "bold" if label == look.label else "normal"
        ax.text(x, y + 0.17, name, fontsize=9, va="center", fontweight=bold)
        for share, colour, dy in ((before, COLOURS["plain"], 0.18), (after, COLOURS["dad"], 0.0)):
            value = float(share[label])
            ax.add_patch(Rectangle((x + names, y + dy), wide * value, 0.15, color=colour))
            ax.text(x + names + wide * value + 0.04, y + dy + 0.07, f"{100 * value:.0f}", fontsize=8, va="center")
    for k, (name, colour) in enumerate((("of x", COLOURS["plain"]), ("of Q(x′)", COLOURS["dad"]))):
        _key(ax, x + names * k, 0.3, colour, name)


def _key(ax: Axes, x: float, y: float, colour: str | list[float], name: str) -> None:
    ax.add_patch(Rectangle((x, y), 0.11, 0.11, color=colour))
    ax.text(x + 0.16, y + 0.055, name, fontsize=8, va="center")
