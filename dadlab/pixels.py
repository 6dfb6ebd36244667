"""A store's accepted samples as encoded images, for readers without the discretizer and for trainings that repeat.

Shards are Arrow files with the columns `image` (encoded bytes, Hugging Face's `Image` feature), `label` (with class
names), `index` and `variant`: `datasets.load_dataset(folder)` opens them as they are, on disk or on the hub, and unlike
Parquet they can be memory-mapped, so a training reads any row without a copy of everything.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import ClassLabel, Features, Image, Value
from PIL import Image as Pillow

from dadlab.claims import fill
from dadlab.compute import in_precision
from dadlab.decode import draw, stored_column
from dadlab.discretizer import Discretizer
from dadlab.files import atomic_path
from dadlab.fingerprints import module_fingerprint
from dadlab.store import Store, open_store, precisions, read_manifest, read_shard, whole_store

_OPTIONS: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "png": {}}


def write_images(
    folder: Path,
    discretizer: Discretizer,
    classes: Sequence[str],
    out: Path,
    *,
    encoding: str = "webp",
    quality: int = 0,
) -> Store:
    """Draw a finished store's accepted samples into shards of encoded images; several processes may share the work.

    Args:
        folder: the store.
        discretizer: Q that made it; where its weights lie is where images are drawn, each shard in the precision that
            its samples were judged in.
        classes: class names in label order.
        out: where the images go; `dadlab.samples.images_folder(folder)` is where trainings look.
        encoding: `webp`, `png` or `jpeg`.
        quality: 1 to 100, lossy; 0 is lossless, which `jpeg` cannot be.

    Raises:
        ValueError: an unfinished store, another discretizer, an impossible encoding, or `out` holds other images.
    """
    store, manifest = whole_store(folder), read_manifest(folder)
    options = _options(encoding, quality)
    if module_fingerprint(discretizer) != manifest["discretizer"]:
        raise ValueError(f"{folder}: made with another discretizer; give the one of its profile")
    images = open_store(out, store.shards, {"store": manifest, "encoding": encoding, "quality": quality}, "arrow")
    features = Features(
        image=Image(), label=ClassLabel(names=list(classes)), index=Value("int64"), variant=Value("int32")
    )
    column = stored_column(discretizer)
    judged, drawer = precisions(store), functools.cache(functools.partial(in_precision, discretizer))

    def make(shard: int) -> None:
        q = drawer(judged[shard])
        rows = read_shard(store, shard, ["index", "variant", "label", "accepted", column]).filter(pc.field("accepted"))
        encoded = _encode(rows.column(column).combine_chunks(), q, encoding, options)
        columns = {"image": [{"bytes": image, "path": None} for image in encoded]}
        columns |= {name: rows.column(name).to_pylist() for name in ("label", "index", "variant")}
        table = pa.table(columns, schema=features.arrow_schema)
        with atomic_path(images.path(shard)) as temporary, pa.ipc.new_stream(str(temporary), table.schema) as stream:
            stream.write_table(table)

    fill(images.paths, make, "drawing shards")
    return images


def _encode(stored: pa.Array, discretizer: Discretizer, encoding: str, options: dict[str, Any]) -> list[bytes]:
    if not len(stored):
        return []
    images = draw(torch.tensor(stored.flatten().to_numpy().reshape(len(stored), -1)), discretizer)

    def encode(image: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Pillow.fromarray(image).save(buffer, encoding, **options)
        return buffer.getvalue()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(encode, images.permute(0, 2, 3, 1).numpy()))


def _options(encoding: str, quality: int) -> dict[str, Any]:
    if encoding not in ("webp", "png", "jpeg"):
        raise ValueError(f"unknown encoding {encoding!r}: choose 'webp', 'png' or 'jpeg'")
    if not 0 <= quality <= 100 or (encoding == "png" and quality):
        raise ValueError(f"quality {quality} of {encoding}: 1 to 100 is lossy, 0 lossless; png has no quality")
    if encoding == "jpeg" and not quality:
        raise ValueError("jpeg is never lossless: give a quality of 1 to 100, or choose webp or png")
    return {"quality": quality} if quality else _OPTIONS[encoding]
