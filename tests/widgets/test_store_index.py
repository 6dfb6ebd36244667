"""Stores of any size: found, filtered, sorted."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dadlab.store import REASONS, open_store, write_shard
from dadlab.widgets.latest import Stopped
from dadlab.widgets.store_index import Query, StoreIndex, find_stores, told

MILLION = 1_000_000


def synthetic(folder: Path, count: int, shards: int, classes: int = 10) -> Path:
    """A store of random rows, codes of 4 entries."""
    store, rng = open_store(folder, shards, {"data": "d", "discretizer": "q"}), np.random.default_rng(0)
    size = count // shards
    codes = _lists(np.zeros((size, 4), np.uint16))
    for shard in range(shards):
        reason = rng.integers(0, 4, size)
        rows = {
            "index": np.arange(shard * size, (shard + 1) * size),
            "variant": np.zeros(size, np.int32),
            "label": rng.integers(0, classes, size),
            "accepted": reason == 0,
            "reason": np.array(REASONS)[reason],
            "distance": rng.random(size, dtype=np.float32),
            "logits": _lists(3 * rng.standard_normal((size, classes), dtype=np.float32)),
            "codes": codes,
            "pixels": pa.nulls(size, pa.list_(pa.uint8())),
        }
        write_shard(store, shard, rows)
    return folder


def _lists(values: np.ndarray) -> pa.ListArray:
    """A column of lists from (B, N), much faster than from lists."""
    return pa.ListArray.from_arrays(np.arange(0, values.size + 1, values.shape[1], dtype=np.int32), values.ravel())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic(tmp_path_factory.mktemp("stores") / "small", 600, 3)


@pytest.fixture(scope="module")
def truth(small: Path) -> pd.DataFrame:
    """What the index should say, by way of pandas."""
    table = pa.concat_tables(pq.read_table(path) for path in sorted(small.glob("shard-*.parquet"))).to_pandas()
    shares = torch.tensor(np.stack(table["logits"])).softmax(1)
    return table.assign(confidence=shares.max(1).values.numpy(), guess=shares.argmax(1).numpy())


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        (Query(), "index >= 0"),
        (Query(label=3), "label == 3"),
        (Query(reason="rejected"), "not accepted"),
        (Query(reason=REASONS[2]), f"reason == '{REASONS[2]}'"),
        (Query(confidence=(0.3, 0.7)), "0.3 <= confidence <= 0.7"),
        (Query(distance=(0.25, 0.5), label=1), "0.25 <= distance <= 0.5 and label == 1"),
        (Query(label=99), "label == 99"),
    ],
)
def test_filters_find_what_pandas_finds(small: Path, truth: pd.DataFrame, query: Query, condition: str) -> None:
    assert StoreIndex(small).find(query).tolist() == truth.query(condition).index.tolist()


@pytest.mark.parametrize("column", ["confidence", "distance", "label"])
@pytest.mark.parametrize("descending", [False, True])
def test_sorting(small: Path, truth: pd.DataFrame, column: str, descending: bool) -> None:
    found = StoreIndex(small).find(Query(sort=column, descending=descending))
    values = truth[column].to_numpy()[found]
    assert sorted(found.tolist()) == list(range(600))
    np.testing.assert_allclose(values, np.sort(values)[::-1] if descending else np.sort(values), rtol=1e-6)


def test_rows_and_contents_belong_together(small: Path, truth: pd.DataFrame) -> None:
    index, positions = StoreIndex(small), [599, 0, 250]
    rows = index.rows(positions)
    assert [row["reason"] for row in rows] == truth["reason"][positions].tolist()
    for row, content in zip(rows, index.content(rows), strict=True):
        np.testing.assert_allclose(content["logits"], truth["logits"][row["position"]])


def test_classes_are_those_that_the_teacher_answers_with(tmp_path: Path) -> None:
    """Of an unfinished store labels may be few."""
    assert StoreIndex(synthetic(tmp_path, 4, 1, classes=37)).classes == 37


def test_tally_adds_up(small: Path, truth: pd.DataFrame) -> None:
    assert StoreIndex(small).tally() == truth["reason"].value_counts()[list(REASONS)].to_dict()


def test_the_summary_is_made_once_and_again_when_shards_come(tmp_path: Path, small: Path) -> None:
    folder = synthetic(tmp_path / "growing", 100, 2)
    last = sorted(folder.glob("shard-*"))[-1]
    content = last.read_bytes()
    last.unlink()
    ticks: list[float] = []
    assert len(StoreIndex(folder, ticks.append)) == 50
    assert len(ticks) == 1
    assert len(StoreIndex(folder, ticks.append)) == 50
    assert len(ticks) == 1
    last.write_bytes(content)
    assert len(StoreIndex(folder)) == 100
    assert len(list(folder.glob("summary-*"))) == 1


def test_a_cancelled_summary_leaves_nothing(tmp_path: Path) -> None:
    def tick(share: float) -> None:
        if share > 0:
            raise Stopped

    folder = synthetic(tmp_path / "store", 100, 2)
    with pytest.raises(Stopped):
        StoreIndex(folder, tick)
    assert [path.name for path in folder.iterdir() if "summary" in path.name] == []


def test_a_million_rows_are_never_loaded(tmp_path: Path) -> None:
    index = StoreIndex(synthetic(tmp_path / "million", MILLION, 20))
    assert len(index) == MILLION
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    found = index.find(Query(label=3, reason="rejected", confidence=(0.5, 0.9), sort="distance", descending=True))
    rows = index.rows(found[24:48])
    contents = index.content(rows)
    most = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert most < 20e6, "the logits alone would take 40 MB"
    assert len(contents) == 24
    assert 10_000 < len(found) < 100_000
    assert all(row["label"] == 3 and row["reason"] != "kept" for row in rows)
    distances = [row["distance"] for row in rows]
    assert distances == sorted(distances, reverse=True)


def test_students_answers_are_kept_and_searched(small: Path, truth: pd.DataFrame) -> None:
    index, asked = StoreIndex(small), []

    def ask(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        asked.append(len(batch))
        logits = np.stack(batch["logits"].to_pylist())
        return logits.argmax(1) // 5 * 5, logits.max(1)

    with pytest.raises(ValueError, match="no student was asked"):
        index.find(Query(differing=True))
    index.answer("one", ask)
    assert sum(asked) == 600
    wrong = truth.index[truth["guess"] % 5 != 0].tolist()
    assert index.find(Query(differing=True)).tolist() == wrong
    again = StoreIndex(small)
    again.answer("one", ask)
    assert sum(asked) == 600
    gaps = [row["disagreement"] for row in again.rows(again.find(Query(sort="disagreement")))]
    assert gaps == sorted(gaps)


def test_bad_stores_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json is missing"):
        StoreIndex(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="no shard yet"):
        StoreIndex(tmp_path)
    (tmp_path / "shard-00000-of-00001.parquet").write_text("broken")
    with pytest.raises(ValueError, match=r"shard-00000-of-00001.*cannot be read"):
        StoreIndex(tmp_path)


def test_stores_are_found_below(small: Path) -> None:
    assert find_stores(small.parent) == [small]
    assert told(small, small.parent) == "small"  # made without an attack to tell of
