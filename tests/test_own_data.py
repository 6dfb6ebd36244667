"""One's own photographs: a folder of JPEGs with other class names, used as a newcomer would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from published import a_class

from dadlab import Run, load_discretizer, load_split, load_teacher, make_profile, measure, split_names
from dadlab.discretizer import VQGAN
from dadlab.disk.encoded import Encoded
from dadlab.making.discretizer import train_vqgan
from dadlab.photos import load_photos
from dadlab.render import render
from dadlab.store import open_dataset, tally
from dadlab.teacher import ClipTeacher, StudentTeacher

CLASSES = ("bag or trouser", "shoe", "top")
MERGED = ("top", "bag_or_trouser", "top", "top", "top", "shoe", "top", "shoe", "bag_or_trouser", "shoe")
SPLITS = {"train": ("train", "studio"), "val": ("val", "studio"), "pencil": ("test", "sketch")}
SMALL = {"epochs": 1, "variants": 1, "batch": 16, "views": 2, "attack": "paper"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/`, `val/` and `pencil/`, each with 64 JPEGs, wider than high, in three class folders."""
    root = tmp_path_factory.mktemp("own") / "my_photos"
    for split, (source, style) in SPLITS.items():
        photos = a_class(load_photos(source), 7)
        images, _ = render(photos.pixels, style, seed=5, index=photos.index)
        shown = list(zip(images.permute(0, 2, 3, 1).numpy(), photos.labels, photos.index, strict=True))[:64]
        for pixels, label, index in shown:
            path = root / split / MERGED[label] / f"photo {index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((60, 48)).save(path, quality=95)
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def own_teacher(folder: Path, runs: Path) -> str:
    """A plain network trained on the folder, as the file that `teacher` takes."""
    run = Run(make_profile(data=str(folder), **{**SMALL, "epochs": 6}), "plain")
    assert measure(run, runs, ["val"])["val"].shape == (64,)
    return str(run.folder(runs) / "student.safetensors")


@pytest.fixture(scope="module")
def own_discretizer(folder: Path, runs: Path) -> str:
    """A VQGAN trained on the folder's own training images, as the file that `discretizer` takes."""
    photos, out = load_split(str(folder), "train"), runs / "vqgan.safetensors"
    train_vqgan(photos.pixels, photos.labels, out, steps=3, batch=8, perceptual_steps=3, log=lambda line: None)
    return str(out)


def test_folder_reads_like_the_embedded_benchmark(folder: Path) -> None:
    assert split_names(str(folder)) == ["train", "val", "pencil"]
    pencil = load_split(str(folder), "pencil")
    assert (pencil.classes, len(pencil), pencil.pixels.shape) == (CLASSES, 64, (64, 3, 32, 32))
    assert pencil.images(torch.arange(4)).mean() > 0.6  # pencil on white paper
    assert load_split(str(folder), "train", image_size=24).pixels.shape == (64, 3, 24, 24)


def test_dad_with_own_teacher_in_pixel_space(folder: Path, runs: Path, own_teacher: str) -> None:
    profile = make_profile(data=str(folder), teacher=own_teacher, discretizer="identity", **SMALL)
    found = measure(Run(profile, "dad"), runs, ["val", "pencil"])
    assert {name: len(right) for name, right in found.items()} == {"val": 64, "pencil": 64}


def test_photographs_too_large_to_hold_are_decoded_as_training_goes(folder: Path, runs: Path) -> None:
    profile = make_profile(data=str(folder), image_size=64, discretizer="identity", teacher="resnet", **SMALL)
    assert isinstance(load_split(str(folder), "train", image_size=64).pixels, Encoded)
    found = measure(Run(profile, "dad"), runs, ["val", "pencil"])
    assert {name: len(right) for name, right in found.items()} == {"val": 64, "pencil": 64}


def test_dad_with_own_teacher_and_own_discretizer(
    folder: Path, runs: Path, own_teacher: str, own_discretizer: str
) -> None:
    profile = make_profile(data=str(folder), teacher=own_teacher, discretizer=own_discretizer, **SMALL)
    before = set((runs / "stores").glob("*/manifest.json"))
    assert len(measure(Run(profile, "dad"), runs, ["pencil"])["pencil"]) == 64
    (made,) = set((runs / "stores").glob("*/manifest.json")) - before
    rows = open_dataset(made.parent)
    assert sum(tally(rows).values()) == len(rows) == 64
    assert rows[0]["codes"] is not None
    assert isinstance(load_discretizer(own_discretizer), VQGAN)


def test_embedded_teacher_reads_the_folders_class_names(folder: Path, runs: Path) -> None:
    teacher = load_teacher("resnet", load_split(str(folder), "val").classes)
    assert isinstance(teacher, ClipTeacher)
    assert teacher(torch.rand(2, 3, 32, 32)).shape == (2, len(CLASSES))
    profile = make_profile(data=str(folder), teacher="resnet", discretizer="identity", **SMALL)
    assert len(measure(Run(profile, "dad"), runs, ["pencil"])["pencil"]) == 64


def test_missing_folder(tmp_path: Path, runs: Path) -> None:
    missing = tmp_path / "nowhere"
    with pytest.raises(ValueError, match=f"{missing}: no such folder"):
        measure(Run(make_profile(data=str(missing)), "plain"), runs, ["val"])


def test_unknown_split_names_those_there_are(folder: Path) -> None:
    with pytest.raises(ValueError, match="no split 'pen': it has train, val, pencil"):
        load_split(str(folder), "pen")


def test_a_teacher_of_ones_own_knows_its_classes(runs: Path, own_teacher: str) -> None:
    teacher = load_teacher(own_teacher, CLASSES)
    assert isinstance(teacher, StudentTeacher)
    assert teacher.student.names == CLASSES
    with pytest.raises(ValueError, match="teacher knows 3 classes, the data has 10"):
        measure(Run(make_profile(teacher=own_teacher, limit=20), "kd"), runs, ["val"])
