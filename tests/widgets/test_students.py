"""Two students side by side, and runs with their curves."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dadlab.data import load_split
from dadlab.profile import Profile
from dadlab.students import Student, save_student
from dadlab.widgets import CompareStudents, RunList, compare_students, pairs, run_list, run_table
from dadlab.widgets.pairs import GROUPS, Kept, Pair


def keep(folder: Path, method: str, student: Student, *, seed: int = 0, tested: bool = True) -> Path:
    """The folder that a run leaves behind, tested on `a`, which is small."""
    (folder / "correct").mkdir(parents=True)
    profile = dataclasses.asdict(Profile(epochs=3))
    run = {"method": method, "student": student.name, "seed": seed, "profile": profile}
    (folder / "run.json").write_text(json.dumps(run))
    lines = [{"epoch": k, "loss": 3.0 - k, "seconds": 60.0} for k in range(3)]
    (folder / "loss.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_student(folder / "student.safetensors", student)
    if tested:
        split = load_split("fashion", "a")
        with torch.no_grad():
            right = student(split.images(torch.arange(len(split)))).argmax(1) == split.labels
        np.save(folder / "correct" / "a.npy", right.numpy())
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_student: Student) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(1)
    keep(folder / "kd-0", "kd", tiny_student)
    keep(folder / "dad-0", "dad", Student("vit_s", 10).eval())
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def compared(runs: Path) -> CompareStudents:
    view = CompareStudents(runs)
    assert view.wait(120)
    return view


PAIR = Pair(
    first=np.array([True, True, False, False]),
    second=np.array([True, False, True, False]),
    guesses=(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 1, 2])),
    labels=torch.tensor([0, 1, 1, 1]),
)


def test_every_sample_is_in_one_group() -> None:
    assert [PAIR.group(name).tolist() for name in GROUPS] == [[2], [1], [3], [0]]


def test_confusion_counts_what_the_second_says_more_often() -> None:
    assert PAIR.confusion(3).tolist() == [[0, 0, 0], [1, 0, -1], [0, 0, 0]]


def test_the_classes_that_change_most_are_shown() -> None:
    change = np.zeros((30, 30), int)
    change[20, 7], change[3, 3] = 5, 100
    shown = pairs.most_changed(change)
    assert len(shown) == 12
    assert {7, 20} <= set(shown.tolist())
    assert shown.tolist() == sorted(shown.tolist())


def test_runs_are_found_and_broken_ones_passed_over(runs: Path) -> None:
    assert [run.method for run in pairs.find_runs(runs)] == ["dad", "kd"]


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


def run_of(folder: Path) -> Kept:
    return pairs.find_runs(folder)[0]


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


def test_training_data_of_runs_are_found_once(tmp_path: Path, tiny_student: Student) -> None:
    for name in ("a", "b", "gone"):
        keep(tmp_path / name, "kd", tiny_student, tested=False)
    path = tmp_path / "gone" / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps({**run, "profile": {**run["profile"], "data": str(tmp_path / "nowhere")}}))
    (found,) = pairs.training_data(pairs.find_runs(tmp_path))
    assert len(found) == 9000


def test_the_table_has_cost_and_shifts(runs: Path) -> None:
    table = run_table.table(pairs.find_runs(runs))
    assert table["minutes"].tolist() == [3.0, 3.0]
    assert table["epochs"].tolist() == ["done", "done"]
    assert table["a"].between(0, 100).all()


def test_differences_are_paired_to_the_first(runs: Path) -> None:
    dad, kd = pairs.find_runs(runs)
    gap = 100 * (kd.correct("a").mean() - dad.correct("a").mean())
    (cell,) = run_table.differences([dad, kd])["a"]
    assert cell.startswith(f"{gap:+.1f} [")


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
