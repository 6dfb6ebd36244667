"""ImageNet-1K and its shifts on disk, in the folders that their authors' archives and scripts write.

```
root/
  train/  val/                              <WordNet id>/*.JPEG, 1,000 ids each
  imagenetv2-matched-frequency-format-val/  0/ … 999/, also -threshold0.7- and -top-images-  (Recht et al., 2019)
  imagenet-a/  imagenet-r/                  200 WordNet ids each         (Hendrycks et al., 2021)
  sketch/                                   1,000 WordNet ids            (Wang et al., 2019)
  stylized-imagenet/val/                    1,000 WordNet ids, 224 × 224 (Geirhos et al., 2019)
  imagenet-c/<corruption>/<severity>/       1,000 WordNet ids, 224 × 224 (Hendrycks & Dietterich, 2019)
```

The published archives of `train` and `val` hold tars and 50,000 loose images: `torchvision.datasets.ImageNet(root,
split)` makes these folders of them and of the devkit. Labels are positions among the sorted WordNet ids. A and R are
scored among their 200 classes, as published; `a-1000` and `rendition-1000` are the same images with all 1,000 to
choose from.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from open_clip import IMAGENET_CLASSNAMES
from timm.data import ImageNetInfo

from dadlab.dataset import Dataset
from dadlab.disk import folders
from dadlab.disk.encoded import Framing
from dadlab.photos import ASSETS


@dataclass(frozen=True)
class Split:
    """Where a split lies and how it is scored.

    Attributes:
        folder: below the root; a pattern.
        numbered: class folders are 0 … 999, not WordNet ids.
        subset: name of the 200-class subset whose folders these are.
        restricted: answers are taken among that subset alone.
        cropped: the images are 224 × 224 already.
    """

    folder: str
    numbered: bool = False
    subset: str = ""
    restricted: bool = False
    cropped: bool = False


SPLITS = {
    "train": Split("train"),
    "val": Split("val"),
    "v2": Split("imagenetv2-matched-frequency-format-val", numbered=True),
    "v2-threshold0.7": Split("imagenetv2-threshold0.7-format-val", numbered=True),
    "v2-top-images": Split("imagenetv2-top-images-format-val", numbered=True),
    "rendition": Split("imagenet-r", subset="rendition", restricted=True),
    "rendition-1000": Split("imagenet-r", subset="rendition"),
    "sketch": Split("sketch"),
    "a": Split("imagenet-a", subset="a", restricted=True),
    "a-1000": Split("imagenet-a", subset="a"),
    "stylized": Split("[sS]tylized*/val", cropped=True),
}


CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
SEVERITIES = (1, 2, 3, 4, 5)
FEW = 8  # class folders that stand for a split


@dataclass(frozen=True)
class Vocabulary:
    """The label space: WordNet ids in order, their names for prompts, and the ids of each subset."""

    wnids: tuple[str, ...]
    names: tuple[str, ...]
    subsets: dict[str, tuple[str, ...]]


@functools.lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """ImageNet-1K: ids from timm, names from open_clip, subsets as their authors list them."""
    listed = json.loads((ASSETS / "imagenet_subsets.json").read_text())
    subsets = {name: tuple(listed[name]) for name in ("a", "rendition")}
    return Vocabulary(tuple(ImageNetInfo().label_names()), tuple(IMAGENET_CLASSNAMES), subsets)


def corruption(kind: str, severity: int) -> str:
    """Name of the split that holds one corruption."""
    return f"c/{kind}/{severity}"


def split_names(root: Path) -> list[str]:
    """Splits whose folders are there, in the order of `SPLITS`; those of C go by `corruption`.

    Raises:
        ValueError: none is there.
    """
    found = [name for name, split in SPLITS.items() if _locate(root, split.folder).is_dir()]
    if not found:
        raise ValueError(f"{root}: none of ImageNet's folders is here: {', '.join(s.folder for s in SPLITS.values())}")
    return found


def needed_splits(root: Path) -> tuple[list[str], list[str]]:
    """Splits that are there, ImageNet-C's too, and what is missing of those that tables and notebooks/IMAGENET.md read.

    Raises:
        ValueError: none is there.
    """
    published = [corruption(kind, severity) for kind in CORRUPTIONS for severity in SEVERITIES]
    read = ["train", "val", "v2", "rendition", "sketch", "a", "stylized", *published]
    names = dict.fromkeys([*read, *split_names(root)])
    there = [name for name in names if _locate(root, _find(name).folder).is_dir()]
    return there, list(dict.fromkeys(_missing(root, name) for name in names if name not in there))


def _missing(root: Path, name: str) -> str:
    """The topmost folder that a split lacks, so that ImageNet-C as a whole is missed once."""
    folder = root / _find(name).folder
    while "/" in name and not folder.parent.is_dir():
        name, folder = name.rpartition("/")[0], folder.parent
    return f"{name}: no folder {folder}"


def problems(root: Path, name: str) -> list[str]:
    """What is wrong with a split's class folders: missing, extra, too few."""
    folder, wanted = _locate(root, _find(name).folder), set(_labels(name))
    if not folder.is_dir():
        return [f"{name}: no folder {folder}"]
    found = {path.name for path in folders.subfolders(folder)}
    if not found and next(folder.glob("ILSVRC2012_val_*"), None):
        sorts = "torchvision.datasets.ImageNet makes them of the archive and the devkit"
        return [f"{folder}: images without class folders, as the published archive has them; {sorts}"]
    wrong = [f"{what} {_some(ids)}" for what, ids in (("missing", wanted - found), ("unknown", found - wanted)) if ids]
    return [f"{folder}: {len(found):,} class folders, {len(wanted):,} wanted: {', '.join(wrong)}"] if wrong else []


