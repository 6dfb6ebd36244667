"""The photographs behind the embedded benchmark: a balanced, committed part of Fashion-MNIST.

`assets/photos.npz` holds 28×28 grey photographs in four splits that share no photograph:
`train` (9,000) and `val` (1,000) from the published training set, `test` (2,000) and `v2` (1,000) from the
published test set. The other 50,000 training photographs belong to the teacher and the discretizer alone; they
are not committed, and are read from the published files (Debian's `dataset-fashion-mnist`) when those are trained
again. Source and licence: `assets/PHOTOS.md`.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).parent / "assets"
SPLITS = ("train", "val", "test", "v2")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
ARCHIVE_SHA256 = "e99e1709ff3991edf661271238151c8992fb0e4c928c88502200eca60a20ccb5"
_PER_CLASS = {"train": 900, "val": 100, "test": 200, "v2": 100}


@dataclass(frozen=True)
class Photos:
    """Grey photographs: `pixels` (N, 28, 28) uint8, `labels` (N,) int64, `index` (N,) row in the published file."""

    pixels: np.ndarray
    labels: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Photos:
        return Photos(self.pixels[rows], self.labels[rows], self.index[rows])


def load_photos(split: str, archive: Path = ASSETS / "photos.npz") -> Photos:
    """The committed photographs of one split.

    Raises:
        ValueError: unknown split, or an archive that is missing, damaged or not the published one.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown photo split {split!r}: choose one of {', '.join(SPLITS)}")
    return _read_archive(Path(archive))[split]


@functools.lru_cache(maxsize=2)
def _read_archive(archive: Path) -> dict[str, Photos]:
    if not archive.is_file():
        raise ValueError(f"{archive}: photo archive not found; restore it with `git checkout -- {archive}`")
    raw = archive.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if archive.parent == ASSETS and found != ARCHIVE_SHA256:
        raise ValueError(
            f"{archive}: photo archive is corrupted (SHA-256 {found[:12]}…, expected {ARCHIVE_SHA256[:12]}…)"
        )
    try:
        with np.load(io.BytesIO(raw)) as stored:
            fields = ("pixels", "labels", "index")
            return {split: Photos(*(stored[f"{split}_{field}"] for field in fields)) for split in SPLITS}
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError) as error:
        raise ValueError(f"{archive}: not a photo archive ({error})") from None


def read_published(folder: Path, part: str) -> Photos:
    """Read one part (`train` or `t10k`) of the published Fashion-MNIST files (IDX format, gzip) in `folder`."""
    pixels = _read_idx(Path(folder) / f"{part}-images-idx3-ubyte.gz", magic=2051, header=16).reshape(-1, 28, 28)
    labels = _read_idx(Path(folder) / f"{part}-labels-idx1-ubyte.gz", magic=2049, header=8).astype(np.int64)
    if len(pixels) != len(labels):
        raise ValueError(f"{folder}: {len(pixels)} {part} images but {len(labels)} labels")
    return Photos(pixels, labels, np.arange(len(labels)))


def _read_idx(path: Path, *, magic: int, header: int) -> np.ndarray:
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; `apt-get install dataset-fashion-mnist` provides it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if int.from_bytes(raw[:4], "big") != magic:
        raise ValueError(f"{path}: not an IDX file of the expected kind")
    return np.frombuffer(raw, np.uint8, offset=header)


def split_published(train: Photos, test: Photos) -> dict[str, Photos]:
    """Cut the published sets into the committed splits and `teacher`, the 50,000 the students never see.

    Every split is balanced over classes and drawn with one fixed seed, so the cut never changes.
    """
    rng = np.random.Generator(np.random.Philox(20231102))
    train_cut = _balanced_cut(train.labels, (_PER_CLASS["train"], _PER_CLASS["val"]), rng)
    test_cut = _balanced_cut(test.labels, (_PER_CLASS["test"], _PER_CLASS["v2"]), rng)
    return {
        "train": train.take(train_cut[0]),
        "val": train.take(train_cut[1]),
        "teacher": train.take(train_cut[2]),
        "test": test.take(test_cut[0]),
        "v2": test.take(test_cut[1]),
    }


def _balanced_cut(labels: np.ndarray, sizes: tuple[int, ...], rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of consecutive class-balanced parts of the given sizes a class, then the rest; each sorted."""
    by_class = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    edges = np.cumsum(sizes)
    return [np.sort(np.concatenate(part)) for part in zip(*(np.split(rows, edges) for rows in by_class), strict=True)]


def write_archive(folder: Path, archive: Path) -> str:
    """Make the committed archive from the published files; returns its SHA-256."""
    splits = split_published(read_published(folder, "train"), read_published(folder, "t10k"))
    fields = {
        f"{name}_{field}": getattr(splits[name], field) for name in SPLITS for field in ("pixels", "labels", "index")
    }
    np.savez_compressed(archive, **fields)
    return hashlib.sha256(archive.read_bytes()).hexdigest()
