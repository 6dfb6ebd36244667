"""Checking images on disk before work starts: everything that is wrong, said at once.

Class folders are always looked at, and a spread sample of images is decoded; `full` decodes every image. Of each of
ImageNet-C's 75 folders the sample is from a few class folders, unless `full`: listing them all would take minutes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dadlab.data import FASHION, examine, needed_splits
from dadlab.dataset import Dataset
from dadlab.disk.encoded import Encoded
from dadlab.progress import track


def check(data: str, splits: Sequence[str] | None = None, *, full: bool = False) -> None:
    """Refuse data with missing, extra or empty class folders, a wrong number of classes, or unreadable images.

    Args:
        data: as `load_split` takes it.
        splits: what is going to be read. Unless told, all that are there; of ImageNet all that the tables and the guide
            read, ImageNet-C's 75 included, there or not. Whoever lacks a shift on purpose names the others, as
            `["train", "val", "v2", "c/fog/1"]`.
        full: decode every image, with progress, rather than a sample.

    Raises:
        ValueError: one line with all that was found.
    """
    wanted, missing = needed_splits(data) if splits is None else (splits, [])
    found = [problem for split in dict.fromkeys(wanted) for problem in problems(data, split, full=full)]
    if missing:
        found += [*missing, "to do without a shift, name the others in `splits`"]
    if found:
        raise ValueError(f"{data}: {'; '.join(dict.fromkeys(found))}")


def problems(data: str, split: str, *, full: bool = False) -> list[str]:
    """What is wrong with one split."""
    if data == "fashion":
        return [] if split in FASHION else [f"unknown split {split!r}: choose one of {', '.join(FASHION)}"]
    try:
        dataset, found = examine(data, split, few=split.startswith("c/") and not full)
    except ValueError as error:
        return [str(error)]
    broken = _broken(dataset, full)
    return [*found, f"{split}: {len(broken):,} unreadable image(s), first {broken[0]}"] if broken else found


def _broken(dataset: Dataset, full: bool) -> list[str]:
    assert isinstance(dataset.pixels, Encoded)
    images = dataset.pixels
    if not full:
        return list(images.unreadable(images.sample()))
    parts = track(torch.arange(len(images)).split(256), f"checking {dataset.name}, batches of 256")
    return [reason for part in parts for reason in images.unreadable(part)]