def open_split(root: Path, name: str, size: int) -> Dataset:
    """One split, decoded on demand.

    Raises:
        ValueError: unknown split, missing or extra class folders, class folders without images; all at once.
    """
    dataset, wrong = examine(root, name, size)
    if wrong:
        raise ValueError("; ".join(wrong))
    return dataset


def examine(root: Path, name: str, size: int, *, few: bool = False) -> tuple[Dataset, list[str]]:
    """The images of a split that are there, and what is wrong with its class folders.

    Args:
        root: where ImageNet lies.
        name: of the split.
        size: side in pixels.
        few: list the images of `FEW` class folders alone.

    Raises:
        ValueError: unknown split.
    """
    split, every, wrong = _find(name), _labels(name), problems(root, name)
    folder = _locate(root, split.folder)
    labels = {key: every[key] for key in list(every)[:: max(1, len(every) // FEW) if few else 1]}
    framing = Framing(size, cropped=split.cropped, upright=False)
    among = tuple(sorted(every.values())) if split.restricted else None
    dataset = folders.class_folders(name, folder, labels, vocabulary().names, framing, among)
    present = set(dataset.labels.tolist())
    empty = {key for key, label in labels.items() if label not in present and (folder / key).is_dir()}
    return dataset, [*wrong, *([f"{folder}: no images in class folders {_some(empty)}"] if empty else [])]


def stamp(root: Path, name: str) -> folders.Stamp:
    """Changes when files of a split come or go."""
    return folders.stamp(_locate(root, _find(name).folder))


def prompt_names(names: Sequence[str]) -> tuple[str, ...]:
    """open_clip's names where the given ones are ImageNet's WordNet ids or lists of synonyms; else the given ones."""
    info, words = ImageNetInfo(), vocabulary()
    known = [{wnid, info.label_name_to_description(wnid).split(",")[0]} for wnid in words.wnids]
    same = sum(name.split(",")[0] in either for name, either in zip(names, known, strict=False))
    return words.names if len(names) == len(known) and same > 0.9 * len(known) else tuple(names)


def _find(name: str) -> Split:
    kind, _, rest = name.partition("/")
    if kind == "c" and rest:
        return Split(f"imagenet-c/{rest}", cropped=True)
    if name not in SPLITS:
        raise ValueError(f"unknown split {name!r} of ImageNet: choose one of {', '.join(SPLITS)}, c/<kind>/<severity>")
    return SPLITS[name]


def _labels(name: str) -> dict[str, int]:
    """Label of each class folder of a split, in label order."""
    split, words = _find(name), vocabulary()
    if split.numbered:
        return {str(label): label for label in range(len(words.wnids))}
    kept = words.subsets[split.subset] if split.subset else words.wnids
    return {wnid: label for label, wnid in enumerate(words.wnids) if wnid in kept}


def _locate(root: Path, folder: str) -> Path:
    """The first folder that fits the pattern, or the pattern itself where none does."""
    return next(iter(sorted(root.glob(folder))), root / folder)


def _some(ids: set[str]) -> str:
    shown = sorted(ids)[:3]
    return ", ".join(shown) + (f" and {len(ids) - len(shown):,} more" if len(ids) > len(shown) else "")
