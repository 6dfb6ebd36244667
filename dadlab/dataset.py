"""A dataset: images in [0, 1], labels and a stable sample index, wherever they come from."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dadlab.disk.encoded import Encoded
from dadlab.fingerprints import fingerprint
from dadlab.views import square_views


@dataclass(frozen=True)
class Dataset:
    """Images held as 8-bit pixels, or encoded until they are asked for; a sample's position is its stable index.

    Attributes:
        name: split name, for messages and tables.
        classes: class names in label order.
        pixels: (N, 3, H, W) uint8, or as many encoded images.
        labels: (N,) int64.
        among: labels that a model may answer with here, as for 200-class tests of 1,000-class models; None for all.
    """

    name: str
    classes: tuple[str, ...]
    pixels: Tensor | Encoded = field(repr=False)
    labels: Tensor = field(repr=False)
    among: tuple[int, ...] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: Tensor, view: int = -1) -> Tensor:
        """Images (B, 3, H, W) float32 in [0, 1] of the given samples: as they are, or their replayable view."""
        if isinstance(self.pixels, Encoded):
            return self.pixels.images(index, view)
        return square_views(self.pixels[index].float() / 255, index, view)

    def take(self, index: Tensor) -> Dataset:
        return replace(self, pixels=self.pixels[index], labels=self.labels[index])

    def in_memory(self) -> Dataset:
        """The same images, decoded.

        Raises:
            ValueError: images cannot be read; says how many and names the first.
        """
        return replace(self, pixels=self.pixels.pixels(self.name)) if isinstance(self.pixels, Encoded) else self

    @functools.cached_property
    def fingerprint(self) -> str:
        pixels = self.pixels.fingerprint if isinstance(self.pixels, Encoded) else self.pixels
        return fingerprint(list(self.classes), pixels, self.labels)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as the nearest 8-bit pixels."""
    return (images * 255).round().to(torch.uint8)


def to_picture(image: Tensor) -> Image.Image:
    """An image (3, H, W) in [0, 1] as Pillow's."""
    return Image.fromarray(to_bytes(image).permute(1, 2, 0).contiguous().numpy())


def to_tensor(picture: Image.Image) -> Tensor:
    """Pillow's RGB image as (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
