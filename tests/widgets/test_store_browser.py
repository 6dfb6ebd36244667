"""A store paged, looked at, marked, exported."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from dadlab.dataset import Dataset
from dadlab.discretizer import load_vqgan
from dadlab.fingerprints import module_fingerprint
from dadlab.generate import generate
from dadlab.profile import Attack
from dadlab.store import REASONS
from dadlab.students import save_student
from dadlab.widgets import StoreBrowser, samples
from dadlab.widgets.store_index import told


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


def test_a_store_is_told_by_its_attack(runs: Path) -> None:
    assert told(runs / "stores" / "a", runs) == f"{Path('stores', 'a')}, l2, ε 1"


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


def test_names_are_not_borrowed_from_data_of_more_classes(runs: Path, photos40: Dataset) -> None:
    named = ("bird", *photos40.classes)
    others = [replace(photos40, name="other", classes=names) for names in (named, named[:10])]
    for sources, names in ((others[:1], tuple("0123456789")), (others, named[:10])):
        view = StoreBrowser(runs, sources=sources)
        assert view.wait()
        assert view._classes() == names


def test_the_store_is_paged(view: StoreBrowser) -> None:
    assert view.pager.page.max == 4
    first = [cell.tooltip for cell in view.gallery.cells]
    view.pager.forth.click()
    assert view.wait()
    assert view.pager.page.value == 2
    assert [cell.tooltip for cell in view.gallery.cells] != first
    view.pager.page.value = 4
    assert view.wait()
    assert sum(cell.layout.display != "none" for cell in view.gallery.cells) == 80 - 3 * 24


def test_filters_begin_at_the_first_page(view: StoreBrowser) -> None:
    view.pager.page.value = 2
    assert view.wait()
    view.label.value = 3
    assert view.wait()
    assert view.pager.page.value == 1
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
    view.pager.forth.click()
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
