import hashlib
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadlab import data as module
from dadlab.data import FASHION, class_names, every_class, load_split, natural_adversarial, split_names
from dadlab.dataset import Dataset
from dadlab.disk import folders
from dadlab.disk.encoded import Encoded
from dadlab.photos import CLASSES, load_photos

PINNED = {  # SHA-256 of every split's pixels, first 16 digits: the benchmark is frozen
    "train": "185c480c124c14f1",
    "train_context": "dd5c2a65dcf89459",
    "val": "70fbac247c0fe56d",
    "val_context": "a9c72c4315aa432a",
    "studio": "4578bd15b63fc3b2",
    "v2": "f3df4a3f675549ef",
    "context": "8c9c46f9526585ae",
    "rendition": "bb071f2fa4bb161a",
    "sketch": "dd8b0dc335867568",
    "stylized": "885999aec7704d0b",
    "a": "895411c763fb0a6f",
}


def sha(dataset: Dataset) -> str:
    return hashlib.sha256(dataset.pixels.numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("split", PINNED)
def test_pixels_are_pinned(split):
    assert sha(load_split("fashion", split)) == PINNED[split]


def test_every_split_is_pinned():
    assert split_names("fashion") == list(FASHION) == list(PINNED)


@pytest.mark.parametrize("split", [name for name in FASHION if name != "a"])
def test_labels_are_those_of_the_photographs(split):
    dataset = load_split("fashion", split)
    assert dataset.labels.tolist() == load_photos(FASHION[split][0]).labels.tolist()
    assert dataset.classes == CLASSES


def test_a_is_the_listed_part_of_studio():
    rows = natural_adversarial()
    studio, hard = load_split("fashion", "studio"), load_split("fashion", "a")
    assert rows == sorted(set(rows))
    assert torch.equal(hard.pixels, studio.pixels[rows])
    assert torch.equal(hard.labels, studio.labels[rows])


def test_test_photographs_are_posed_otherwise_than_training_ones():
    assert {FASHION[split][2] for split in ("train", "train_context", "val", "val_context")} == {0}
    assert all(seed != 0 for source, _, seed in FASHION.values() if source in ("test", "v2"))


def test_images_are_the_pixels_in_unit_range(photos40):
    images = photos40.images(torch.tensor([3, 0]))
    assert images.dtype == torch.float32
    assert torch.equal((images * 255).round().to(torch.uint8), photos40.pixels[[3, 0]])
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize(("limit", "a_class"), [(10, 1), (40, 4), (47, 4), (3, 1)])
def test_limit_takes_the_first_of_every_class(limit, a_class):
    part, whole = load_split("fashion", "val", limit=limit), load_split("fashion", "val")
    first = [torch.nonzero(whole.labels == label)[:a_class, 0] for label in range(10)]
    rows = torch.cat(first).sort().values
    assert torch.equal(part.labels, whole.labels[rows])
    assert torch.equal(part.pixels, whole.pixels[rows])


def test_limit_counts_the_classes_that_are_there():
    labels = torch.tensor([98, 99] * 300)
    assert len(every_class(labels, 500)) == 500
    assert every_class(labels, 1).tolist() == [0, 1]


@pytest.mark.parametrize("limit", [0, 1000, 5000])
def test_no_limit_keeps_all(limit):
    assert len(load_split("fashion", "val", limit=limit)) == 1000


def test_fingerprint_follows_pixels_labels_and_classes(photos40):
    other_pixels = Dataset("x", photos40.classes, photos40.pixels.flip(0), photos40.labels)
    other_labels = Dataset("x", photos40.classes, photos40.pixels, photos40.labels.flip(0))
    other_classes = Dataset("x", photos40.classes[::-1], photos40.pixels, photos40.labels)
    same = Dataset("x", photos40.classes, photos40.pixels.clone(), photos40.labels)
    assert same.fingerprint == photos40.fingerprint
    assert len({d.fingerprint for d in (photos40, other_pixels, other_labels, other_classes)}) == 4


def test_unknown_split_names_those_there_are():
    with pytest.raises(ValueError, match=r"'scetch'.*sketch"):
        load_split("fashion", "scetch")


# folders of images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/ and val/ with the classes `garden gnome` (red) and `owl` (blue), two JPEGs each, wider than high."""
    for split in ("train", "val"):
        for name, colour in (("garden_gnome", (220, 20, 20)), ("owl", (20, 20, 220))):
            (tmp_path / split / name).mkdir(parents=True)
            for k in range(2):
                Image.new("RGB", (60, 40), colour).save(tmp_path / split / name / f"{k}.jpg")
    return tmp_path


def test_folder_is_read(folder):
    found = load_split(str(folder), "val")
    assert found.classes == ("garden gnome", "owl")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.pixels.shape == (4, 3, 32, 32)
    assert (found.images(torch.arange(4))[:, 0].mean((1, 2)) > 0.5).tolist() == [True, True, False, False]


def test_class_names_are_those_of_the_split_and_need_no_image(folder):
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"")
    assert class_names(str(folder), "train") == ("garden gnome", "owl")
    assert class_names("fashion", "train") == load_split("fashion", "val").classes


