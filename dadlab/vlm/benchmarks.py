"""The six data sets of Li et al. (ICCV 2023) from disk, split into seen and unseen classes as in its Table 13.

The paper does not say which classes are unseen; its authors' repository lists every image of all data sets but
tiered-ImageNet. Where these lists (`dadlab.vlm.split`) lie in the data set's folder too, they decide. Else Table 13
does as far as it tells:

- tiered-ImageNet's training classes are seen, its validation classes are not: both have the sizes of Table 13. Of the
  other data sets so many classes as it says are drawn, with a fixed seed.
- Of a seen class with n images ⌊0.3 n⌋ are for the ID test: Table 13 has more training images than 70 %, by up to half
  an image a class and by none of Food-101's equal classes, as this rounding gives. Which ones, is drawn with the seed.

Few shots are the first five files of every unseen class, as in the released code, for all seeds of a run. There is no
validation split: the paper has none.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dadlab.data import every_class, ready
from dadlab.dataset import Dataset
from dadlab.disk.encoded import Encoded, Framing, threads
from dadlab.disk.folders import Files
from dadlab.fingerprints import fingerprint
from dadlab.profile import nearest
from dadlab.tables.published import TABLES_VLM, load_table
from dadlab.vlm.archives import ARCHIVES, clean
from dadlab.vlm.split import LISTS, SHOTS, Split, by_lists, by_rule, drawn_classes

SIZES = {
    "train": "train images",
    "id": "ID test images",
    "ood": "OOD test images",
    "seen": "ID classes",
    "unseen": "OOD classes",
}


@dataclass(frozen=True)
class Listing:
    """A data set as it lies in its folder: files, the class of each (N,), names of all classes, and the split."""

    files: Files
    labels: Tensor
    names: tuple[str, ...]
    split: Split

    def names_of(self, split: str) -> tuple[str, ...]:
        """Class names of a split in label order."""
        return tuple(self.names[k] for k in self.split.classes(split))

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.files.fingerprint, list(self.names), *self.split.rows.values())


def load_benchmark(data: str, split: str, *, image_size: int = 224, limit: int = 0) -> Dataset:
    """One split, its labels numbered from 0.

    Args:
        data: one of `ARCHIVES` and a folder, such as `flowers:/data`.
        split: `train` and `id`, images of seen classes; `ood`, of unseen ones; `shots`, five of each of these, and
            `rest`, all others of them.
        image_size: side in pixels; `dadlab.disk.encoded` says how images are cut.
        limit: keep about this many images, the first of every class; 0 keeps all, and shots are all kept.

    Raises:
        ValueError: unknown data set or split; or a folder that is not as it must be: one line with all that was found.
    """
    rows, labels = rows_of(data, split, limit=limit)
    found = listing(data)
    return ready(Dataset(split, found.names_of(split), Encoded(found.files, Framing(image_size), rows), labels))


def rows_of(data: str, split: str, *, limit: int = 0) -> tuple[Tensor, Tensor]:
    """Which of the listing's files (N,) a split's images are, and their labels (N,); see `load_benchmark`."""
    found = listing(data)
    rows, classes = nearest(split, found.split.rows, f"split of {data}"), found.split.classes(split)
    number = torch.full((len(found.names),), -1)
    number[list(classes)] = torch.arange(len(classes))
    labels = number[found.labels[rows]]
    if split == "shots" or not 0 < limit < len(rows):
        return rows, labels
    part = every_class(labels, limit)
    return rows[part], labels[part]


def listing(data: str) -> Listing:
    """A data set's files, labels and split, looked at once a process; prints where sizes are not those of Table 13.

    Args:
        data: as in `load_benchmark`.

    Raises:
        ValueError: as `load_benchmark`.
    """
    kind, _, place = data.partition(":")
    nearest(kind, ARCHIVES, "data set")
    return _listing(kind, Path(place).expanduser())


def published_sizes(kind: str) -> dict[str, int]:
    """Table 13: images of `train`, `id` and `ood`, and how many classes are `seen` and `unseen`."""
    column = load_table(13, TABLES_VLM)[ARCHIVES[kind].column]
    return {name: int(column[row]) for name, row in SIZES.items()}


@functools.lru_cache(maxsize=8)
def _listing(kind: str, root: Path) -> Listing:
    archive, sizes = ARCHIVES[kind], published_sizes(kind)
    if absent := [needed for needed in archive.needs if not (root / needed).exists()]:
        raise ValueError(f"{kind}:{root}: no {', no '.join(absent)} in this folder, as dadlab.vlm.archives wants it")
    try:
        found = archive.listed(root)
    except (RuntimeError, OSError, ValueError, KeyError) as error:  # torchvision, SciPy and json each have their own
        raise ValueError(f"{kind}:{root}: not as its authors' archive has it ({error})") from None
    samples = sorted((int(label), file) for file, label in found.samples if not os.path.basename(file).startswith("."))
    labels, names = torch.tensor([label for label, _ in samples]), tuple(clean(name) for name in found.names)
    counts = labels.bincount(minlength=len(names)).tolist()
    files, problems = _files(root, [file for _, file in samples], counts)
    problems += _wrong_classes(names, counts, found.seen, sizes)
    listed = any((root / name).is_file() for name in LISTS.values())
    try:
        if listed:
            split = by_lists(root, files.names, labels, names)
        elif not problems:
            split = by_rule(labels, *_halves(names, found.seen, sizes))
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError(f"{kind}:{root}: {'; '.join(problems)}")
    if told := _other_sizes(split, sizes, listed):
        print(f"{kind}:{root}: {told}")
    return Listing(files, labels, names, split)


def _halves(names: Sequence[str], seen: int, sizes: dict[str, int]) -> tuple[list[int], list[int]]:
    if seen:
        return list(range(seen)), list(range(seen, len(names)))
    return drawn_classes(len(names), sizes["seen"])


def _files(root: Path, paths: Sequence[str], counts: Sequence[int]) -> tuple[Files, list[str]]:
    """The files with their stamp, and what is said of those that are not there."""

    def about(path: str) -> tuple[int, int] | None:
        try:
            found = os.stat(path)
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    names, stamps = [os.path.relpath(path, root) for path in paths], list(threads().map(about, paths))
    absent = [name for name, stamp in zip(names, stamps, strict=True) if stamp is None]
    problems = [f"{len(absent):,} images are missing, first {absent[0]}"] if absent else []
    return Files(str(root), names, tuple(counts), fingerprint(list(zip(names, stamps, strict=True)))), problems


def _wrong_classes(names: Sequence[str], counts: Sequence[int], seen: int, sizes: dict[str, int]) -> list[str]:
    problems, wanted = [], (sizes["seen"], sizes["unseen"])
    if seen and (seen, len(names) - seen) != wanted:
        problems.append(f"{seen} seen and {len(names) - seen} unseen classes, {wanted[0]} and {wanted[1]} wanted")
    elif len(names) != sum(wanted):
        problems.append(f"{len(names)} classes, {sum(wanted)} wanted")
    few = [name for name, count in zip(names, counts, strict=True) if count <= SHOTS]
    if few:
        problems.append(f"no more than {SHOTS} images of {', '.join(few[:3])}{' and others' * (len(few) > 3)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        problems.append(f"two classes are called {', '.join(twice)}")
    return problems


def _other_sizes(split: Split, sizes: dict[str, int], listed: bool) -> str:
    """Where an archive, or with its authors' lists a split, has another size than Table 13; else nothing."""
    found = {name: len(split.rows[name]) for name in ("train", "id", "ood")}
    wanted = {name: sizes[name] for name in found}
    if not listed:  # which classes are unseen was drawn: only the sum can be the paper's
        found, wanted = ({"images": sum(part.values())} for part in (found, wanted))
    other = [f"{found[name]:,} {name} ({wanted[name]:,})" for name in found if found[name] != wanted[name]]
    return f"other sizes than in the paper's Table 13, which are in brackets: {', '.join(other)}" if other else ""
