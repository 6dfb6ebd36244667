"""The list of runs, and how it follows their logs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from dadlab.students import Student
from dadlab.widgets import RunList, run_list
from widgets.toy_runs import keep


def test_the_list_draws_what_is_picked(runs: Path) -> None:
    view = RunList(runs)
    assert view.wait(120)
    assert len(view.chosen.value) == 2
    curves, shifts = view.figure().axes
    assert len(curves.lines) == len(shifts.lines) == 2
    view.words.value = "kd seed"
    assert view.wait(120)
    assert [run.method for run in view.chosen.value] == ["kd"]
    assert view.gaps.value == ""
    view.close()


def test_curves_follow_the_log(tmp_path: Path, tiny_student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_list, "_SECONDS", 0.1)
    folder = keep(tmp_path / "run", "kd", tiny_student, tested=False)
    (folder / "student.safetensors").unlink()
    view = RunList(tmp_path)
    assert view.wait(60)
    assert "1 not finished" in view.status.value
    before = view.table.value
    (folder / "loss.jsonl").write_text('{"epoch": 0, "loss": 9.5, "seconds": 30}\n')
    until = time.monotonic() + 30
    while view.table.value == before and time.monotonic() < until:
        time.sleep(0.1)
    view.close()
    assert "9.5" in view.table.value
    assert "1/3" in view.table.value


def followers(count: int) -> bool:
    """Whether so many threads look at logs, now or soon."""
    end = time.monotonic() + 20
    while (found := sum(t.name == "dadlab-follow" for t in threading.enumerate())) != count and time.monotonic() < end:
        time.sleep(0.05)
    return found == count


def test_a_cell_run_again_leaves_one_thread_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_list, "_SECONDS", 0.05)
    assert followers(0)
    views = [RunList(tmp_path) for _ in range(3)]
    assert [view.follow.value for view in views] == [False, False, True]
    for ticked in (False, True):
        views[-1].follow.value = ticked
    assert followers(1)
    views[-1].close()
    assert followers(0)


def test_no_run_is_told_until_there_is_one(tmp_path, tiny_student, monkeypatch) -> None:
    monkeypatch.setattr(run_list, "_SECONDS", 0.05)
    view = RunList(tmp_path)
    time.sleep(0.5)
    assert "no run below" in view.problem.value
    keep(tmp_path / "run", "kd", tiny_student)
    until = time.monotonic() + 30
    while view.problem.value and time.monotonic() < until:
        time.sleep(0.05)
    view.close()
    assert view.problem.value == ""
    assert "1 runs" in view.status.value
