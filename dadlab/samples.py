"""Accepted samples of a store as a dataset: read where they are written as images, else drawn from their codes.

ImageNet's store is 2 GB of codes and 190 GB of pixels. Images that `dadlab.pixels` wrote are read a batch at a time.
Without them all are drawn at once where they fit into memory; else the codes of accepted rows are copied once into one
memory-mapped file beside the shards, and drawn a batch at a time.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Features
from PIL import Image
from torch import Tensor

from dadlab.ahead import local_device
from dadlab.compute import in_precision
from dadlab.dataset import Dataset, to_bytes
from dadlab.decode import accepted_rows, draw, materialize, stored_column
from dadlab.discretizer import Discretizer
from dadlab.disk.encoded import threads
from dadlab.files import atomic_path, write_array
from dadlab.fingerprints import fingerprint, module_fingerprint, sha256
from dadlab.generate import read_variants
from dadlab.progress import say
from dadlab.store import accepted, open_dataset, precisions, read_manifest, read_shard, whole_store
from dadlab.views import square_views

IN_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class StoredSamples(Dataset):
    """A dataset whose images are drawn when they are asked for.

    Attributes:
        pixels: (N,) int64, the row of each sample in what `read` reads.
        read: rows to their pixels (B, 3, H, W) uint8.
        key: fingerprint of everything that `read` can read.
    """

    pixels: Tensor = field(repr=False)
    read: Callable[[Tensor], Tensor] = field(kw_only=True, repr=False)
    key: str = field(kw_only=True)

    def images(self, index: Tensor, view: int = -1) -> Tensor:
        """Images (B, 3, H, W) float32 in [0, 1]: as they are, or their replayable view.

        Drawn on a CPU or a GPU they may differ by a level of 1/255 where a value lies between two.
        """
        return square_views(self.read(self.pixels[index]).float() / 255, index, view)

    def take(self, index: Tensor) -> StoredSamples:
        return replace(self, pixels=self.pixels[index], labels=self.labels[index])

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint(list(self.classes), self.key, self.pixels, self.labels)


@dataclass(frozen=True)
class CodeReader:
    """Draws rows of a memory-mapped file of codes (or of pixels, where Q has no codes)."""

    path: Path
    discretizer: Discretizer = field(repr=False)

    def __call__(self, rows: Tensor) -> Tensor:
        stored = np.load(self.path, mmap_mode="r")
        return draw(torch.from_numpy(stored[rows.numpy()]), self.discretizer)


@dataclass(frozen=True)
class ImageReader:
    """Decodes encoded images of memory-mapped Arrow files; `starts` are the first rows of the files, and the end."""

    paths: tuple[Path, ...]
    starts: tuple[int, ...]

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.stack(list(threads().map(self._decode, rows.tolist())))

    def _decode(self, row: int) -> Tensor:
        shard = bisect.bisect_right(self.starts, row) - 1
        stored = mapped(self.paths[shard])["image"][row - self.starts[shard]]  # a row alone: chunks are never joined
        with Image.open(io.BytesIO(stored["bytes"].as_py())) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


@functools.lru_cache(maxsize=4096)
def mapped(path: Path) -> pa.Table:
    """An Arrow file, memory-mapped."""
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def images_folder(folder: Path) -> Path:
    """Where the images of a store are looked for."""
    return Path(folder).with_name(f"{Path(folder).name}-images")


def open_samples(folder: Path, discretizer: Discretizer, source: Dataset) -> Dataset:
    """The accepted samples of a finished store: its written images; or drawn, up to 4 GiB of pixels at once.

    Args:
        folder: where the store lies.
        discretizer: Q that made it; moved to this process's accelerator if it draws all at once.
        source: the photographs it was made from.

    Raises:
        ValueError: no store, an unfinished one, or nothing was accepted; or images are there that are not its own, or
            lossy, of which a run's name would not tell.
    """
    if (images := images_folder(folder)).is_dir():
        _check_images(images, folder)
        with contextlib.suppress(ValueError):  # unfinished
            return image_samples(images)
    column = stored_column(discretizer)
    count = int(accepted(folder).sum())
    if count * source.images(torch.zeros(1, dtype=torch.int64)).numel() <= IN_MEMORY:
        drawer = _as_judged(folder, discretizer.to(local_device()))
        return materialize(open_dataset(folder, ["label", "accepted", column]), drawer, source)
    if column == "codes":
        say(
            f"{count:,} samples are decoded on the CPU each time they are read: to train on them write them as "
            'images first, notebooks/generate.ipynb with images="webp"'
        )
    return stored_samples(folder, discretizer, source)


def _check_images(images: Path, folder: Path) -> None:
    made = read_manifest(images)
    if made["store"] != read_manifest(folder):
        raise ValueError(f"{images}: images of another store than {folder.name} is now; delete them")
    if made["quality"]:
        kind = f"{made['encoding']} of quality {made['quality']}"
        raise ValueError(f"{images}: lossy images ({kind}); write them again without loss, or move them away")


def image_samples(folder: Path) -> StoredSamples:
    """The samples of a folder that `dadlab.pixels` wrote, read and decoded on demand.

    Raises:
        ValueError: no such folder, or an unfinished one.
    """
    store = whole_store(folder, "arrow")
    columns = [mapped(path).column("label").to_numpy() for path in store.paths]
    labels = torch.from_numpy(np.concatenate(columns).astype(np.int64))
    starts = np.cumsum([0, *map(len, columns)])
    classes = tuple(Features.from_arrow_schema(mapped(store.path(0)).schema)["label"].names)
    key = fingerprint(read_manifest(folder), [path.stat().st_size for path in store.paths])
    reader = ImageReader(tuple(store.paths), tuple(starts.tolist()))
    return StoredSamples(f"{folder.name}", classes, torch.arange(len(labels)), labels, read=reader, key=key)


def stored_samples(folder: Path, discretizer: Discretizer, source: Dataset) -> StoredSamples:
    """The accepted samples of a finished store, decoded on demand.

    Raises:
        ValueError: no store, an unfinished one, or nothing was accepted.
    """
    codes, labels = _copy_accepted(Path(folder), stored_column(discretizer))
    key = fingerprint(sha256(codes), module_fingerprint(discretizer))
    found = torch.from_numpy(np.load(labels))
    name, rows, reader = f"{source.name} discretized", torch.arange(len(found)), _as_judged(folder, discretizer)
    return StoredSamples(name, source.classes, rows, found, read=CodeReader(codes, reader), key=key)


def _as_judged(folder: Path, discretizer: Discretizer) -> Discretizer:
    """A discretizer in the precision that a store's samples were judged in; in float32 where that differs."""
    precision, *others = set(precisions(whole_store(folder)))
    return discretizer if others else in_precision(discretizer, precision)


