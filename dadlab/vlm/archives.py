"""Where the six data sets of Li et al. (ICCV 2023) lie on disk, and how they are listed.

As their authors' archives or torchvision put them; nothing is ever downloaded. Below a folder:

    birds    CUB_200_2011/images/<class>/                  Caltech-UCSD Birds 200-2011
    cars     stanford_cars/{cars_train,devkit}/            Stanford Cars, training images alone, as torchvision
    flowers  flowers-102/{jpg,imagelabels.mat,setid.mat}   Oxford Flowers 102, as torchvision
    food     food-101/{images,meta}/                       Food-101, as torchvision
    sun      SUN397/                                       SUN397, as torchvision
    tiered   {train,val}/<WordNet id>/                     tiered-ImageNet

Class names are folder names without numbers and underscores, in small letters where they had a number; WordNet ids
are called as in `dadlab.disk.imagenet`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from timm.data import ImageNetInfo
from torchvision.datasets import SUN397, Flowers102, Food101, ImageFolder, StanfordCars

from dadlab.disk.imagenet import vocabulary


class Found(NamedTuple):
    """Files with labels, names of all labels, and how many of the first are seen where the data set says so."""

    samples: list[tuple[str, int]]
    names: Sequence[str]
    seen: int = 0


def _birds(root: Path) -> Found:
    found = ImageFolder(root / "CUB_200_2011" / "images")
    return Found(found.samples, found.classes)


def _cars(root: Path) -> Found:
    found = StanfordCars(root, "train", loader=str)
    return Found([found[k] for k in range(len(found))], found.classes)


def _flowers(root: Path) -> Found:
    parts = [Flowers102(root, split, loader=str) for split in ("train", "val", "test")]
    return Found([part[k] for part in parts for k in range(len(part))], Flowers102.classes)


def _food(root: Path) -> Found:
    parts = [Food101(root, split, loader=str) for split in ("train", "test")]
    return Found([part[k] for part in parts for k in range(len(part))], parts[0].classes)


def _sun(root: Path) -> Found:
    found = SUN397(root, loader=str)
    return Found([found[k] for k in range(len(found))], [name.replace("/", " ") for name in found.classes])


def _tiered(root: Path) -> Found:
    seen, unseen = (ImageFolder(root / part) for part in ("train", "val"))
    shifted = [(file, label + len(seen.classes)) for file, label in unseen.samples]
    return Found(seen.samples + shifted, wordnet_names([*seen.classes, *unseen.classes]), len(seen.classes))


@dataclass(frozen=True)
class Archive:
    """One data set: its column in Table 13, what its folder must have, and how it is listed."""

    column: str
    needs: tuple[str, ...]
    listed: Callable[[Path], Found]


ARCHIVES = {
    "birds": Archive("Birds", ("CUB_200_2011/images",), _birds),
    "cars": Archive("Cars", ("stanford_cars/cars_train", "stanford_cars/devkit"), _cars),
    "flowers": Archive("Flower", ("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"), _flowers),
    "food": Archive("Food", ("food-101/images", "food-101/meta"), _food),
    "sun": Archive("SUN", ("SUN397/ClassName.txt",), _sun),
    "tiered": Archive("tiered", ("train", "val"), _tiered),
}


def clean(name: str) -> str:
    """A class name for prompts.

    >>> clean("001.Black_footed_Albatross"), clean("pink-yellow dahlia?")
    ('black footed albatross', 'pink-yellow dahlia')
    """
    bare = re.sub(r"^\d+\.", "", name)
    return (bare if bare == name else bare.lower()).replace("_", " ").strip(" ?")


def wordnet_names(folders: Sequence[str]) -> list[str]:
    """What class folders are called in prompts.

    A folder that is a WordNet id of ImageNet's has its name of `dadlab.disk.imagenet`, or WordNet's first one where
    another class would have the same; any other folder has its own name.
    """
    known = dict(zip(vocabulary().wnids, vocabulary().names, strict=True))
    called = Counter(known.get(folder, folder) for folder in folders)
    first = {wnid: ImageNetInfo().label_name_to_description(wnid).split(",")[0] for wnid in folders if wnid in known}
    return [first.get(f, f) if called[known.get(f, f)] > 1 else known.get(f, f) for f in folders]
