"""Hugging Face datasets with an image and a label column: a local folder of Parquet files, or a name on the hub.

`hf:` opens a memory-mapped table, any row at once, as training wants it; `datasets` first makes an Arrow copy as
large as the files, once. `hf-stream:` makes no copy: Parquet row groups are read when needed and the last few kept.
That is quick for whatever goes through samples in order, as tests, generation and, without Mixup, the teacher cache do;
training and Mixup's partners jump about and read a row group for every image.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import threading
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import fsspec
import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Features, Image
from datasets.exceptions import DatasetGenerationError

from dadlab.dataset import Dataset
from dadlab.disk import imagenet
from dadlab.disk.encoded import Encoded, Framing, Source
from dadlab.fingerprints import fingerprint
from dadlab.progress import one_line

_END = 2**16
KEPT_GROUPS = 8  # row groups in memory; 100 pictures of ImageNet each, about 11 MB


class Table:
    """Rows of a memory-mapped table."""

    def __init__(self, rows: datasets.Dataset, column: str, name: str, stamp: str):
        self.rows, self.column, self.name, self.fingerprint = rows.select_columns([column]), column, name, stamp

    def __len__(self) -> int:
        return len(self.rows)

    def open(self, row: int) -> str | BinaryIO:
        return _picture(self.rows[row][self.column])

    def where(self, row: int) -> str:
        return f"{self.name} row {row}"


class RowGroups:
    """Rows of Parquet files, read a row group at a time."""

    def __init__(self, urls: list[str], column: str, name: str, stamp: str):
        self.column, self.name, self.fingerprint = column, name, stamp
        self._groups = [(url, group) for url in urls for group in range(_parquet(url).num_row_groups)]
        sizes = (_parquet(url).metadata.row_group(group).num_rows for url, group in self._groups)
        self._starts = list(accumulate(sizes, initial=0))
        self._lock = threading.Lock()
        self._read = functools.lru_cache(maxsize=KEPT_GROUPS)(self._read_group)

    def __len__(self) -> int:
        return self._starts[-1]

    def open(self, row: int) -> str | BinaryIO:
        group = bisect_right(self._starts, row) - 1
        with self._lock:
            cells = self._read(group)
        return _picture(cells[row - self._starts[group]].as_py())

    def where(self, row: int) -> str:
        return f"{self.name} row {row}"

    def _read_group(self, number: int) -> Any:
        url, group = self._groups[number]
        return _parquet(url).read_row_group(group, columns=[self.column]).column(self.column)


def split_names(place: str) -> list[str]:
    """Splits of a Hugging Face dataset, but for those whose labels are withheld, as ImageNet's `test` there."""
    return [split for split, urls in _files(place).items() if not all(map(_withheld, urls))]


def open_split(place: str, split: str, size: int, *, stream: bool) -> Dataset:
    """One split, decoded on demand.

    Raises:
        ValueError: no such dataset or split, no image or label column, samples without label or with one that no class
            has, classes that are not the training split's.
    """
    found, name = _files(place), f"{place} {split}"
    if split not in found:
        raise ValueError(f"{place}: no split {split!r}: it has {', '.join(found)}")
    if "train" in found:
        _same_classes(found, split, name)
    stamp = fingerprint([_stamp(url) for url in found[split]])
    if stream:
        urls = found[split]
        features = Features.from_arrow_schema(_parquet(urls[0]).schema_arrow)
        image, label = _columns(features, name)
        labels = np.concatenate([_parquet(url).read(columns=[label]).column(label).to_numpy() for url in urls])
        source: Source = RowGroups(urls, image, name, stamp)
    else:
        rows = _load(place, split)
        features = rows.features
        image, label = _columns(features, name)
        labels = rows.data.column(label).to_numpy()
        raw = rows.cast_column(image, Image(decode=False)) if isinstance(features[image], Image) else rows
        source = Table(raw, image, name, stamp)
    if len(labels) == 0 or labels.min() < 0:
        raise ValueError(f"{name}: {int((labels < 0).sum())} of {len(labels)} samples without label")
    if isinstance(features[label], ClassLabel) or split == "train" or "train" not in found:
        classes = _classes(features[label], int(labels.max()) + 1)
    else:
        classes = open_split(place, "train", size, stream=stream).classes  # plain numbers: training says how many
    if labels.max() >= len(classes):
        outside = int((labels >= len(classes)).sum())
        raise ValueError(f"{name}: {outside} of {len(labels)} labels, up to {labels.max()}, for {len(classes)} classes")
    encoded = Encoded(source, Framing(size), torch.arange(len(labels)))
    return Dataset(split, classes, encoded, torch.from_numpy(labels.astype(np.int64)))


