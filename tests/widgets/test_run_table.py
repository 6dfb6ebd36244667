"""Runs as a table: how far they are, what they reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dadlab.students import Student
from dadlab.widgets import CompareStudents, run_table
from dadlab.widgets.kept import Kept, find_runs
from widgets.toy_runs import keep


def run_of(folder: Path) -> Kept:
    return find_runs(folder)[0]


def test_a_log_that_is_being_written_is_read(tmp_path: Path, tiny_student: Student) -> None:
    folder = keep(tmp_path / "run", "kd", tiny_student, tested=False)
    (folder / "student.safetensors").unlink()
    (folder / "loss.jsonl").write_text('{"epoch": 0, "loss": 2.5, "seconds": 30}\n{"epoch": 1, "lo')
    state = run_table.state(run_of(tmp_path))
    assert (state.losses, state.seconds, state.word) == ((2.5,), 30.0, "1/3")


def test_answers_without_weights_are_neither_unfinished_nor_compared(tmp_path: Path, tiny_student: Student) -> None:
    folder = keep(tmp_path / "run", "kd", tiny_student)
    for name in ("student.safetensors", "loss.jsonl"):
        (folder / name).unlink()
    run = run_of(tmp_path)
    assert (run_table.state(run).done, run_table.state(run).word, run.trained) == (True, "answers", False)
    assert "fewer than two tested runs" in CompareStudents(tmp_path).problem.value


def test_images_of_ones_own_have_an_error_in_the_place_of_mce(tmp_path: Path, tiny_student: Student) -> None:
    folder = keep(tmp_path / "run", "kd", tiny_student)
    (folder / "corruptions.json").write_text(json.dumps({"fog": 0.2, "snow": 0.4}))
    assert "mCE ↓" in run_table.measured(run_of(tmp_path))
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "profile": {**run["profile"], "data": str(tmp_path)}}))
    assert run_table.measured(run_of(tmp_path))["C, error ↓"] == pytest.approx(30)


def test_the_table_has_cost_and_shifts(runs: Path) -> None:
    table = run_table.table(find_runs(runs))
    assert table["minutes"].tolist() == [3.0, 3.0]
    assert table["epochs"].tolist() == ["done", "done"]
    assert table["a"].between(0, 100).all()


def test_differences_are_paired_to_the_first(runs: Path) -> None:
    dad, kd = find_runs(runs)
    gap = 100 * (kd.correct("a").mean() - dad.correct("a").mean())
    (cell,) = run_table.differences([dad, kd])["a"]
    assert cell.startswith(f"{gap:+.1f} [")


def test_runs_on_other_data_are_not_compared(tmp_path: Path, tiny_student: Student) -> None:
    """Though their splits have the same names and lengths."""
    for name in ("one", "two"):
        folder = keep(tmp_path / name, "kd", tiny_student)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "profile": {**run["profile"], "image_size": 64}}))
    assert run_table.differences(find_runs(tmp_path)).empty
    view = CompareStudents(tmp_path)
    assert view.split.options == ()
    assert "no common shift of the same data" in view.problem.value
