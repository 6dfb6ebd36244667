"""The second paper's data sets as their authors lay them out, with a few grey pictures in every class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import Flowers102

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Mallard", "004.Artic_Tern")
CARS = ("AM General Hummer SUV 2000", "Audi TT RS Coupe 2012", "Ram C/V Cargo Van Minivan 2012", "smart fortwo 2012")
FOOD = ("apple_pie", "ceviche", "donuts", "waffles")
SUN = ("abbey", "apartment_building/outdoor", "synagogue/indoor", "zoo")
SEEN, UNSEEN = ("n03773504", "n02119789"), ("n04008634", "n02100735")  # missile, kit fox; projectile, English setter


def write_birds(root: Path, each: int = 10) -> Path:
    for label, name in enumerate(BIRDS):
        for k in range(each):
            draw(root / "CUB_200_2011" / "images" / name / f"{name[4:]}_{k:04d}_{796 + k}.jpg", label)
    (root / "CUB_200_2011" / "images" / BIRDS[0] / "._Black_footed_Albatross_0000_796.jpg").write_bytes(b"a Mac's")
    return root


def write_cars(root: Path, each: int = 10) -> Path:
    home, kind = root / "stanford_cars", [("class", np.uint8), ("fname", object)]
    rows = [(1 + k % len(CARS), f"{1 + k:05d}.jpg") for k in range(each * len(CARS))]
    for label, file in rows:
        draw(home / "cars_train" / file, label)
    (home / "devkit").mkdir()
    savemat(home / "devkit" / "cars_train_annos.mat", {"annotations": np.array(rows, kind)})
    savemat(home / "devkit" / "cars_meta.mat", {"class_names": np.array(CARS, object)})
    return root


def write_flowers(root: Path, each: int = 10) -> Path:
    """All 102 classes; torchvision checks the sums of the label files, which a test has to stop."""
    home, classes = root / "flowers-102", len(Flowers102.classes)
    labels = np.arange(each * classes) % classes + 1
    for k, label in enumerate(labels):
        draw(home / "jpg" / f"image_{1 + k:05d}.jpg", int(label))
    third = np.arange(1, 1 + len(labels)) % 3
    ids = {name: 1 + np.flatnonzero(third == k) for k, name in enumerate(("trnid", "valid", "tstid"))}
    savemat(home / "imagelabels.mat", {"labels": labels[None]})
    savemat(home / "setid.mat", ids)
    return root


def write_food(root: Path, each: int = 10) -> Path:
    home = root / "food-101"
    for label, name in enumerate(FOOD):
        for k in range(each):
            draw(home / "images" / name / f"{1000 + k}.jpg", label)
    (home / "meta").mkdir()
    for split, part in (("train", range(0, each, 2)), ("test", range(1, each, 2))):
        content = {name: [f"{name}/{1000 + k}" for k in part] for name in FOOD}
        (home / "meta" / f"{split}.json").write_text(json.dumps(content))
    return root


def write_sun(root: Path, each: int = 10) -> Path:
    for label, name in enumerate(SUN):
        for k in range(each):
            draw(root / "SUN397" / name[0] / name / f"sun_{label}{'abcdefghijklmno'[k]}.jpg", label)
    (root / "SUN397" / "ClassName.txt").write_text("".join(f"/{name[0]}/{name}\n" for name in SUN))
    return root


def write_tiered(root: Path, each: int = 10) -> Path:
    for split, folders in (("train", SEEN), ("val", UNSEEN), ("test", ("n01440764",))):
        for label, name in enumerate(folders):
            for k in range(each):
                draw(root / split / name / f"{name}_{k}.JPEG", label + 2 * (split == "val"))
    return root


WRITE = {
    "birds": write_birds,
    "cars": write_cars,
    "flowers": write_flowers,
    "food": write_food,
    "sun": write_sun,
    "tiered": write_tiered,
}


def toy_sizes(kind: str) -> dict[str, int]:
    """Table 13 of the stand-ins."""
    each = 51 if kind == "flowers" else 2
    return {"train": 7 * each, "id": 3 * each, "ood": 10 * each, "seen": each, "unseen": each}


def draw(path: Path, label: int) -> None:
    """Grey, the brighter the higher the label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 32), (2 * label,) * 3).save(path, quality=95)
