"""A batch and the tools: what one training step sees, and what else its method may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from dadlab.discretizer import Discretizer
from dadlab.profile import Profile

NONE = torch.zeros(0)


@dataclass(frozen=True)
class Batch:
    """What one step sees. The second half is empty where a method needs none.

    Attributes:
        rows: (B,) int64, which samples of the training data these are.
        images: (B, 3, H, W) clean views in [0, 1].
        labels: (B,) int64, or each class's share (B, C) where images are mixed.
        teacher: φ of exactly these views (B, C).
        second_images, second_labels, second_teacher: the same for the method's `second` stream; φ is of the clean view
            that a sample was made from where the method says so.
        mixtures: (2B, 3, H, W) AugMix's two of the clean views, the first of every view and then the second of every.
    """

    rows: Tensor
    images: Tensor
    labels: Tensor
    teacher: Tensor
    second_images: Tensor
    second_labels: Tensor
    second_teacher: Tensor
    mixtures: Tensor = NONE

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed."""
        return Batch(*(change(getattr(self, entry.name)) for entry in fields(self)))

    def pin_memory(self) -> Batch:
        return self.each(Tensor.pin_memory)

    def both(self, student: nn.Module) -> tuple[Tensor, Tensor]:
        """A student's logits of the clean and of the second images, in one pass."""
        logits = student(torch.cat([self.images, self.second_images])).float()
        clean, second = logits.split([len(self.images), len(self.second_images)])
        return clean, second


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
    discretizer: Discretizer | None = None
    seed: int = 0
    transfer: nn.Module | None = None

    @property
    def weights(self) -> dict[str, float]:
        """T and a, as keywords of the losses."""
        return {"temperature": self.profile.temperature, "alpha": self.profile.alpha}
