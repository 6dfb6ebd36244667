"""Datasets: images in [0, 1], labels and a stable sample index, whether drawn from photographs or read from folders.

A split's name says everything: `train` and `val` are in-distribution, `val_context` is the one shift that tuning may
look at, and the rest are test shifts. Folder data has the same shape: `root/train/<class>/*.jpg`, `root/val/…`, and
every further folder is a test shift. Nothing downstream knows which of the two it has.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dadlab.files import fingerprint
from dadlab.photos import ASSETS, CLASSES, load_photos
from dadlab.progress import track
from dadlab.render import render
from dadlab.views import augment

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
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True)
class Dataset:
    """Images held as 8-bit pixels; a sample's position is its stable index.

    Attributes:
        name: split name, for messages and tables.
        classes: class names in label order.
        pixels: (N, 3, H, W) uint8.
        labels: (N,) int64.
    """

    name: str
    classes: tuple[str, ...]
    pixels: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: Tensor, view: int = -1) -> Tensor:
        """Images (B, 3, H, W) float32 in [0, 1] of the given samples: as they are, or their replayable view."""
        return augment(self.pixels[index].float() / 255, index, view)

    def take(self, index: Tensor) -> Dataset:
        return Dataset(self.name, self.classes, self.pixels[index], self.labels[index])

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint(list(self.classes), self.pixels, self.labels)


def load_split(data: str, split: str, *, image_size: int = 32, limit: int = 0) -> Dataset:
    """One split of the embedded benchmark (`data="fashion"`) or of a folder of images.

    Args:
        data: `fashion`, or the path of a folder with one sub-folder a split.
        split: see the module docstring.
        image_size: side in pixels; folder images are resized and centre-cropped to it.
        limit: keep about this many samples, class by class; 0 keeps all.

    Raises:
        ValueError: unknown split, missing folder, unreadable image; one line that names the offender.
    """
    if data == "fashion":
        return _drawn(split, limit)
    dataset = read_folder(Path(data), split, image_size)
    return dataset.take(_every_class(dataset.labels, limit)) if 0 < limit < len(dataset) else dataset


def split_names(data: str) -> list[str]:
    """Splits that exist, training splits first."""
    if data == "fashion":
        return list(FASHION)
    root = Path(data)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; give 'fashion' or a folder with train/ and val/ inside")
    return sorted((p.name for p in _folders(root)), key=lambda n: (n not in ("train", "val"), n))


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


def read_folder(root: Path, split: str, image_size: int) -> Dataset:
    """Read `root/split/<class>/*` into memory; class names are folder names, `_` read as a space."""
    names = split_names(str(root))
    if split not in names:
        raise ValueError(f"{root}: no split {split!r}: it has {', '.join(names) or 'no folders'}")
    reference = root / ("train" if "train" in names else split)
    classes = [p.name for p in _folders(reference)]
    unknown = [p.name for p in _folders(root / split) if p.name not in classes]
    if unknown:
        raise ValueError(f"{root / split}: class folders {', '.join(unknown)} are not in {reference}")
    found = [(path, k) for k, name in enumerate(classes) for path in _image_paths(root / split / name)]
    if not found:
        raise ValueError(f"{root / split}: no images ({', '.join(sorted(_SUFFIXES))}) in class folders")
    with ThreadPoolExecutor() as pool:
        read = functools.partial(_read_image, size=image_size)
        arrays = list(track(pool.map(read, [p for p, _ in found]), f"reading {split}", len(found)))
    broken = [a for a in arrays if isinstance(a, str)]
    if broken:
        raise ValueError(f"{len(broken)} unreadable image(s), first {broken[0]}")
    labels = torch.tensor([k for _, k in found])
    return Dataset(split, tuple(c.replace("_", " ") for c in classes), torch.from_numpy(np.stack(arrays)), labels)


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_paths(folder: Path) -> Sequence[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []


def _read_image(path: Path, *, size: int) -> np.ndarray | str:
    """(3, size, size) uint8, or what is wrong with the file."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.fit(ImageOps.exif_transpose(opened).convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return f"{path}: {error}"
    return np.asarray(image).transpose(2, 0, 1).copy()
