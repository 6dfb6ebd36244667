"""Images in class folders: listed once a process, never decoded before they are asked for.

One's own images lie in `root/train/<class>/…`, `root/val/…`, and every further folder is a test shift; class names
are folder names, `_` read as a space.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import pyarrow as pa
import torch

from dadlab.dataset import Dataset
from dadlab.disk.encoded import SAMPLE, Encoded, Framing, threads
from dadlab.fingerprints import fingerprint, sha256

HOME = ("val", "validation", "test")  # the first that is there is the in-distribution test split
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
Stamp = tuple[tuple[str, int], ...]


class Names(Sequence[str]):
    """Texts in one block of memory, which the processes of a data loader share.

    Of a list every reading counts a reference, so that each process would come to hold a copy: of ImageNet's names
    120 MB, and a node has a hundred readers.
    """

    def __init__(self, names: Iterable[str]):
        self._packed = pa.array([os.fsencode(name) for name in names], pa.binary())

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        return os.fsdecode(self._packed[place].as_py())


@dataclass(frozen=True)
class Files:
    """Image files below a folder, class folder after class folder.

    Attributes:
        root: the folder.
        names: their paths below it.
        counts: how many each class folder has.
        fingerprint: of their names and sizes, and of what some of them contain; a copy elsewhere has the same.
    """

    root: str
    names: Sequence[str] = field(repr=False)
    counts: tuple[int, ...] = field(repr=False)
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    def open(self, row: int) -> str:
        return os.path.join(self.root, self.names[row])

    def where(self, row: int) -> str:
        return self.open(row)


def stamp(root: Path) -> Stamp:
    """Times of a folder and of its sub-folders: another stamp when files came or went."""
    paths = [root, *subfolders(root)] if root.is_dir() else []
    return tuple((path.name, path.stat().st_mtime_ns) for path in paths)


def list_files(root: Path, folders: Sequence[str]) -> Files:
    """The image files in the given sub-folders; asking again is free until a file comes or goes.

    A file rewritten in place is noticed by the next process, by its size or where it is one of the `SAMPLE` and more
    that are read.
    """
    return _list_files(root, tuple(folders), stamp(root))


@functools.lru_cache(maxsize=128)  # ImageNet-C has 75
def _list_files(root: Path, folders: tuple[str, ...], when: Stamp) -> Files:
    found = list(threads().map(lambda folder: _below(root / folder, folder), folders))
    entries = [entry for part in found for entry in part]
    names = [name for name, _ in entries]
    read = [sha256(root / name) for name in names[:: max(1, len(names) // SAMPLE)]]
    return Files(str(root), Names(names), tuple(map(len, found)), fingerprint(entries, read))


def _below(folder: Path, name: str) -> list[tuple[str, int]]:
    """Path and size of every image below a folder, in order; hidden ones, such as Jupyter's checkpoints, are none."""
    found = []
    for place, inside, files in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        below = os.path.join(name, os.path.relpath(place, folder)) if place != str(folder) else name
        for file in files:
            if os.path.splitext(file)[1].lower() in SUFFIXES and not file.startswith("."):
                found.append((os.path.join(below, file), os.path.getsize(os.path.join(place, file))))
    return sorted(found, key=lambda entry: entry[0].split(os.sep))


def class_folders(
    name: str,
    root: Path,
    labels: dict[str, int],
    classes: tuple[str, ...],
    framing: Framing,
    among: tuple[int, ...] | None = None,
) -> Dataset:
    """The images of a folder whose sub-folders say the label.

    Args:
        name: of the split.
        root: the folder.
        labels: label of each sub-folder that is to be read.
        classes: class names in label order.
        framing: how pictures become squares.
        among: labels that a model may answer with.
    """
    files = list_files(root, list(labels))
    every = torch.repeat_interleave(torch.tensor(list(labels.values())), torch.tensor(files.counts))
    return Dataset(name, classes, Encoded(files, framing, torch.arange(len(files))), every, among)


def split_names(root: Path) -> list[str]:
    """Splits of a folder of images, training splits first.

    Raises:
        ValueError: there is no such folder.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; give 'fashion' or a folder with train/ and val/ inside")
    return sorted((p.name for p in subfolders(root)), key=lambda n: (n not in ("train", "val"), n))


def open_split(root: Path, split: str, size: int) -> Dataset:
    """One split of a folder of images.

    Raises:
        ValueError: missing folder or split, class folders that training lacks, no images; class folders that are empty
            in training, or missing or empty in the in-distribution test split. Other shifts may lack classes.
    """
    dataset, wrong = examine(root, split, size)
    if wrong:
        raise ValueError("; ".join(wrong))
    return dataset


def examine(root: Path, split: str, size: int) -> tuple[Dataset, list[str]]:
    """The images of a split that are there, and what is wrong with its class folders.

    Raises:
        ValueError: missing folder or split.
    """
    names = split_names(root)
    if split not in names:
        raise ValueError(f"{root}: no split {split!r}: it has {', '.join(names) or 'no folders'}")
    reference = root / ("train" if "train" in names else split)
    folders, present = ([p.name for p in subfolders(place)] for place in (reference, root / split))
    labels, classes = {name: k for k, name in enumerate(folders)}, tuple(name.replace("_", " ") for name in folders)
    dataset = class_folders(split, root / split, labels, classes, Framing(size))
    unknown = [name for name in present if name not in folders]
    wrong = [f"{root / split}: class folders {', '.join(unknown)} are not in {reference}"] if unknown else []
    if not len(dataset):
        return dataset, [*wrong, f"{root / split}: no images ({', '.join(sorted(SUFFIXES))}) in class folders"]
    home = next((name for name in HOME if name in names), "")
    if split in (reference.name, home):
        filled = set(dataset.labels.tolist())
        missing = [name for name in folders if name not in present]
        empty = [name for name in folders if name in present and labels[name] not in filled]
        wrong += [f"{root / split}: class folders {', '.join(missing)} are missing"] if missing else []
        wrong += [f"{root / split}: no images in class folders {', '.join(empty)}"] if empty else []
    return dataset, wrong


def subfolders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
