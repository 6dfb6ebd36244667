"""Which classes of a data set are unseen, and which images of the seen ones train: by lists, or by rule.

The lists are those of Li et al. (ICCV 2023), in their repository: `train_data.txt`, `val_on_train_data.txt` and
`val_data.txt`, a line an image, as split/class/file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SHOTS = 5
LISTS = {"train": "train_data.txt", "id": "val_on_train_data.txt", "ood": "val_data.txt"}
_SEED = 20230705


@dataclass(frozen=True)
class Split:
    """Rows (N,) of `train`, `id`, `ood`, `shots` and `rest`, and which classes are seen and unseen, all in order."""

    rows: dict[str, Tensor]
    seen: tuple[int, ...]
    unseen: tuple[int, ...]

    def classes(self, name: str) -> tuple[int, ...]:
        return self.seen if name in ("train", "id") else self.unseen


def by_rule(labels: Tensor, seen: Sequence[int], unseen: Sequence[int]) -> Split:
    """⌊0.3 n⌋ of the n images of a seen class are for the test, drawn with a fixed seed; all of an unseen class are.

    Args:
        labels: classes of all images (N,) int64.
        seen, unseen: which classes are; images of any other are in no split.
    """
    rng = np.random.Generator(np.random.Philox(_SEED))
    train, test = list[int](), list[int]()
    for label in sorted(seen):
        rows = rng.permutation(np.flatnonzero(labels.numpy() == label)).tolist()
        aside = 3 * len(rows) // 10
        test += rows[:aside]
        train += rows[aside:]
    other = torch.isin(labels, torch.tensor(sorted(unseen))).nonzero()[:, 0]
    return _split(labels, {"train": sorted(train), "id": sorted(test), "ood": other.tolist()})


def drawn_classes(total: int, seen: int) -> tuple[list[int], list[int]]:
    """`seen` of the classes 0 … total − 1, drawn with a fixed seed, and the others; both sorted."""
    order = np.random.Generator(np.random.Philox(_SEED)).permutation(total).tolist()
    return sorted(order[:seen]), sorted(order[seen:])


def by_lists(folder: Path, files: Sequence[str], labels: Tensor, names: Sequence[str]) -> Split:
    """What the three lists in a folder say.

    Args:
        folder: where they lie.
        files: N paths.
        labels: of the files (N,).
        names: of the labels; they match a list's class folders whatever their numbers, signs and capitals.

    Raises:
        ValueError: lists that are missing or empty, name images that are not here, or share images or, where they must
            not, classes; a tested class that is not trained; one message with all of it.
    """
    called = [letters(name) for name in names]
    pairs = zip(files, labels.tolist(), strict=True)
    place = {(called[label], _file(path)): row for row, (path, label) in enumerate(pairs)}
    problems, rows = list[str](), dict[str, list[int]]()
    for split, listed in LISTS.items():
        if not (folder / listed).is_file():
            problems.append(f"{listed} is missing beside the other lists")
            continue
        lines = [line.split("/") for line in (folder / listed).read_text(encoding="utf-8").split("\n") if line.strip()]
        found = [place.get((letters(parts[-2]), parts[-1].strip())) if len(parts) > 1 else None for parts in lines]
        absent = ["/".join(parts) for parts, row in zip(lines, found, strict=True) if row is None]
        if absent:
            problems.append(f"{listed}: {len(absent):,} of {len(lines):,} images are not here, first {absent[0]}")
        if not lines:
            problems.append(f"{listed} names no image")
        rows[split] = sorted(row for row in found if row is not None)
    every = [row for part in rows.values() for row in part]
    if len(set(every)) < len(every):
        problems.append("the lists name images twice")
    elif len(rows) == len(LISTS):
        train, tested, unseen = (set(labels[rows[split]].tolist()) for split in LISTS)
        if unseen & (train | tested):
            problems.append(f"{LISTS['ood']} has classes of the other lists")
        if tested - train - unseen:
            problems.append(f"{LISTS['id']} has classes that {LISTS['train']} has not")
    if problems:
        raise ValueError("; ".join(problems))
    return _split(labels, rows)


def letters(name: str) -> str:
    """A class name's or folder's letters and digits, without the number before it."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^\d+\.", "", name).lower())


def _split(labels: Tensor, rows: dict[str, list[int]]) -> Split:
    found = {name: torch.tensor(part, dtype=torch.int64) for name, part in rows.items()}
    seen, unseen = (tuple(labels[found[name]].unique().tolist()) for name in ("train", "ood"))
    of_class = [found["ood"][labels[found["ood"]] == label] for label in unseen]
    few = {"shots": torch.cat([part[:SHOTS] for part in of_class]), "rest": torch.cat([p[SHOTS:] for p in of_class])}
    return Split({**found, **few}, seen, unseen)


def _file(path: str) -> str:
    return path.rpartition("/")[2]
