"""Methods: each one short function from a batch to a loss.

A method says what it needs beside the clean view (`second`), so that controls are matched by construction: KD with
two clean views, DAD on Q(x) without attack (all its samples, or just those that DAD keeps too), and DAD all make two
student passes of equal size a step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab import adversarial
from dadlab.discretizer import Discretizer
from dadlab.losses import dad_loss, kd_loss
from dadlab.profile import Attack, Profile


@dataclass(frozen=True)
class Batch:
    """What one step sees. The second half is empty where a method needs none.

    Attributes:
        rows: (B,) int64, which samples of the training data these are.
        images: (B, 3, H, W) clean views in [0, 1].
        labels: (B,) int64, or each class's share (B, C) where images are mixed.
        teacher: φ of exactly these views (B, C).
        second_images, second_labels, second_teacher: the same for the second view or the discretized samples.
    """

    rows: Tensor
    images: Tensor
    labels: Tensor
    teacher: Tensor
    second_images: Tensor
    second_labels: Tensor
    second_teacher: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed."""
        return Batch(*(change(getattr(self, entry.name)) for entry in dataclasses.fields(self)))

    def pin_memory(self) -> Batch:
        return self.each(Tensor.pin_memory)


@dataclass(frozen=True)
class Tools:
    """What a method may use beside student and batch.

    Attributes:
        profile: its settings.
        network: the student itself, for attacks on it; the `student` of a loss may be wrapped for many processes.
        discretizer: Q, for a method that asks for it.
        seed: of this step; with `Batch.rows` it draws the same numbers for a sample in any process.
    """

    profile: Profile
    network: nn.Module
    discretizer: Discretizer | None = None
    seed: int = 0


def plain(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Cross-entropy on clean images (Eq. 3)."""
    return F.cross_entropy(student(batch.images).float(), batch.labels)


def kd(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Knowledge distillation on clean images (Eq. 7)."""
    logits = student(batch.images).float()
    return kd_loss(logits, batch.teacher, batch.labels, **_weights(tools))


def kd_two_views(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """The compute-matched control: Eq. 7 summed over two clean views of every photograph."""
    logits = student(torch.cat([batch.images, batch.second_images])).float()
    first, second = logits.split([len(batch.images), len(batch.second_images)])
    return kd_loss(first, batch.teacher, batch.labels, **_weights(tools)) + kd_loss(
        second, batch.second_teacher, batch.second_labels, **_weights(tools)
    )


def dad(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Discrete adversarial distillation (Eq. 9); clean and discretized samples share one pass."""
    logits = student(torch.cat([batch.images, batch.second_images])).float()
    clean, adversarial = logits.split([len(batch.images), len(batch.second_images)])
    return dad_loss(clean, batch.teacher, batch.labels, adversarial, batch.second_teacher, **_weights(tools))


def _weights(tools: Tools) -> dict[str, float]:
    """T and a, as keywords of the losses."""
    return {"temperature": tools.profile.temperature, "alpha": tools.profile.alpha}


@dataclass(frozen=True)
class Method:
    """A loss and what it asks for: `second` is `none`, `view`, `discretized`, `matched` or `adversarial`.

    `matched` samples are discretized without attack, of just the views that survive the filter under attack. `online`
    names what of the profile it uses while it trains, on the student: `attack`, `discretizer`. `attack` is one on the
    student with settings of the method's own, on the share `attacked` of the images. `passes` is how often an image
    passes the student, attack and second stream apart. `auxiliary_norm` gives the student a second set of batch norms.
    """

    title: str
    loss: Callable[[nn.Module, Batch, Tools], Tensor]
    second: str = "none"
    uses_teacher: bool = True
    online: tuple[str, ...] = ()
    attack: Attack | None = None
    attacked: float = 1.0
    passes: float = 1.0
    auxiliary_norm: bool = False


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
    ),
    "fast_advprop": Method(
        "Fast AdvProp",
        adversarial.fast_advprop,
        uses_teacher=False,
        attack=adversarial.FAST_ADVPROP,
        attacked=adversarial.FAST_ATTACKED,
        auxiliary_norm=True,
    ),
    "pyramid_at": Method(
        "Pyramid AT", adversarial.pyramid_at, uses_teacher=False, attack=adversarial.PYRAMID, passes=2.0
    ),
    "dat": Method("DAT", adversarial.dat, uses_teacher=False, online=("attack", "discretizer"), passes=2.0),
    "dat_dad": Method("DAT + DAD", adversarial.dat_dad, "adversarial", online=("attack", "discretizer"), passes=2.0),
}
