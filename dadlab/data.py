"""Datasets by name: drawn from photographs, or read from folders.

A split's name says everything: `train` and `val` are in-distribution, `val_context` is the one shift that tuning may
look at, and the rest are test shifts. Nothing downstream knows where its data come from.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dadlab import folders
from dadlab.dataset import Dataset
from dadlab.encoded import SMALL, Encoded
from dadlab.photos import ASSETS, CLASSES, load_photos
from dadlab.render import render

# split: (photographs, style, drawing seed). Test photographs are drawn with other seeds: no pose is shared.
FASHION = {
    "train": ("train", "studio", 0),
    "train_context": ("train", "context", 0),
    "val": ("val", "studio", 0),
    "val_context": ("val", "context", 0),
    "studio": ("test", "studio", 1),
    "v2": ("v2", "v2", 2),
    "context": ("test", "context", 1),
    "rendition": ("test", "rendition", 1),
    "sketch": ("test", "sketch", 1),
    "stylized": ("test", "stylized", 1),
    "a": ("test", "studio", 1),
}
MEMORY = 2**29  # bytes of pixels; a split of small images within it is decoded once and held


def load_split(data: str, split: str, *, image_size: int = 32, limit: int = 0) -> Dataset:
    """One split of the embedded benchmark or of images on disk; asking again reads nothing again.

    Args:
        data: `fashion`; or the path of a folder with one sub-folder a split (`dadlab.folders`).
        split: see the module docstring.
        image_size: side in pixels of images on disk; `dadlab.encoded` says how they are cut.
        limit: keep about this many samples, class by class; 0 keeps all.

    Raises:
        ValueError: unknown split, missing folder, unreadable image; one line that names the offender.
    """
    if data == "fashion":
        return _drawn(split, limit)
    return _read(data, split, image_size, limit, _stamp(data, split))


def open_split(data: str, split: str, image_size: int) -> Dataset:
    """One split of images on disk, all of them encoded.

    Raises:
        ValueError: as `load_split`, unreadable images aside.
    """
    return folders.open_split(Path(data), split, image_size)


def split_names(data: str) -> list[str]:
    """Splits that exist, training splits first.

    Raises:
        ValueError: no such data.
    """
    if data == "fashion":
        return list(FASHION)
    return folders.split_names(Path(data))


@functools.lru_cache(maxsize=8)
def _read(data: str, split: str, image_size: int, limit: int, when: Hashable) -> Dataset:
    dataset = open_split(data, split, image_size)
    if 0 < limit < len(dataset):
        dataset = dataset.take(_every_class(dataset.labels, limit))
    small = image_size < SMALL and 3 * image_size**2 * len(dataset) <= MEMORY
    if small or not isinstance(dataset.pixels, Encoded):
        return dataset.in_memory()
    broken = list(dataset.pixels.unreadable(dataset.pixels.sample()))
    if broken:
        raise ValueError(f"{split}: unreadable images in a sample, first {broken[0]}")
    return dataset


def _stamp(data: str, split: str) -> Hashable:
    """Changes when files come or go."""
    root = Path(data)
    return folders.stamp(root / "train") + folders.stamp(root / split)


@functools.lru_cache(maxsize=16)
def _drawn(split: str, limit: int) -> Dataset:
    if split not in FASHION:
        raise ValueError(f"unknown split {split!r} of fashion: choose one of {', '.join(FASHION)}")
    source, style, seed = FASHION[split]
    photos = load_photos(source)
    if split == "a":
        photos = photos.take(np.array(natural_adversarial()))
    if 0 < limit < len(photos):
        photos = photos.take(_every_class(torch.from_numpy(photos.labels), limit).numpy())
    pixels, _ = render(photos.pixels, style, seed=seed, index=photos.index)
    return Dataset(split, CLASSES, pixels, torch.from_numpy(photos.labels))


def natural_adversarial() -> list[int]:
    """The frozen list of `a`: test photographs that a plain ResNet outside all comparisons gets wrong."""
    return json.loads((ASSETS / "a.json").read_text())["index"]


def _every_class(labels: Tensor, limit: int) -> Tensor:
    """About `limit` positions, the first ones of every class, in order."""
    quota = max(1, limit // (int(labels.max()) + 1))
    return torch.cat([torch.nonzero(labels == label)[:quota, 0] for label in labels.unique()]).sort().values