@pytest.mark.parametrize("size", [16, 48])
def test_folder_images_take_the_asked_size(folder, size):
    assert load_split(str(folder), "train", image_size=size).pixels.shape == (4, 3, size, size)


def test_wide_image_is_cropped_at_its_centre_not_squeezed(folder):
    stripes = np.zeros((32, 96, 3), np.uint8)
    stripes[:, 32:64] = 255
    Image.fromarray(stripes).save(folder / "train" / "owl" / "stripes.png")
    assert load_split(str(folder), "train").pixels[-1].float().mean() > 240


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_of_image_becomes_rgb(folder, mode):
    suffix = "tif.jpg" if mode == "CMYK" else "png"
    Image.new("RGB", (40, 40), (255, 255, 255)).convert(mode).save(folder / "val" / "owl" / f"z.{suffix}")
    assert load_split(str(folder), "val").pixels[-1].min() > 250


def test_splits_of_a_folder_name_training_ones_first(folder):
    for name in ("aquarelle", "zoo"):
        (folder / name).mkdir()
    assert split_names(str(folder)) == ["train", "val", "aquarelle", "zoo"]


def test_labels_follow_train_where_a_split_lacks_a_class(folder):
    (folder / "night" / "owl").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(folder / "night" / "owl" / "0.jpg")
    found = load_split(str(folder), "night")
    assert found.labels.tolist() == [1]
    assert found.classes == ("garden gnome", "owl")


def test_other_files_are_left_alone(folder):
    (folder / "README.txt").write_text("gnomes")
    (folder / "val" / "labels.csv").write_text("0")
    (folder / "val" / "owl" / "notes.txt").write_text("hoots")
    assert len(load_split(str(folder), "val")) == 4


def test_limit_of_a_folder(folder):
    assert load_split(str(folder), "val", limit=2).labels.tolist() == [0, 1]


