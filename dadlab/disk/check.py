"""Checking images on disk before work starts: everything that is wrong, said at once.

Class folders are always looked at, and a spread sample of images is decoded; `full` decodes every image. Of
ImageNet-C's 75 folders only the class folders are looked at unless `full`: its images are sampled when they are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dadlab.data import FASHION, open_split, split_names, structure
from dadlab.dataset import Dataset
from dadlab.disk.encoded import Encoded
from dadlab.progress import track


def check(data: str, splits: Sequence[str] | None = None, *, full: bool = False) -> None:
    """Refuse data with missing or extra class folders, a wrong number of classes, or unreadable images.

    Args:
        data: as `load_split` takes it.
        splits: what is going to be read; all that are there unless told.
        full: decode every image, with progress, rather than a sample.

    Raises:
        ValueError: one line with all that was found.
    """
    wanted = dict.fromkeys(split_names(data) if splits is None else splits)
    found = [problem for split in wanted for problem in problems(data, split, full=full)]
    if found:
        raise ValueError(f"{data}: {'; '.join(dict.fromkeys(found))}")


def problems(data: str, split: str, *, full: bool = False) -> list[str]:
    """What is wrong with one split."""
    if data == "fashion":
        return [] if split in FASHION else [f"unknown split {split!r}: choose one of {', '.join(FASHION)}"]
    found = structure(data, split)
    if found or (split.startswith("c/") and not full):
        return found
    try:
        dataset = open_split(data, split, 32)
    except ValueError as error:
        return [str(error)]
    broken = _broken(dataset, full)
    return [f"{split}: {len(broken):,} unreadable image(s), first {broken[0]}"] if broken else []


def _broken(dataset: Dataset, full: bool) -> list[str]:
    assert isinstance(dataset.pixels, Encoded)
    images = dataset.pixels
    if not full:
        return list(images.unreadable(images.sample()))
    parts = track(torch.arange(len(images)).split(256), f"checking {dataset.name}, batches of 256")
    return [reason for part in parts for reason in images.unreadable(part)]
