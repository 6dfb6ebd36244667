"""Runs found, and their data."""

from __future__ import annotations

import json
from pathlib import Path

from dadlab.students import Student
from dadlab.widgets.kept import find_runs, training_data
from widgets.toy_runs import keep


def test_runs_are_found_and_broken_ones_passed_over(runs: Path) -> None:
    assert [run.method for run in find_runs(runs)] == ["dad", "kd"]


def test_training_data_of_runs_are_found_once(tmp_path: Path, tiny_student: Student) -> None:
    for name in ("a", "b", "gone"):
        keep(tmp_path / name, "kd", tiny_student, tested=False)
    path = tmp_path / "gone" / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps({**run, "profile": {**run["profile"], "data": str(tmp_path / "nowhere")}}))
    (found,) = training_data(find_runs(tmp_path))
    assert len(found) == 9000
