"""The store of discretized samples: Parquet shards of codes, labels, teacher logits and verdicts.

One row a (photograph, variant), accepted or not, so every sample is accounted for. Codes are kept instead of pixels:
the decoder draws them again. A shard is written whole or not at all; the manifest says what made the store, and a
store made by anything else is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset as HubDataset
from datasets.table import InMemoryTable

from dadlab.claims import write_once
from dadlab.files import atomic_path, write_json

AGREEMENT = "agreement.txt"  # how the first samples of a store made in bfloat16 agree with float32
REASONS = ("kept", "teacher wrong on x", "lost by Q", "fooled by the attack")
_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("variant", pa.int32()),
        ("label", pa.int64()),
        ("accepted", pa.bool_()),
        ("reason", pa.string()),
        ("distance", pa.float32()),
        ("logits", pa.list_(pa.float32())),
        ("codes", pa.list_(pa.uint16())),
        ("pixels", pa.list_(pa.uint8())),
    ]
)
_REPEATING = ["reason", "codes.list.element"]  # a dictionary of logits, no two of which are equal, is only in the way


@dataclass(frozen=True)
class Store:
    """A folder of shards.

    Attributes:
        folder: where it lies.
        shards: how many make it whole.
        suffix: of their names.
    """

    folder: Path
    shards: int
    suffix: str = "parquet"

    def path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}-of-{self.shards:05d}.{self.suffix}"

    @property
    def paths(self) -> list[Path]:
        return [self.path(shard) for shard in range(self.shards)]

    def missing(self) -> list[int]:
        return [shard for shard in range(self.shards) if not self.path(shard).is_file()]


def open_store(folder: Path, shards: int, manifest: dict[str, Any], suffix: str = "parquet") -> Store:
    """Open or begin a store.

    Raises:
        ValueError: the folder holds a store made from other data, teacher, discretizer or attack.
    """
    path = Path(folder) / "manifest.json"
    wanted = json.loads(json.dumps({**manifest, "shards": shards}))
    write_once(path, lambda: write_json(path, wanted))
    found = json.loads(path.read_text())
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        raise ValueError(
            f"{folder}: store was made with another {', '.join(differing)}; use another folder or delete it"
        )
    return Store(Path(folder), shards, suffix)


def write_shard(store: Store, shard: int, rows: Mapping[str, Sequence[Any]], *, precision: str = "float32") -> None:
    """Write one shard atomically; the same rows give the same bytes. A precision below float32 is noted in the file."""
    table = pa.table(dict(rows), schema=_SCHEMA)
    if precision != "float32":
        table = table.replace_schema_metadata({"precision": precision})
    with atomic_path(store.path(shard)) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=_REPEATING)


def precisions(store: Store) -> list[str]:
    """In which precision the samples of each shard were judged, from a finished store."""
    noted = [pq.read_schema(path).metadata or {} for path in store.paths]
    return [found.get(b"precision", b"float32").decode() for found in noted]


def whole_store(folder: Path, suffix: str = "parquet") -> Store:
    """Find a finished store.

    Raises:
        ValueError: no store, or an unfinished one.
    """
    store = Store(Path(folder), read_manifest(folder)["shards"], suffix)
    if store.missing():
        raise ValueError(
            f"{folder}: {len(store.missing())} of {store.shards} shards missing; run generation again to finish"
        )
    return store


def read_manifest(folder: Path) -> dict[str, Any]:
    """What made a store.

    Raises:
        ValueError: no store.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise ValueError(f"{folder}: no store here (manifest.json is missing)")
    return json.loads(path.read_text())


def read_shard(store: Store, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
    return pq.read_table(store.path(shard), schema=_SCHEMA, columns=None if columns is None else list(columns))


def open_dataset(folder: Path, columns: Sequence[str] | None = None) -> HubDataset:
    """The whole store as a Hugging Face dataset, in memory.

    Args:
        folder: where the store lies.
        columns: the columns that are wanted; all of them unless told.

    Raises:
        ValueError: no store, or an unfinished one.
    """
    store = whole_store(folder)
    tables = [read_shard(store, shard, columns) for shard in range(store.shards)]
    return HubDataset(InMemoryTable(pa.concat_tables(tables)))


def accepted(folder: Path) -> np.ndarray:
    """Which rows (N,) of a finished store the teacher still recognised: bool."""
    return open_dataset(folder, ["accepted"]).with_format("numpy")["accepted"][:]


def tally(dataset: HubDataset) -> dict[str, int]:
    """How many rows were kept, and why the others were not."""
    counts = dict.fromkeys(REASONS, 0)
    for reason in dataset["reason"][:]:  # all at once: row by row ImageNet's take a minute
        counts[reason] += 1
    return counts
