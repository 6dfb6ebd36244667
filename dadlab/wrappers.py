"""What every model shares: its own preprocessing, and a frozen base for teachers and discretizers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights lie; the CPU for one without any."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module of a model in eval mode, until the block ends and each is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Frozen(nn.Module):
    """A module that cannot be trained: no gradients for its parameters, always in eval mode.

    Attributes:
        derived: buffers that follow from the rest, and whose last bits depend on the machine: no part of a fingerprint.
    """

    derived: tuple[str, ...] = ()

    def freeze(self) -> Self:
        for module in self.modules():  # `train` would not reach into another frozen one
            module.training = False
        return self.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        return self


class Preprocess(nn.Module):
    """Resize to `size` where needed and normalise: the part of the input pipeline that belongs to the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float], interpolation: str = "bilinear"):
        super().__init__()
        self.size, self.interpolation = size, interpolation
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def described(self) -> list[Any]:
        """Everything that it does, for a fingerprint."""
        return [self.size, self.interpolation, self.mean.flatten().tolist(), self.std.flatten().tolist()]

    def extra_repr(self) -> str:
        return f"size={self.size}, interpolation={self.interpolation}"

    def forward(self, images: Tensor) -> Tensor:
        return (resize(images, self.size, self.interpolation) - self.mean) / self.std


def resize(images: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """Images (B, 3, H, W) in [0, 1] to (B, 3, size, size) in [0, 1], as they are where they have that size.

    Args:
        images: pixels.
        size: side.
        interpolation: `bilinear`; or `bicubic`, Pillow's kernel, whose overshoot is cut off as 8-bit pixels do.
    """
    if images.shape[-2:] == (size, size):
        return images
    bicubic = interpolation == "bicubic"
    antialias = bicubic or size < images.shape[-1]  # torch has Pillow's bicubic kernel only with antialias
    resized = F.interpolate(images, (size, size), mode=interpolation, align_corners=False, antialias=antialias)
    return resized.clamp(0, 1) if bicubic else resized
