"""Stores of any size: found, filtered, sorted, paged, marked, exported."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dadlab.data import Dataset
from dadlab.discretizer import load_vqgan
from dadlab.fingerprints import module_fingerprint
from dadlab.generate import generate
from dadlab.profile import Attack
from dadlab.store import REASONS, open_store, write_shard
from dadlab.students import save_student
from dadlab.widgets import StoreBrowser, samples
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


def test_a_store_is_told_by_its_attack(runs: Path) -> None:
    assert told(runs / "stores" / "a", runs) == f"{Path('stores', 'a')}, l2, ε 1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, photos40: Dataset, tiny_teacher, tiny_student, files) -> Path:
    """A real store of forty photographs, two variants each, and a student."""
    folder = tmp_path_factory.mktemp("runs")
    discretizer = load_vqgan(files["vqgan"])
    generate(photos40, tiny_teacher, discretizer, Attack("l2", 1.0, 1.0, 1), folder / "stores" / "a", variants=2)
    save_student(folder / "kd" / "student.safetensors", tiny_student)
    return folder


@pytest.fixture
def view(runs: Path, photos40: Dataset, files: dict[str, Path]) -> StoreBrowser:
    made = StoreBrowser(runs, sources=[photos40], discretizers=[str(files["vqgan"])])
    assert made.wait()
    assert made.problem.value == ""
    return made


def test_images_come_from_codes_or_pixels(tiny_vqgan) -> None:
    codes = [{"codes": list(range(4)) * 64, "pixels": None}]
    images = samples.images_of(codes, tiny_vqgan)
    torch.testing.assert_close(images, tiny_vqgan.decode(torch.tensor(codes[0]["codes"]).view(1, 16, 16)))
    pixels = samples.images_of([{"codes": None, "pixels": [255] * 48}], None)
    assert pixels.shape == (1, 3, 4, 4)
    assert (pixels == 1).all()


def test_without_its_discretizer_a_store_is_still_listed(runs: Path, photos40: Dataset) -> None:
    view = StoreBrowser(runs, sources=[photos40], discretizers=["identity"])
    assert view.wait()
    assert "no discretizer at hand" in view.status.value
    assert "80 of 80 samples match" in view.count.value
    view.gallery.cells[0].click()
    assert view.problem.value == ""


def test_the_store_is_paged(view: StoreBrowser) -> None:
    assert view.page.max == 4
    first = [cell.tooltip for cell in view.gallery.cells]
    view.forth.click()
    assert view.wait()
    assert view.page.value == 2
    assert [cell.tooltip for cell in view.gallery.cells] != first
    view.page.value = 4
    assert view.wait()
    assert sum(cell.layout.display != "none" for cell in view.gallery.cells) == 80 - 3 * 24


def test_filters_begin_at_the_first_page(view: StoreBrowser) -> None:
    view.page.value = 2
    assert view.wait()
    view.label.value = 3
    assert view.wait()
    assert view.page.value == 1
    assert "8 of 80 samples match" in view.count.value
    view.label.value = -1
    assert view.wait()
    assert "80 of 80 samples match" in view.count.value


def test_a_click_opens_a_sample_with_its_photograph(view: StoreBrowser) -> None:
    view.gallery.cells[2].click()
    assert view.problem.value == ""
    assert "photograph 2, variant 0" in view.detail.value
    assert view.detail.value.count("<image") == 3


def test_marks_survive_paging_and_are_exported(view: StoreBrowser, tmp_path: Path) -> None:
    view.gallery.cells[1].click()
    view.mark.value = True
    assert view.gallery.cells[1].description.startswith("★")
    view.forth.click()
    assert view.wait()
    view.gallery.cells[0].click()
    assert not view.mark.value
    view.mark.value = True
    for name in ("marks.csv", "marks.json"):
        view.file.value = str(tmp_path / name)
        view.save.click()
        assert "2 marked" in view.saved.value, view.problem.value
    assert pd.read_csv(tmp_path / "marks.csv")["index"].tolist() == [1, 24]
    assert [entry["index"] for entry in json.loads((tmp_path / "marks.json").read_text())] == [1, 24]
    view.clear.click()
    view.save.click()
    assert "no sample is marked" in view.problem.value


def test_nothing_of_one_store_is_filed_under_another(runs: Path, tmp_path: Path, photos40: Dataset, files) -> None:
    for name in ("a", "b", "damaged"):
        shutil.copytree(runs / "stores" / "a", tmp_path / name)
    for shard in (tmp_path / "damaged").glob("shard-*"):
        shard.write_bytes(b"")
    view = StoreBrowser(tmp_path, sources=[photos40], discretizers=[str(files["vqgan"])])
    view.store.value = tmp_path / "a"
    assert view.wait()
    view.gallery.cells[1].click()
    view.store.value = tmp_path / "b"
    assert view.wait()
    assert view.mark.disabled
    assert view.detail.value == ""
    view.gallery.cells[2].click()
    view.mark.value = True
    view.store.value = tmp_path / "damaged"
    assert view.wait()
    view.mark_page.click()
    assert [(mark["store"], mark["index"]) for mark in view.marks] == [(str(tmp_path / "b"), 2)]
    view.label.value = 3
    assert view.wait()
    assert "shard cannot be read" in view.problem.value
    with pytest.raises(ValueError, match="nothing to draw yet"):
        view.figure()
    view.store.value, view.label.value = tmp_path / "b", -1
    assert view.wait()
    assert view.problem.value == ""
    assert view.gallery.cells[2].description.startswith("★")


def test_a_filter_moved_while_a_store_opens_waits_for_it(runs: Path, tmp_path: Path, photos40, files) -> None:
    for name in ("a", "b"):
        shutil.copytree(runs / "stores" / "a", tmp_path / name)
    view = StoreBrowser(tmp_path, sources=[photos40], discretizers=[str(files["vqgan"])])
    view.store.value = tmp_path / "a"
    assert view.wait()
    view.start(lambda tick: time.sleep(0.2))  # keeps the opening waiting
    view.store.value = tmp_path / "b"
    view.reason.value = REASONS[0]
    assert view.wait()
    assert {row["store"] for row in view._rows} == {str(tmp_path / "b")}


def test_marks_go_to_csv_or_json_alone(view: StoreBrowser, tmp_path: Path) -> None:
    view.mark_page.click()
    view.file.value = str(tmp_path / "marks.txt")
    view.save.click()
    assert ".csv or .json" in view.problem.value
    assert len(view.marks) == 24


def test_a_student_is_asked(view: StoreBrowser, tiny_student) -> None:
    view.sort.value = "disagreement"
    assert view.wait()
    assert "no student was asked" in view.problem.value
    view.student.value = view.student.options[1][1]
    view.ask.click()
    assert view.wait(120)
    assert view.problem.value == ""
    view.differing.value = True
    assert view.wait()
    assert "0 of 80 samples match" in view.count.value, "the student is its own teacher"
    assert list(view.store.value.glob(f"summary-*-{module_fingerprint(tiny_student)}.arrow"))


def test_the_static_page_shows_every_sample(view: StoreBrowser) -> None:
    (ax,) = view.figure().axes
    assert len(ax.images) == 24
    assert "80 samples match, page 1 of 4" in ax.texts[0].get_text()


def test_no_store_is_told(tmp_path: Path) -> None:
    assert "no store below" in StoreBrowser(tmp_path).problem.value
