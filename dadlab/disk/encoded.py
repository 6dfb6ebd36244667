"""Images that stay encoded until they are asked for, and how a picture becomes a square of pixels.

At 64 pixels and more it is ImageNet's recipe: for evaluation the shorter side becomes size / 0.875 and the centre is
cut out (256 and 224); a training view is a random resized crop of the original and a mirror. Below, it is the recipe
of small images: the whole shorter side, and shifted crops. Bicubic throughout; files are decoded by a pool of threads.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision.transforms.functional import InterpolationMode, center_crop, resize, resized_crop

from dadlab import views
from dadlab.fingerprints import fingerprint
from dadlab.progress import track

SAMPLE = 64
CROP = 0.875
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class Source(Protocol):
    """Encoded images by row: files of a folder, rows of a table."""

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def open(self, row: int) -> str | BinaryIO:
        """What Pillow can open."""

    def where(self, row: int) -> str:
        """The row in words, for messages."""


@dataclass(frozen=True)
class Framing:
    """How a picture becomes a square.

    Attributes:
        size: side in pixels.
        cropped: its authors have cropped it already: never resize it where it has the size.
        upright: turn it as its EXIF data say, as photographs want; ImageNet's published numbers do not.
    """

    size: int
    cropped: bool = False
    upright: bool = True


@dataclass(frozen=True)
class Encoded:
    """Encoded images of one framing; a position is a sample's stable index.

    Attributes:
        source: where they lie.
        framing: how they become squares.
        rows: (N,) int64, the rows of the source that are meant.
    """

    source: Source
    framing: Framing
    rows: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.framing.size, self.framing.size

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.source.fingerprint, vars(self.framing), self.rows)

    def __getitem__(self, index: Tensor) -> Encoded:
        """Part of the images; nothing is decoded."""
        return Encoded(self.source, self.framing, self.rows[index])

    def images(self, index: Tensor, view: int = -1) -> Tensor:
        """Images (B, 3, S, S) float32 in [0, 1]: as evaluated, or a view that is a function of index and view alone.

        Raises:
            ValueError: an image cannot be read; names it.
        """
        if view >= 0 and self.framing.size < views.SMALL:
            return views.augment(self.images(index), index, view)
        draws = None if view < 0 else views.uniforms(index, view)
        pixels, broken = self._read(index, draws)
        if broken:
            raise ValueError(f"{len(broken)} unreadable image(s), first {broken[0]}")
        return pixels.float() / 255

    def pixels(self, what: str) -> Tensor:
        """All images as (N, 3, S, S) uint8, with progress.

        Raises:
            ValueError: images cannot be read; says how many and names the first.
        """
        parts = track(torch.arange(len(self)).split(256), f"reading {what}, batches of 256")
        read = [self._read(part, None) for part in parts]
        broken = [reason for _, reasons in read for reason in reasons]
        if broken:
            raise ValueError(f"{len(broken)} unreadable image(s), first {broken[0]}")
        return torch.cat([pixels for pixels, _ in read])

    def sample(self) -> Tensor:
        """Positions spread over all images, to try whether they can be read."""
        return torch.linspace(0, len(self) - 1, min(SAMPLE, len(self))).long()

    def unreadable(self, index: Tensor) -> Iterator[str]:
        """What is wrong with those of the given images that cannot be read."""
        for part in index.split(256):
            yield from self._read(part, None)[1]

    def _read(self, index: Tensor, draws: np.ndarray | None) -> tuple[Tensor, list[str]]:
        """(B, 3, S, S) uint8, and what is wrong with those that could not be read."""
        rows = self.rows[index].tolist()
        pixels = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
        filled = pixels.numpy()

        def fill(position: int) -> str | None:
            try:
                picture = load_picture(self.source.open(rows[position]), upright=self.framing.upright)
                square = frame(picture, self.framing, None if draws is None else draws[position])
            except _UNREADABLE as error:
                return f"{self.source.where(rows[position])}: {error}"
            filled[position] = np.asarray(square).transpose(2, 0, 1)
            return None

        return pixels, [reason for reason in threads().map(fill, range(len(rows))) if reason]


def load_picture(opened: str | BinaryIO, *, upright: bool) -> Image.Image:
    """Any image that Pillow reads, as RGB."""
    with Image.open(opened) as picture:
        return (ImageOps.exif_transpose(picture) if upright else picture).convert("RGB")


def frame(picture: Image.Image, framing: Framing, draws: np.ndarray | None) -> Image.Image:
    """The square of a picture that evaluation sees, or that a view with the given draws does."""
    size, side = framing.size, [framing.size, framing.size]
    if draws is not None:
        left, top, width, height, mirror = views.resized_crop(draws, *picture.size)
        crop = resized_crop(picture, top, left, height, width, side, InterpolationMode.BICUBIC)
        return ImageOps.mirror(crop) if mirror else crop
    if framing.cropped or size < views.SMALL:
        return picture if [*picture.size] == side else ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    return center_crop(resize(picture, [round(size / CROP)], InterpolationMode.BICUBIC), side)


def threads() -> ThreadPoolExecutor:
    """The process's own pool for reading files: Pillow decodes and resizes outside the interpreter's lock.

    A worker process of a data loader has one thread, since it is one of many.
    """
    return _threads(os.getpid())


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1 if get_worker_info() else None)
