"""Finding samples in a store of any size.

The first look at a store reads its narrow columns and the teacher's logits, a slice at a time, and writes a summary
of some 40 bytes a row beside the shards: an Arrow file that is mapped, never loaded. Filters and sorting work on the
columns they need; codes and pixels are read for the rows of a page alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dadlab.files import atomic_path
from dadlab.fingerprints import fingerprint
from dadlab.store import REASONS, read_manifest
from dadlab.widgets.latest import Tick

_NARROW = ["index", "variant", "label", "reason", "distance"]
_CONTENT = ["codes", "pixels", "logits"]
_AT_ONCE = 4096  # rows
_SUMMARY = pa.schema(
    [
        ("shard", pa.int32()),
        ("row", pa.int32()),
        ("index", pa.int64()),
        ("variant", pa.int32()),
        ("label", pa.int32()),
        ("reason", pa.int8()),
        ("distance", pa.float32()),
        ("confidence", pa.float32()),
        ("guess", pa.int32()),
    ]
)
_ANSWERS = [pa.field("student", pa.int32()), pa.field("disagreement", pa.float32())]
SORTS = ("position", "confidence", "distance", "disagreement", "label", "index")
Answer = Callable[[pa.RecordBatch], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Query:
    """Which samples, in which order.

    Attributes:
        label: their class, or None for all.
        reason: one of `REASONS`, `rejected` for all but the kept, or None for all.
        confidence: range of the teacher's largest probability.
        distance: range of ‖Q(x′) − x‖₂.
        differing: only samples on which student and teacher name different classes.
        sort, descending: a column of `SORTS`, and the direction.
    """

    label: int | None = None
    reason: str | None = None
    confidence: tuple[float, float] = (0.0, 1.0)
    distance: tuple[float, float] = (0.0, float("inf"))
    differing: bool = False
    sort: str = "position"
    descending: bool = False


class StoreIndex:
    """The summary of a store, and its shards.

    Args:
        folder: of the store; an unfinished store shows the shards that are there.
        tick: told the share read, where a summary has to be made first.

    Raises:
        ValueError: no store, one without a single shard, or a shard that cannot be read.
    """

    def __init__(self, folder: Path, tick: Tick = lambda share: None):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.shards = sorted(self.folder.glob("shard-*.parquet"))
        if not self.shards:
            raise ValueError(f"{folder}: the store has no shard yet; wait for generation or run it again")
        stamp = fingerprint([(p.name, p.stat().st_size) for p in self.shards], _SUMMARY.to_string())
        self._place = _writable(self.folder) / f"summary-{stamp}.arrow"
        if not self._place.is_file():
            old = list(self._place.parent.glob("summary-*.arrow"))
            _write(self._place, _SUMMARY, self._summarise(tick))
            for path in old:
                path.unlink(missing_ok=True)
        self._table = _mapped(self._place)

    def __len__(self) -> int:
        return len(self._table)

    @functools.cached_property
    def classes(self) -> int:
        """How many classes the teacher answers with."""
        with _shard(self.shards[0]) as file:
            return len(next(file.iter_batches(1, columns=["logits"]))["logits"][0])

    @property
    def furthest(self) -> float:
        return float(pc.max(self._table["distance"]).as_py())

    @property
    def answered(self) -> bool:
        """Whether a student's answers are there."""
        return "student" in self._table.column_names

    def tally(self) -> dict[str, int]:
        """How many rows were kept, and why the others were not."""
        counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(self._table["reason"]).to_pylist()}
        return {reason: counts.get(k, 0) for k, reason in enumerate(REASONS)}

    def find(self, query: Query) -> np.ndarray:
        """Positions (M,) of the samples that match, in order.

        Raises:
            ValueError: an unknown order, or one that needs a student's answers before one was asked.
        """
        if query.sort not in SORTS:
            raise ValueError(f"unknown order {query.sort!r}: choose one of {', '.join(SORTS)}")
        if (query.differing or query.sort == "disagreement") and not self.answered:
            raise ValueError("no student was asked about this store yet: choose one and press ask")
        table, wanted = self._table, None
        for condition in self._conditions(query):
            wanted = condition if wanted is None else pc.and_(wanted, condition)
        positions = np.arange(len(table)) if wanted is None else np.flatnonzero(wanted.to_numpy())
        if query.sort != "position":
            keys = pc.take(table[query.sort], pa.array(positions)).to_numpy()
            positions = positions[np.argsort(-keys if query.descending else keys, kind="stable")]
        elif query.descending:
            positions = positions[::-1]
        return positions

    def _conditions(self, query: Query) -> Iterator[pa.ChunkedArray]:
        table = self._table
        if query.label is not None:
            yield pc.equal(table["label"], query.label)
        if query.reason == "rejected":
            yield pc.not_equal(table["reason"], 0)
        elif query.reason is not None:
            yield pc.equal(table["reason"], REASONS.index(query.reason))
        for name, (low, high), widest in (
            ("confidence", query.confidence, (0.0, 1.0)),
            ("distance", query.distance, (0.0, float("inf"))),
        ):
            if (low, high) != widest:
                yield pc.and_(pc.greater_equal(table[name], low), pc.less_equal(table[name], high))
        if query.differing:
            yield pc.not_equal(table["student"], table["guess"])

    def rows(self, positions: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """The summary's rows at these positions, `reason` in words."""
        found = self._table.take(pa.array(np.asarray(positions, dtype=np.int64))).to_pylist()
        return [
            {"position": int(p), **row, "reason": REASONS[row["reason"]]}
            for p, row in zip(positions, found, strict=True)
        ]

    def content(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Codes or pixels, and logits, of some rows, read from their shards."""
        found: dict[int, dict[str, Any]] = {}
        for shard in {row["shard"] for row in rows}:
            mine = [row for row in rows if row["shard"] == shard]
            with _shard(self.shards[shard]) as file:
                for row in mine:
                    found[row["position"]] = _one_row(file, row["row"])
        return [found[row["position"]] for row in rows]

    def answer(self, name: str, ask: Answer, tick: Tick = lambda share: None) -> None:
        """Add a student's answers to every sample; those given before under this name are found again.

        Args:
            name: of the student: letters and digits that change with its weights.
            ask: from a slice of the store with `codes`, `pixels` and `logits` to classes (B,) and disagreement (B,).
            tick: told the share done.
        """
        place = self._place.with_name(f"{self._place.stem}-{name}.arrow")
        if not place.is_file():
            _write(place, pa.schema([*_SUMMARY, *_ANSWERS]), self._answered(ask, tick))
        self._table = _mapped(place)

    def _summarise(self, tick: Tick) -> Iterator[pa.RecordBatch]:
        for shard, row, batch in self._slices([*_NARROW, "logits"], tick):
            logits = _matrix(batch["logits"])
            reasons = np.array([REASONS.index(reason) for reason in batch["reason"].to_pylist()], dtype=np.int8)
            shares = np.exp(logits - logits.max(1, keepdims=True))
            columns = {
                "shard": np.full(len(batch), shard, np.int32),
                "row": np.arange(row, row + len(batch), dtype=np.int32),
                "reason": reasons,
                "confidence": (1 / shares.sum(1)).astype(np.float32),
                "guess": logits.argmax(1).astype(np.int32),
            }
            columns |= {name: batch[name].to_numpy() for name in _NARROW if name != "reason"}
            yield pa.RecordBatch.from_arrays(
                [pa.array(columns[field.name]).cast(field.type) for field in _SUMMARY], schema=_SUMMARY
            )

    def _answered(self, ask: Answer, tick: Tick) -> Iterator[pa.RecordBatch]:
        position, summary = 0, _mapped(self._place)
        for _, _, batch in self._slices(_CONTENT, tick, at_once=256):
            part = summary.slice(position, len(batch)).combine_chunks().to_batches()[0]
            guesses, disagreement = ask(batch)
            arrays = [*part.columns, pa.array(guesses, pa.int32()), pa.array(disagreement, pa.float32())]
            yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema([*_SUMMARY, *_ANSWERS]))
            position += len(batch)

    def _slices(
        self, columns: list[str], tick: Tick, at_once: int = _AT_ONCE
    ) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """All rows, so many at once: the number of their shard, the place of the first in it, and their columns."""
        for shard, path in enumerate(self.shards):
            with _shard(path) as file:
                row = 0
                for batch in file.iter_batches(at_once, columns=columns):
                    tick((shard + row / file.metadata.num_rows) / len(self.shards))
                    yield shard, row, batch
                    row += len(batch)


def find_stores(runs_dir: Path) -> list[Path]:
    """Folders of stores anywhere below `runs_dir`, newest first."""
    manifests = [p for p in Path(runs_dir).rglob("manifest.json") if any(p.parent.glob("shard-*.parquet"))]
    return [p.parent for p in sorted(manifests, key=lambda p: p.stat().st_mtime, reverse=True)]


def told(folder: Path, runs_dir: Path) -> str:
    """A store's place below `runs_dir`, and the attack that made it."""
    try:
        attack = read_manifest(folder)["attack"]
        how = f", {attack['norm']}, ε {attack['epsilon']:.3g}" if attack["epsilon"] else ", no attack"
    except (OSError, ValueError, KeyError, TypeError):
        how = ""  # being written
    return (str(folder.relative_to(runs_dir)) if folder != runs_dir else folder.name) + how


def _matrix(column: pa.ListArray) -> np.ndarray:
    """(B, C) float32 of a column of lists of equal length."""
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(column), -1)


@contextlib.contextmanager
def _shard(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: shard cannot be read ({error}); delete it and run generation again") from None


def _one_row(file: pq.ParquetFile, row: int) -> dict[str, Any]:
    """Codes or pixels, and logits, of one row of a shard; only the slice around it is decoded."""
    start = 0
    for batch in file.iter_batches(_AT_ONCE, columns=_CONTENT):
        if row < start + len(batch):
            return batch.slice(row - start, 1).to_pylist()[0]
        start += len(batch)
    raise ValueError(f"row {row} is not in this shard")


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _write(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with atomic_path(path) as temporary, pa.ipc.new_file(str(temporary), schema) as out:
        for batch in batches:
            out.write_batch(batch)


def _writable(folder: Path) -> Path:
    """The folder itself, or one for temporary files where the store may only be read."""
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir()) / f"dadlab-{fingerprint(str(folder))}"
