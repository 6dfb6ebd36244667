"""Replayable augmentation: a view is a pure function of (sample index, view number).

Because nothing else enters, a view can be drawn again at any time: the teacher's logits for it can be cached, a
stopped run can be resumed, and two methods see the same pixels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_GOLDEN, _MIX1, _MIX2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def counter_hash(index: Tensor, stream: int) -> np.ndarray:
    """SplitMix64 of each sample index in a numbered stream: (B,) uint64, the same on every machine."""
    with np.errstate(over="ignore"):
        z = index.numpy().astype(np.uint64) + np.uint64(stream + 1) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX1 + np.uint64(stream) * _MIX2
        z = (z ^ (z >> np.uint64(27))) * _MIX2
        return z ^ (z >> np.uint64(31))


def augment(images: Tensor, index: Tensor, view: int, *, pad: int | None = None) -> Tensor:
    """Random crop after reflection padding, and random mirror: the standard recipe of small images.

    Args:
        images: (B, 3, H, W) in [0, 1].
        index: (B,) stable sample index.
        view: which view; -1 leaves the images as they are.
        pad: largest shift in pixels; an eighth of the width unless told.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    if view < 0:
        return images
    height, width = images.shape[-2:]
    pad = width // 8 if pad is None else pad
    bits = counter_hash(index.cpu(), view)
    span = np.uint64(2 * pad + 1)
    top = torch.from_numpy((bits % span).astype(np.int64))
    left = torch.from_numpy(((bits >> np.uint64(20)) % span).astype(np.int64))
    mirror = torch.from_numpy(((bits >> np.uint64(40)) & np.uint64(1)).astype(bool))
    rows = top[:, None] + torch.arange(height)  # (B, H)
    columns = left[:, None] + torch.where(mirror[:, None], torch.arange(width).flip(0), torch.arange(width))  # (B, W)
    padded = F.pad(images, (pad,) * 4, mode="reflect")
    rows, columns = rows.to(images.device), columns.to(images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
