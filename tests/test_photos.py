import gc
import gzip
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from dadlab.photos import ASSETS, SPLITS, Photos, load_photos, read_published, split_published

PER_CLASS = {"train": 900, "val": 100, "test": 200, "v2": 100}
PIXELS = {  # SHA-256 of every split's pixels, first 16 digits
    "train": "4e87ee5ca84dd6a9",
    "val": "5697469dcc623273",
    "test": "688dcaa85d720f17",
    "v2": "718771ad61dad23b",
}


def test_archive_is_small():
    assert (ASSETS / "photos.npz").stat().st_size <= 7_000_000


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_has_the_same_number_of_photographs(split):
    assert np.bincount(load_photos(split).labels).tolist() == [PER_CLASS[split]] * 10


@pytest.mark.parametrize("split", SPLITS)
def test_pixels_are_pinned(split):
    photos = load_photos(split)
    assert (photos.pixels.shape[1:], photos.pixels.dtype) == ((28, 28), np.uint8)
    assert hashlib.sha256(photos.pixels.tobytes()).hexdigest()[:16] == PIXELS[split]


@pytest.mark.parametrize(("one", "other", "published"), [("train", "val", 60_000), ("test", "v2", 10_000)])
def test_splits_of_one_published_file_share_no_row(one, other, published):
    rows = np.concatenate([load_photos(one).index, load_photos(other).index])
    assert len(np.unique(rows)) == len(rows)
    assert rows.min() >= 0
    assert rows.max() < published


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SPLITS, 2)))
def test_splits_share_no_pixels(one, other):
    seen = {photo.tobytes() for photo in load_photos(one).pixels}
    assert seen.isdisjoint(photo.tobytes() for photo in load_photos(other).pixels)


def test_unknown_split_names_those_there_are():
    with pytest.raises(ValueError, match=r"'testing'.*train, val, test, v2"):
        load_photos("testing")


def damaged_archives() -> dict[str, bytes]:
    whole = (ASSETS / "photos.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    return {
        "empty": b"",
        "text": b"not an archive",
        "truncated": whole[: len(whole) // 2],
        "flipped bit": bytes(flipped),
        "header flipped": b"PK\x00\x00" + whole[4:],
    }


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "flipped bit", "header flipped"])
def test_damaged_archive_is_named_in_one_line(tmp_path, damage):
    path = tmp_path / "photos.npz"
    path.write_bytes(damaged_archives()[damage])
    with pytest.raises(ValueError, match=str(path)) as caught:
        load_photos("train", path)
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()  # an archive left open would warn here, and not in another test


def test_archive_of_something_else_is_named(tmp_path):
    np.savez(tmp_path / "other.npz", train_pixels=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz: not a photo archive .*train_labels"):
        load_photos("train", tmp_path / "other.npz")


def test_missing_archive_is_named_with_its_remedy(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path / 'none.npz'}.*not found.*git checkout"):
        load_photos("train", tmp_path / "none.npz")


def test_damaged_committed_archive_is_told_by_its_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.photos.ASSETS", tmp_path)
    np.savez(tmp_path / "photos.npz", anything=np.zeros(3))
    with pytest.raises(ValueError, match=r"corrupted \(SHA-256 .*expected e99e1709ff39"):
        load_photos("train", tmp_path / "photos.npz")


def published(count: int, seed: int) -> Photos:
    """`count` a class of random pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(10), count))
    return Photos(rng.integers(0, 256, (10 * count, 28, 28), dtype=np.uint8), labels, np.arange(10 * count))


def test_cut_uses_every_published_row_once_and_leaves_the_rest_to_the_teacher():
    train, test = published(1003, 0), published(300, 1)
    cut = split_published(train, test)
    assert {name: len(part) for name, part in cut.items()} == {
        "train": 9000, "val": 1000, "teacher": 30, "test": 2000, "v2": 1000,
    }  # fmt: skip
    assert sorted(np.concatenate([cut[name].index for name in ("train", "val", "teacher")])) == list(range(10_030))
    assert sorted(np.concatenate([cut[name].index for name in ("test", "v2")])) == list(range(3000))
    assert np.bincount(cut["teacher"].labels).tolist() == [3] * 10


def test_cut_never_changes():
    train, test = published(1003, 0), published(300, 1)
    first, again = split_published(train, test), split_published(train, test)
    assert all(np.array_equal(first[name].index, again[name].index) for name in first)


def write_idx(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    for name, magic, values in (("images-idx3", 2051, pixels), ("labels-idx1", 2049, labels)):
        header = b"".join(number.to_bytes(4, "big") for number in (magic, *values.shape))
        (folder / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def test_published_files_are_read_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    write_idx(tmp_path, pixels, np.array([3, 1, 4, 1]))
    found = read_published(tmp_path, "train")
    assert np.array_equal(found.pixels, pixels)
    assert found.labels.tolist() == [3, 1, 4, 1]
    assert found.index.tolist() == [0, 1, 2, 3]


def test_published_files_of_unequal_length(tmp_path):
    write_idx(tmp_path, np.zeros((4, 28, 28)), np.zeros(3))
    with pytest.raises(ValueError, match="4 train images but 3 labels"):
        read_published(tmp_path, "train")


def test_missing_published_file_names_the_package(tmp_path):
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: not found; .*dataset-fashion-mnist"):
        read_published(tmp_path, "train")


@pytest.mark.parametrize("damage", ["truncated", "not gzip", "bad stream", "other kind"])
def test_damaged_published_file_is_named(tmp_path, damage):
    write_idx(tmp_path, np.zeros((4, 28, 28)), np.zeros(4))
    path = tmp_path / "train-images-idx3-ubyte.gz"
    raw = path.read_bytes()
    content = {
        "truncated": raw[:20],
        "not gzip": b"pictures",
        "bad stream": raw[:10] + b"\xff" * 8 + raw[18:],
        "other kind": gzip.compress(b"\0\0\0\1" + b"\0" * 100),
    }
    path.write_bytes(content[damage])
    with pytest.raises(ValueError, match=path.name):
        read_published(tmp_path, "train")