def png(side: int, stream: bytes) -> bytes:
    """A PNG with right checksums, whatever its pixel stream."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


def broken_files(folder: Path) -> dict[str, tuple[str, bytes]]:
    whole = (folder / "val" / "owl" / "0.jpg").read_bytes()
    return {
        "empty": ("bad.jpg", b""),
        "text": ("bad.png", b"hello"),
        "truncated": ("bad.jpg", whole[: len(whole) // 2]),
        "garbage": ("bad.png", png(8, b"\xff" * 30)),
        "decompression bomb": ("bad.png", png(60_000, zlib.compress(b"\0"))),
    }


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "garbage", "decompression bomb"])
def test_broken_file_is_named_in_one_line(folder, kind):
    name, content = broken_files(folder)[kind]
    path = folder / "val" / "owl" / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"1 unreadable image\(s\), first {path}") as caught:
        load_split(str(folder), "val")
    assert "\n" not in str(caught.value)


def test_unknown_class_folder_is_named(folder):
    (folder / "val" / "troll").mkdir()
    with pytest.raises(ValueError, match=rf"class folders troll are not in {folder / 'train'}"):
        load_split(str(folder), "val")


def test_missing_split_names_those_there_are(folder):
    with pytest.raises(ValueError, match=rf"{folder}: no split 'test': it has train, val"):
        load_split(str(folder), "test")


def test_missing_folder_says_what_is_wanted(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path / 'none'}: no such folder; .*train/ and val/"):
        load_split(str(tmp_path / "none"), "train")


def test_split_without_images_names_the_formats(tmp_path):
    (tmp_path / "train" / "owl").mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"{tmp_path / 'train'}: no images \(.*\.jpg.*\)"):
        load_split(str(tmp_path), "train")


def test_a_folder_is_read_once_until_files_come_or_go(folder, monkeypatch):
    first = load_split(str(folder), "val")
    assert load_split(str(folder), "val") is first
    Image.new("RGB", (40, 40)).save(folder / "val" / "owl" / "new.png")
    assert len(load_split(str(folder), "val")) == 5


def test_photographs_and_large_folders_stay_encoded(folder, monkeypatch):
    held, photographs = load_split(str(folder), "val"), load_split(str(folder), "val", image_size=64)
    monkeypatch.setattr(module, "MEMORY", 4 * 3 * 24 * 24 - 1)
    large = load_split(str(folder), "val", image_size=24)
    assert isinstance(held.pixels, torch.Tensor)
    assert isinstance(photographs.pixels, Encoded)
    assert isinstance(large.pixels, Encoded)
    assert torch.equal(large.images(torch.arange(4), 3), large.in_memory().images(torch.arange(4), 3))
    assert torch.equal(large.labels, held.labels)


def test_parts_of_an_encoded_split(folder):
    whole = load_split(str(folder), "val", image_size=64)
    part = whole.take(torch.tensor([3, 0]))
    assert torch.equal(part.images(torch.arange(2)), whole.images(torch.tensor([3, 0])))
    assert (part.labels.tolist(), len(part)) == ([1, 0], 2)
    assert part.fingerprint != whole.fingerprint


def test_fingerprint_of_an_encoded_split_follows_its_files(folder):
    def found(root):
        return load_split(str(root), "val", image_size=64).fingerprint

    before = found(folder)
    copy = folder / "elsewhere"
    shutil.copytree(folder / "train", copy / "train")
    shutil.copytree(folder / "val", copy / "val")
    assert found(copy) == before
    path = copy / "val" / "owl" / "1.jpg"
    os.utime(path, (1, 1))
    assert found(copy) == before
    (copy / "val" / "owl" / "2.jpg").write_bytes(path.read_bytes())
    assert found(copy) != before
    (copy / "val" / "owl" / "2.jpg").unlink()
    assert found(copy) == before


def test_fingerprint_notices_other_content_of_the_same_size(folder):
    path = folder / "val" / "owl" / "1.jpg"
    before = folders.list_files(folder / "val", ["owl"]).fingerprint
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    folders._list_files.cache_clear()  # as in the next process
    assert folders.list_files(folder / "val", ["owl"]).fingerprint != before


def test_broken_photograph_is_found_before_work_starts(folder):
    path = folder / "val" / "owl" / "bad.jpg"
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match=rf"^val: unreadable images in a sample, first {path}: "):
        load_split(str(folder), "val", image_size=64)


def test_nested_and_hidden_files(folder):
    for name in ("night", ".ipynb_checkpoints"):
        (folder / "val" / "owl" / name).mkdir()
    for name in ("night/a.png", "._0.jpg", ".ipynb_checkpoints/0-checkpoint.jpg"):
        Image.new("RGB", (64, 64)).save(folder / "val" / "owl" / name, "png")
    assert load_split(str(folder), "val").labels.tolist() == [0, 0, 1, 1, 1]
