"""Replayable augmentation: a view is a pure function of (sample index, view number).

Because nothing else enters, a view can be drawn again at any time: the teacher's logits for it can be cached, a
stopped run can be resumed, and two methods see the same pixels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from torch import Tensor

SMALL = 64  # pixels: below it views are shifted, from it on resized crops
DRAWS = 23  # random numbers of a resized crop: ten tries of area and ratio, place, mirror
_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
_GOLDEN, _MIX1, _MIX2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def counter_hash(index: Tensor, stream: int) -> np.ndarray:
    """SplitMix64 of each sample index in a numbered stream: (B,) uint64, the same on every machine."""
    with np.errstate(over="ignore"):
        z = index.numpy().astype(np.uint64) + np.uint64(stream + 1) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX1 + np.uint64(stream) * _MIX2
        z = (z ^ (z >> np.uint64(27))) * _MIX2
        return z ^ (z >> np.uint64(31))


def square_views(images: Tensor, index: Tensor, view: int) -> Tensor:
    """A view of squares (B, 3, S, S) in [0, 1]: shifted and mirrored below `SMALL` pixels, else a resized crop of each.

    Args:
        images: (B, 3, S, S) in [0, 1].
        index: (B,) stable sample index.
        view: which view; -1 leaves the images as they are.
    """
    side = images.shape[-1]
    if view < 0 or side < SMALL:
        return augment(images, index, view)
    return torch.stack([_cut(image, draws) for image, draws in zip(images, uniforms(index, view), strict=True)])


def _cut(image: Tensor, draws: np.ndarray) -> Tensor:
    height, width = image.shape[-2:]
    left, top, w, h, mirror = resized_crop(draws, width, height)
    crop = TF.resized_crop(image, top, left, h, w, [height, width], TF.InterpolationMode.BICUBIC, antialias=True)
    return (TF.hflip(crop) if mirror else crop).clamp(0, 1)


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


def uniforms(index: Tensor, view: int, count: int = DRAWS) -> np.ndarray:
    """What each sample draws in a view, as many numbers as a resized crop needs: (B, count) float64 in [0, 1)."""
    keys = torch.from_numpy(counter_hash(index.cpu(), view).view(np.int64))
    bits = np.stack([counter_hash(keys, stream) for stream in range(count)], axis=1)
    return (bits >> np.uint64(11)) * 2.0**-53


def resized_crop(draws: np.ndarray, width: int, height: int) -> tuple[int, int, int, int, bool]:
    """Random resized crop and mirror, ImageNet's training recipe (Szegedy et al., 2015, §6).

    The crop has 8–100 % of the area and a ratio of 3:4 to 4:3; after ten tries that do not fit, the largest centred
    one of such a ratio.

    Args:
        draws: (DRAWS,) of one sample, from `uniforms`.
        width, height: of the picture, in pixels.

    Returns:
        left, top, width and height of the crop, and whether to mirror it.
    """
    mirror = bool(draws[22] < 0.5)
    for area, ratio in draws[:20].reshape(10, 2):
        pixels = width * height * (_AREA[0] + area * (_AREA[1] - _AREA[0]))
        aspect = math.exp(math.log(_RATIO[0]) + ratio * math.log(_RATIO[1] / _RATIO[0]))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(draws[20] * (width - w + 1)), int(draws[21] * (height - h + 1)), w, h, mirror
    w, h = min(width, round(height * _RATIO[1])), min(height, round(width / _RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h, mirror
