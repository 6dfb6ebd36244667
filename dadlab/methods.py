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

from dadlab import comparisons
from dadlab.losses import dad_loss, kd_loss
from dadlab.profile import Profile


@dataclass(frozen=True)
class Batch:
    """What one step sees. The second half is empty where a method needs none.

    Attributes:
        rows: (B,) int64, which samples of the training data these are.
        images: (B, 3, H, W) clean views in [0, 1].
        labels: (B,) int64, or each class's share (B, C) where images are mixed.
        teacher: φ of exactly these views (B, C).
        second_images, second_labels, second_teacher: the same for the method's `second` stream. AugMix's mixtures are
            the first of every view and then the second of every view (2B), without labels of their own; φ is of the
            clean view that a sample was made from where the method says so.
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
        transfer: style transfer of images to others' style, for a method that asks for it.
    """

    profile: Profile
    network: nn.Module
    discretizer: nn.Module | None = None
    seed: int = 0
    transfer: nn.Module | None = None

    @property
    def weights(self) -> dict[str, float]:
        """T and a, as keywords of the losses."""
        return {"temperature": self.profile.temperature, "alpha": self.profile.alpha}


def plain(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Cross-entropy on clean images (Eq. 3)."""
    return F.cross_entropy(student(batch.images).float(), batch.labels)


def kd(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Knowledge distillation on clean images (Eq. 7)."""
    logits = student(batch.images).float()
    return kd_loss(logits, batch.teacher, batch.labels, **tools.weights)


def kd_two_views(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """The compute-matched control: Eq. 7 summed over two clean views of every photograph."""
    logits = student(torch.cat([batch.images, batch.second_images])).float()
    first, second = logits.split([len(batch.images), len(batch.second_images)])
    return kd_loss(first, batch.teacher, batch.labels, **tools.weights) + kd_loss(
        second, batch.second_teacher, batch.second_labels, **tools.weights
    )


def dad(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Discrete adversarial distillation (Eq. 9); clean and discretized samples share one pass."""
    logits = student(torch.cat([batch.images, batch.second_images])).float()
    clean, adversarial = logits.split([len(batch.images), len(batch.second_images)])
    return dad_loss(clean, batch.teacher, batch.labels, adversarial, batch.second_teacher, **tools.weights)


@dataclass(frozen=True)
class Method:
    """A loss and what it asks for.

    Attributes:
        title: in tables.
        loss: from a batch to its loss.
        second: the second stream: `none`, another `view`, two AugMix `mixtures` of the view, a `partner` of the batch,
            or stored samples: `discretized` without attack, of all views or (`matched`) of just those that survive the
            filter under attack, or `adversarial`.
        uses_teacher: whether the loss asks for the teacher's logits.
        online: what of the profile it uses while it trains: `attack`, `discretizer` (both on the student), `transfer`.
        source_teacher: for stored samples φ of the clean view each was made from, under the same augmentation.
        temperature, alpha: T and a where the method's own paper sets them; the profile's elsewhere.
    """

    title: str
    loss: Callable[[nn.Module, Batch, Tools], Tensor]
    second: str = "none"
    uses_teacher: bool = True
    online: tuple[str, ...] = ()
    source_teacher: bool = False
    temperature: float | None = None
    alpha: float | None = None

    @property
    def stored(self) -> bool:
        """Whether the second stream comes out of a store."""
        return self.second in ("discretized", "matched", "adversarial")


METHODS = {
    "plain": Method("plain", plain, uses_teacher=False),
    "kd": Method("KD", kd),
    "kd_two_views": Method("KD, two views", kd_two_views, "view"),
    "dad_q": Method("DAD on Q(x), no attack", dad, "discretized"),
    "dad_q_matched": Method("DAD on Q(x), matched", dad, "matched"),
    "dad": Method("DAD", dad, "adversarial"),
    "dad_augmentation": Method("DAD as augmentation", comparisons.dad_augmentation, "adversarial", uses_teacher=False),
    "augmix": Method("AugMix", comparisons.augmix, "mixtures", uses_teacher=False),
    "debiased": Method("Debiased", comparisons.debiased, "partner", uses_teacher=False, online=("transfer",)),
    "dist": Method("DIST", comparisons.dist, temperature=1.0, alpha=2.0),
    "ard": Method("ARD", comparisons.ard, "adversarial", source_teacher=True),
    "rslad": Method("RSLAD", comparisons.rslad, "adversarial", source_teacher=True, temperature=1.0, alpha=5 / 6),
}
