"""Two students side by side."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dadlab.students import Student
from dadlab.widgets import CompareStudents, compare_students
from dadlab.widgets.kept import Kept
from widgets.toy_runs import keep


@pytest.fixture(scope="module")
def compared(runs: Path) -> CompareStudents:
    view = CompareStudents(runs)
    assert view.wait(120)
    return view


def test_kd_and_dad_of_one_student_and_seed_are_compared_first(tmp_path: Path) -> None:
    kept = [("dad", 0), ("kd", 1), ("dad", 1), ("plain", 1)]
    found = [Kept(tmp_path / f"{method}{seed}", method, "resnet_s", seed, {}) for method, seed in kept]
    assert compare_students.two_to_compare(found) == (found[1], found[2])
    assert compare_students.two_to_compare(found[2:]) == (found[2], found[3])


def test_two_runs_are_compared_at_once(compared: CompareStudents) -> None:
    assert compared.problem.value == ""
    assert compared.split.value == "a"
    assert "second − first" in compared.status.value


def test_the_picture_has_a_map_for_each_kind_of_network(compared: CompareStudents) -> None:
    (ax,) = compared.figure().axes
    words = [text.get_text() for text in ax.texts]
    assert {"KD\nlooks at", "DAD\nlooks at"} <= set(words)
    assert len(ax.images) == 3 * 8


def test_groups_are_paged(compared: CompareStudents) -> None:
    compared.group.value = "both are wrong"
    assert compared.wait(120)
    assert compared.pager.page.max > 1
    first = compared.picture.value
    compared.pager.page.value = 2
    assert compared.wait(120)
    assert compared.picture.value != first
    compared.group.value = "both are right"
    assert compared.pager.page.value == 1
    assert compared.wait(120)
    assert compared.problem.value == ""


def test_stale_correctness_is_told(runs: Path, tmp_path: Path, tiny_student: Student) -> None:
    for name in ("one", "two"):
        keep(tmp_path / name, "kd", tiny_student)
    right = np.load(tmp_path / "one" / "correct" / "a.npy")
    np.save(tmp_path / "one" / "correct" / "a.npy", ~right)
    view = CompareStudents(tmp_path)
    assert view.wait(120)
    assert "100.0 % of the images otherwise" in view.status.value


def test_a_run_that_was_trained_anew_is_asked_anew(tmp_path: Path, tiny_student: Student) -> None:
    for name in ("one", "two"):
        keep(tmp_path / name, "kd", tiny_student)
    assert CompareStudents(tmp_path).wait(120)
    shutil.rmtree(tmp_path / "one")
    torch.manual_seed(7)
    keep(tmp_path / "one", "kd", Student("resnet_s", 10).eval())
    view = CompareStudents(tmp_path)
    assert view.wait(120)
    assert "otherwise than when they were tested" not in view.status.value


def test_the_static_picture_is_of_what_was_drawn_last(tmp_path: Path, tiny_student: Student) -> None:
    for name, method in (("one", "kd"), ("two", "dad"), ("three", "plain")):
        keep(tmp_path / name, method, tiny_student)
    (tmp_path / "three" / "correct" / "a.npy").write_bytes(b"")
    view = CompareStudents(tmp_path)
    view.group.value = "both are wrong"
    assert view.wait(120)
    for run in (run for _, run in view.first.options if run.method == "plain"):
        view.first.value = run
    assert view.wait(120)
    assert view.problem.value
    words = [text.get_text() for text in view.figure().axes[0].texts]
    assert {"KD\nlooks at", "DAD\nlooks at"} <= set(words)


def test_one_run_is_not_enough(tmp_path: Path, tiny_student: Student) -> None:
    keep(tmp_path / "one", "kd", tiny_student)
    assert "fewer than two tested runs" in CompareStudents(tmp_path).problem.value