@dataclass(frozen=True)
class SourceReader:
    """Draws again the clean views that rows of a store were made from, 8 bits a value."""

    source: Dataset = field(repr=False)

    def __call__(self, rows: Tensor) -> Tensor:
        return to_bytes(read_variants(self.source, rows))


def open_sources(folder: Path, source: Dataset) -> StoredSamples:
    """The clean views that a finished store's accepted samples were made from, in the order of `open_samples`.

    A sample and its source have one index, so that any view of them is cut and mixed alike.

    Args:
        folder: where the store lies.
        source: the photographs it was made from.

    Raises:
        ValueError: no store, or an unfinished one.
    """
    rows = torch.from_numpy(np.flatnonzero(accepted(folder)))
    key, labels = fingerprint(source.fingerprint, "sources"), source.labels[rows % len(source)]
    return StoredSamples(f"{source.name} sources", source.classes, rows, labels, read=SourceReader(source), key=key)


def _copy_accepted(folder: Path, column: str) -> tuple[Path, Path]:
    """Two files: `column` of the accepted rows as an array (M, n), shard by shard; and their labels (M,) int64."""
    store, rows, labels = whole_store(folder), folder / f"accepted-{column}.npy", folder / "accepted-labels.npy"
    if rows.is_file() and labels.is_file():
        return rows, labels
    judged = open_dataset(folder, ["accepted", "label"]).with_format("numpy")
    chosen = np.asarray(judged["label"][:], dtype=np.int64)[accepted_rows(judged)]
    write_array(labels, chosen)
    with atomic_path(rows) as temporary:
        written = None
        done = 0
        for shard in range(store.shards):
            table = read_shard(store, shard, ["accepted", column])
            part = table.filter(pc.field("accepted"))[column].combine_chunks()
            values = part.flatten().to_numpy().reshape(len(part), -1) if len(part) else None
            if values is None:
                continue
            if written is None:
                shape = (len(chosen), values.shape[1])
                written = np.lib.format.open_memmap(temporary, mode="w+", dtype=values.dtype, shape=shape)
            written[done : done + len(values)] = values
            done += len(values)
    return rows, labels
