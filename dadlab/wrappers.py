"""What every model shares: its own preprocessing, and a frozen base for teachers and discretizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Frozen(nn.Module):
    """A module that cannot be trained: no gradients for its parameters, always in eval mode."""

    def freeze(self) -> Self:
        super().train(False)
        return self.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        return self


class Preprocess(nn.Module):
    """Resize to `size` where needed and normalise: the part of the input pipeline that belongs to the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def extra_repr(self) -> str:
        return f"size={self.size}"

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.size, self.size):
            shrink = self.size < images.shape[-1]
            images = F.interpolate(
                images, (self.size, self.size), mode="bilinear", align_corners=False, antialias=shrink
            )
        return (images - self.mean) / self.std
