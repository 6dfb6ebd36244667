"""Small stand-ins for the published Fashion-MNIST files, for tests of what is trained from them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from dadlab.photos import SPLITS, Photos, load_photos


def write_published(folder: Path, photos: Photos, part: str = "train") -> None:
    """Write photographs as one part (`train` or `t10k`) of the published files: IDX format, gzip."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"images-idx3": (2051, photos.pixels), "labels-idx1": (2049, photos.labels.astype(np.uint8))}
    for name, (magic, values) in parts.items():
        header = b"".join(number.to_bytes(4, "big") for number in (magic, *values.shape))
        path = folder / f"{part}-{name}-ubyte.gz"
        path.write_bytes(gzip.compress(header + values.tobytes(), compresslevel=1, mtime=0))


def write_toy_published(folder: Path, *, spare: int = 4) -> None:
    """Both parts from the committed photographs: the cut leaves `spare` a class to teacher and discretizer."""
    committed = {split: load_photos(split) for split in SPLITS}
    write_published(folder, join(committed["train"], committed["val"], a_class(committed["v2"], spare)))
    write_published(folder, join(committed["test"], committed["v2"]), "t10k")


def a_class(photos: Photos, count: int) -> Photos:
    """The first `count` photographs of every class."""
    return photos.take(np.concatenate([np.flatnonzero(photos.labels == k)[:count] for k in np.unique(photos.labels)]))


def join(*parts: Photos) -> Photos:
    fields = ("pixels", "labels", "index")
    return Photos(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))