@functools.lru_cache(maxsize=4)
def _files(place: str) -> dict[str, list[str]]:
    """The data files of every split, as `datasets` finds them."""
    try:
        found = datasets.load_dataset_builder(place).config.data_files
        return {str(split): list(files) for split, files in found.items()}
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise ValueError(f"{place}: neither a folder of Parquet files nor a dataset on the hub ({reason})") from None


def _load(place: str, split: str) -> datasets.Dataset:
    try:
        return datasets.load_dataset(place, split=split)
    except DatasetGenerationError as error:
        raise ValueError(f"{place} {split}: cannot be read ({one_line(error.__cause__ or error)})") from None


def _same_classes(found: dict[str, list[str]], split: str, name: str) -> None:
    """Refuse a split whose class names differ from the training split's; `datasets` would give it those in silence."""
    own, wanted = _written(found[split][0], name), _written(found["train"][0], name)
    if len(own) != len(wanted):
        raise ValueError(f"{name}: {len(own)} class names, {len(wanted)} in train")
    for label, (mine, other) in enumerate(zip(own, wanted, strict=True)):
        if mine != other:
            raise ValueError(f"{name}: label {label} is {mine!r}, {other!r} in train: classes must have the same order")


def _withheld(url: str) -> bool:
    """Whether no sample in a Parquet file has a label, by the statistics of its row groups."""
    if not url.endswith(".parquet"):
        return False
    file = _parquet(url)
    _, label = _columns(Features.from_arrow_schema(file.schema_arrow), url)
    place = [file.schema.column(k).path for k in range(len(file.schema))].index(label)
    told = [file.metadata.row_group(group).column(place).statistics for group in range(file.num_row_groups)]
    return bool(told) and all(found is not None and found.has_min_max and found.max < 0 for found in told)


def _written(url: str, name: str) -> list[str]:
    """Class names in a Parquet file; none where it has none, or where it is another kind of file."""
    if not url.endswith(".parquet"):
        return []
    features = Features.from_arrow_schema(_parquet(url).schema_arrow)
    feature = features[_columns(features, name)[1]]
    return feature.names if isinstance(feature, ClassLabel) else []


def _parquet(url: str) -> pq.ParquetFile:
    """A Parquet file, opened once a process: processes that share a handle would move each other's place in it."""
    return _opened(url, str(_stamp(url)), os.getpid())


@functools.lru_cache(maxsize=4096)
def _opened(url: str, stamp: str, process: int) -> pq.ParquetFile:
    system, path = fsspec.core.url_to_fs(url)
    if not path.endswith(".parquet"):
        raise ValueError(f"{url}: only Parquet files can be streamed; use hf: instead of hf-stream:")
    return pq.ParquetFile(system.open(path))


def _columns(features: Features, name: str) -> tuple[str, str]:
    """Names of the image and the label column: by kind, or else called `image` and `label`."""
    wanted = (("image", Image), ("label", ClassLabel))
    found = [
        [key for key, kind in features.items() if isinstance(kind, typed)] or [called] * (called in features)
        for called, typed in wanted
    ]
    if [len(keys) for keys in found] != [1, 1]:
        raise ValueError(f"{name}: wants one image and one label column, has {', '.join(features)}")
    return found[0][0], found[1][0]


def _classes(feature: Any, count: int) -> tuple[str, ...]:
    """Class names as prompts want them; plain numbers where the column has none."""
    return imagenet.prompt_names(feature.names if isinstance(feature, ClassLabel) else [str(k) for k in range(count)])


def _picture(cell: dict[str, Any] | bytes) -> str | BinaryIO:
    if isinstance(cell, bytes):
        return io.BytesIO(cell)
    return io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"]


def _stamp(url: str) -> list[Any]:
    """A local file by name, size and end, where Parquet says what is in it; the hub's by address, revision included."""
    path = Path(url)
    if not path.is_file():
        return [url]
    with path.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _END))
        return [path.name, size, hashlib.sha256(opened.read()).hexdigest()]
