"""Datasets by name: drawn from photographs, or read from folders, ImageNet's archives or Hugging Face tables.

A split's name says everything: `train` and `val` are in-distribution, `val_context` is the one shift that tuning may
look at, and the rest are test shifts. Nothing downstream knows where its data come from.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dadlab.dataset import Dataset
from dadlab.disk import folders, imagenet, parquet
from dadlab.disk.encoded import Encoded
from dadlab.fingerprints import content_of
from dadlab.photos import ASSETS, CLASSES, load_photos
from dadlab.profile import Profile
from dadlab.render import render
from dadlab.views import SMALL

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
KINDS = ("imagenet", "hf", "hf-stream")
MEMORY = 2**29  # bytes of pixels; a split of small images within it is decoded once and held


def training_split(profile: Profile) -> Dataset:
    """What a profile trains on."""
    return load_split(profile.data, profile.train, image_size=profile.image_size, limit=profile.limit)


def held_out(profile: Profile, split: str, *, limit: int = 0) -> Dataset:
    """A split that a profile is tested on, whole unless told; the profile's own limit is that of its training."""
    return load_split(profile.data, split, image_size=profile.image_size, limit=limit)


def load_split(data: str, split: str, *, image_size: int = 32, limit: int = 0) -> Dataset:
    """One split of the embedded benchmark or of images on disk; asking again reads nothing again.

    Args:
        data: `fashion`; the path of a folder with one sub-folder a split (`dadlab.disk.folders`); `imagenet:` and the
            path of ImageNet's folders (`dadlab.disk.imagenet`); or `hf:` and the path or name of a Hugging Face
            dataset, `hf-stream:` to read its Parquet files where they lie (`dadlab.disk.parquet`).
        split: see the module docstring.
        image_size: side in pixels of images on disk; `dadlab.disk.encoded` says how they are cut.
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
    kind, place = _kind(data)
    if kind == "imagenet":
        return imagenet.open_split(Path(place), split, image_size)
    if kind in ("hf", "hf-stream"):
        return parquet.open_split(place, split, image_size, stream=kind == "hf-stream")
    return folders.open_split(Path(place), split, image_size)


def class_names(data: str, split: str) -> tuple[str, ...]:
    """Class names in label order; no image is read.

    Raises:
        ValueError: as `open_split`.
    """
    return CLASSES if data == "fashion" else open_split(data, split, 1).classes


def examine(data: str, split: str, *, few: bool = False) -> tuple[Dataset, list[str]]:
    """The images on disk of a split that are there, and what is wrong with its class folders.

    Args:
        data: as `load_split` takes it.
        split: its name.
        few: of ImageNet, list some of the class folders alone.

    Raises:
        ValueError: no such data or split; of Hugging Face data, whatever is wrong.
    """
    kind, place = _kind(data)
    if kind == "imagenet":
        return imagenet.examine(Path(place), split, 32, few=few)
    return (open_split(data, split, 32), []) if kind else folders.examine(Path(place), split, 32)


def needed_splits(data: str) -> tuple[list[str], list[str]]:
    """Splits that are there, and of ImageNet what is missing of those that the tables and the guide read.

    Raises:
        ValueError: no such data.
    """
    kind, place = _kind(data)
    return imagenet.needed_splits(Path(place)) if kind == "imagenet" else (split_names(data), [])


def has_corruptions(data: str) -> bool:
    """Whether the data bring corrupted images of their own, as ImageNet-C is."""
    return _kind(data)[0] == "imagenet"


def home_split(data: str) -> str:
    """The in-distribution test split.

    Raises:
        ValueError: there is none.
    """
    if data == "fashion":
        return "studio"
    names = split_names(data)
    for name in folders.HOME:
        if name in names:
            return name
    raise ValueError(f"{data}: no val, validation or test split: it has {', '.join(names)}")


def split_names(data: str) -> list[str]:
    """Splits that exist, training splits first.

    Raises:
        ValueError: no such data.
    """
    if data == "fashion":
        return list(FASHION)
    kind, place = _kind(data)
    if kind == "imagenet":
        return imagenet.split_names(Path(place))
    return parquet.split_names(place) if kind in ("hf", "hf-stream") else folders.split_names(Path(place))


def identity(data: str, split: str) -> str:
    """What lies under a name now, for fingerprints: a folder as a whole, of larger data the given split alone."""
    if data == "fashion":
        return data
    if not _kind(data)[0]:
        return content_of(os.path.join(os.curdir, data))  # a folder, also if it is called as a teacher is
    return _listed(data, split, _stamp(data, split))


def images_of(data: str, split: str) -> str:
    """Fingerprint of a test split's images as they lie there now, kept beside a run's answers to them.

    A run's own name covers its training images alone. Empty for drawn splits, for folders, which count as a whole, and
    for a split that is gone or broken.
    """
    if not _kind(data)[0]:
        return ""
    try:
        return identity(data, split)
    except ValueError:
        return ""


@functools.lru_cache(maxsize=128)  # ImageNet-C alone has 75 splits
def _listed(data: str, split: str, when: Hashable) -> str:
    return open_split(data, split, 1).fingerprint


def _kind(data: str) -> tuple[str, str]:
    """`imagenet:/data` as (`imagenet`, `/data`); a plain path as (``, path)."""
    kind, _, place = data.partition(":")
    return (kind, place) if kind in KINDS else ("", data)


@functools.lru_cache(maxsize=8)
def _read(data: str, split: str, image_size: int, limit: int, when: Hashable) -> Dataset:
    dataset = open_split(data, split, image_size)
    return ready(dataset.take(every_class(dataset.labels, limit)) if 0 < limit < len(dataset) else dataset)


def ready(dataset: Dataset) -> Dataset:
    """A dataset to be read from: small images decoded once and held, others tried in a sample.

    Raises:
        ValueError: unreadable images.
    """
    images = dataset.pixels
    if not isinstance(images, Encoded):
        return dataset
    if images.framing.size < SMALL and 3 * images.framing.size**2 * len(images) <= MEMORY:
        return dataset.in_memory()
    broken = list(images.unreadable(images.sample()))
    if broken:
        raise ValueError(
            f"{dataset.name}: unreadable images in a sample, first {broken[0]}; dadlab.disk.check finds all with full"
        )
    return dataset


def _stamp(data: str, split: str) -> Hashable:
    """Changes when files come or go."""
    kind, place = _kind(data)
    if kind == "imagenet":
        return imagenet.stamp(Path(place), split)
    return (
        folders.stamp(Path(place))
        if kind
        else folders.stamp(Path(place) / "train") + folders.stamp(Path(place) / split)
    )


@functools.lru_cache(maxsize=16)
def _drawn(split: str, limit: int) -> Dataset:
    if split not in FASHION:
        raise ValueError(f"unknown split {split!r} of fashion: choose one of {', '.join(FASHION)}")
    source, style, seed = FASHION[split]
    photos = load_photos(source)
    if split == "a":
        photos = photos.take(np.array(natural_adversarial()))
    if 0 < limit < len(photos):
        photos = photos.take(every_class(torch.from_numpy(photos.labels), limit).numpy())
    pixels, _ = render(photos.pixels, style, seed=seed, index=photos.index)
    return Dataset(split, CLASSES, pixels, torch.from_numpy(photos.labels))


def natural_adversarial() -> list[int]:
    """The frozen list of `a`: test photographs that a plain ResNet outside all comparisons gets wrong."""
    return json.loads((ASSETS / "a.json").read_text())["index"]


def every_class(labels: Tensor, limit: int) -> Tensor:
    """About `limit` positions, the first ones of every class there is, in order; at least one of each."""
    quota = max(1, limit // len(labels.unique()))
    return torch.cat([torch.nonzero(labels == label)[:quota, 0] for label in labels.unique()]).sort().values
