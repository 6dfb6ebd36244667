"""What embedded assets are trained on: drawings of photographs, in random batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dadlab.photos import Photos
from dadlab.render import render
from dadlab.views import augment


def draw(photos: Photos, styles: Sequence[str], *, seed: int) -> tuple[Tensor, Tensor]:
    """Every photograph in every style: images (N, 3, 32, 32) uint8 and labels (N,)."""
    images = torch.cat([render(photos.pixels, style, seed=seed, index=photos.index)[0] for style in styles])
    return images, torch.from_numpy(photos.labels).repeat(len(styles))


def random_batch(images: Tensor, step: int, batch: int, seed: int, *, pad: int | None = None) -> tuple[Tensor, Tensor]:
    """Crops and mirrors (B, 3, S, S) in [0, 1] of random images, and their rows (B,): a function of seed and step.

    Args:
        images: (N, 3, S, S) uint8.
        step, batch, seed: which images, and how many.
        pad: of the crops, as in `dadlab.views.augment`.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, step]))
    rows = torch.from_numpy(rng.integers(len(images), size=batch))
    return augment(images[rows].float() / 255, rows, step, pad=pad).contiguous(), rows
