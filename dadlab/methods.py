"""Methods: each one short function from a batch to a loss.

A method says what it needs beside the clean view (`second`), so that controls are matched by construction: KD with
two clean views, DAD on Q(x) without attack (all its samples, or just those that DAD keeps too), and DAD all make two
student passes of equal size a step. Without attack x' is Q(x) and a sample Q(Q(x)): DAD's way but its step.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from dadlab import adversarial, comparisons
from dadlab.batch import Batch, Tools
from dadlab.fingerprints import fingerprint
from dadlab.losses import dad_loss, kd_loss
from dadlab.profile import Attack
from dadlab.pyramid import PYRAMID


def plain(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Cross-entropy on clean images (Eq. 3)."""
    return F.cross_entropy(student(batch.images).float(), batch.labels)


def kd(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Knowledge distillation on clean images (Eq. 7)."""
    logits = student(batch.images).float()
    return kd_loss(logits, batch.teacher, batch.labels, **tools.weights)


def kd_two_views(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """The compute-matched control: Eq. 7 summed over two clean views of every photograph."""
    first, second = batch.both(student)
    return kd_loss(first, batch.teacher, batch.labels, **tools.weights) + kd_loss(
        second, batch.second_teacher, batch.second_labels, **tools.weights
    )


def dad(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Discrete adversarial distillation (Eq. 9); clean and discretized samples share one pass.

    Every photograph comes with a sample that the filter kept, its own or another's, so the last term weighs a whatever
    the filter lets pass. In the paper rejected samples drop out, and a batch has as many as were kept.
    """
    clean, adversarial = batch.both(student)
    return dad_loss(clean, batch.teacher, batch.labels, adversarial, batch.second_teacher, **tools.weights)


@dataclass(frozen=True)
class Method:
    """A loss and what it asks for.

    Attributes:
        title: in tables.
        loss: from a batch to its loss.
        second: the second stream: `none`, another `view`, a `partner` of the batch, or stored samples: `discretized`
            without attack, of all views or (`matched`) of just those that survive the filter with and without, or
            `adversarial`.
        uses_teacher: whether the loss asks for the teacher's logits.
        online: what of the profile it uses while it trains: `attack`, `discretizer` (both on the student), `transfer`.
        mixtures: whether it asks for AugMix's two mixtures of the clean view.
        source_teacher: for stored samples φ of the clean view each was made from, under the same augmentation.
        temperature, alpha: T and a where the method's own paper sets them; the profile's elsewhere.
        attack: one on the student, with settings of the method's own.
        attacked: share of the images that it attacks.
        passes: how often an image passes the student, attack and second stream apart.
        auxiliary_norm: give the student a second set of its batch norms, where it has any.
        needs_batch_norm: refuse a student that has none.
        code: twelve digits that stand for the loss as it was written when the method was made, but comments, layout and
            docstring, and for the module's constants that it names; empty where that cannot be read. What it calls does
            not count.
    """

    title: str
    loss: Callable[[nn.Module, Batch, Tools], Tensor]
    second: str = "none"
    uses_teacher: bool = True
    online: tuple[str, ...] = ()
    mixtures: bool = False
    source_teacher: bool = False
    temperature: float | None = None
    alpha: float | None = None
    attack: Attack | None = None
    attacked: float = 1.0
    passes: float = 1.0
    auxiliary_norm: bool = False
    needs_batch_norm: bool = False
    code: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", _code(self.loss))

    @property
    def stored(self) -> bool:
        """Whether the second stream comes out of a store."""
        return self.second in ("discretized", "matched", "adversarial")


def _code(loss: Callable[..., Tensor]) -> str:
    try:
        (written,) = ast.parse(textwrap.dedent(inspect.getsource(loss))).body
    except (OSError, SyntaxError, TypeError, ValueError):
        return ""
    if isinstance(written, ast.FunctionDef) and ast.get_docstring(written) is not None:
        del written.body[0]
    names = {name: loss.__globals__.get(name) for name in loss.__code__.co_names}
    constants = {name: value for name, value in names.items() if isinstance(value, int | float | str | tuple)}
    return fingerprint(ast.unparse(written), *[constants] * bool(constants))


METHODS = {
    "plain": Method("plain", plain, uses_teacher=False),
    "kd": Method("KD", kd),
    "kd_two_views": Method("KD, two views", kd_two_views, "view"),
    "dad_q": Method("DAD on Q(x), no attack", dad, "discretized"),
    "dad_q_matched": Method("DAD on Q(x), matched", dad, "matched"),
    "dad": Method("DAD", dad, "adversarial"),
    "at": Method("Adversarial training", adversarial.at, uses_teacher=False, attack=adversarial.AT),
    "advprop": Method(
        "AdvProp",
        adversarial.advprop,
        uses_teacher=False,
        attack=adversarial.ADVPROP,
        passes=2.0,
        auxiliary_norm=True,
        needs_batch_norm=True,
    ),
    "fast_advprop": Method(
        "Fast AdvProp",
        adversarial.fast_advprop,
        uses_teacher=False,
        attack=adversarial.FAST_ADVPROP,
        attacked=adversarial.FAST_ATTACKED,
        auxiliary_norm=True,
        needs_batch_norm=True,
    ),
    "pyramid_at": Method("Pyramid AT", adversarial.pyramid_at, uses_teacher=False, attack=PYRAMID, passes=2.0),
    "dat": Method("DAT", adversarial.dat, uses_teacher=False, online=("attack", "discretizer"), passes=2.0),
    "dat_dad": Method("DAT + DAD", adversarial.dat_dad, "adversarial", online=("attack", "discretizer"), passes=2.0),
    "dad_augmentation": Method("DAD as augmentation", comparisons.dad_augmentation, "adversarial", uses_teacher=False),
    "augmix": Method("AugMix", comparisons.augmix, uses_teacher=False, mixtures=True, passes=3.0),
    "kd_augmix": Method("KD + AugMix", comparisons.kd_augmix, mixtures=True, passes=3.0),
    "dad_augmix": Method("DAD + AugMix", comparisons.dad_augmix, "adversarial", mixtures=True, passes=3.0),
    "debiased": Method(
        "Debiased", comparisons.debiased, "partner", uses_teacher=False, online=("transfer",), auxiliary_norm=True
    ),
    "dist": Method("DIST", comparisons.dist, temperature=1.0, alpha=2.0),
    "ard": Method("ARD", comparisons.ard, "adversarial", source_teacher=True),
    "rslad": Method("RSLAD", comparisons.rslad, "adversarial", source_teacher=True, temperature=1.0, alpha=5 / 6),
}
