from __future__ import annotations

import json

import pytest

from dadlab.tables.plan import COSTS, main, plan
from dadlab.tables.rows import read_rows


@pytest.fixture
def cost(tmp_path):
    path = tmp_path / "cost.json"
    path.write_text(json.dumps({"students": {"resnet_s": {"kd": {"minutes a run": 3.0}}}}))
    return path


def test_what_is_missing_has_its_tables_and_hours(tmp_path, cost):
    found = plan(seeds=[0, 1], tables=[3, 11], runs_dir=tmp_path, cost=cost).set_index("method")
    assert found.loc["kd", ["student", "tables", "runs", "hours"]].tolist() == ["resnet_s", "3", 2, 0.1]
    assert found.loc["dad"].query("detail == ''")["tables"].item() == "3, 11", "one line for both"
    assert found.loc["dad"].query("detail == 'discretizer identity'")["tables"].item() == "11"
    assert found["hours"].isna().sum() == len(found) - 1, "nothing else was timed"


def test_hours_are_those_of_this_machines_precision(tmp_path, monkeypatch):
    hours = {}
    for name in ("bf16", "no", "fp16"):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", name)
        hours[name] = plan(seeds=[0], tables=[3], runs_dir=tmp_path)["hours"].sum()
    assert json.loads(COSTS["bf16"].read_text())["precision"] == "bf16"
    assert 2 * hours["bf16"] < hours["no"] == hours["fp16"]


@pytest.mark.parametrize(
    ("shared", "hours"), [({"epochs": 24}, 0.1), ({"epochs": 3}, 0.0125), ({"batch": 64}, None), ({"limit": 40}, None)]
)
def test_hours_are_of_as_many_epochs_as_are_asked_for(tmp_path, cost, shared, hours):
    """Twelve were timed; steps of another size were not."""
    found = plan(seeds=[0], tables=[3], runs_dir=tmp_path, cost=cost, shared=shared).set_index("method")
    assert found.loc["kd", "hours"] == pytest.approx(hours or float("nan"), nan_ok=True)


def test_what_is_there_is_not_needed(tmp_path, cost):
    (kd,) = [row for row in read_rows(3) if row.method == "kd"]
    weights = kd.run(1).weights(tmp_path)
    weights.parent.mkdir(parents=True)
    weights.touch()
    found = plan(seeds=[0, 1], tables=[3], runs_dir=tmp_path, cost=cost).set_index("method")
    assert found.loc["kd", "runs"] == 1
    assert found.loc["dad", "runs"] == 2
    assert "kd" not in plan(seeds=[1], tables=[3], runs_dir=tmp_path, cost=cost)["method"].tolist()


def test_a_teacher_is_trained_once_and_before_its_students(tmp_path, cost):
    found = plan(seeds=[0, 1], tables=[9], runs_dir=tmp_path, cost=cost)
    methods = found["method"].tolist()
    (teacher,) = found.query("method == 'augmix'").index
    (student,) = found.query("detail == 'teacher: augmix, resnet_m'").index
    assert methods.count("augmix") == methods.count("discrete_vit") == 1
    assert teacher < student
    assert found.loc[[teacher, student], "runs"].tolist() == [1, 2]


def test_the_command_sums_up(tmp_path, capsys):
    given = ["--runs-dir", str(tmp_path), "--seeds", "0"]
    assert main([*given, "--tables", "3"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + int(last.split()[0]), "a heading, and a run a line"
    assert last.endswith("hours of one core as timed")
    assert main([*given, "--tables", "5"]) == 0
    assert "of a kind that was not timed" in capsys.readouterr().out
    assert main([*given, "--tables", "7"]) == 1
    assert "table 7: no runs stand behind it" in capsys.readouterr().err
    assert main(["--profile", "fashon"]) == 1
    assert "fashion" in capsys.readouterr().err


def test_fields_of_all_rows_are_found_in_what_is_needed(tmp_path, cost, capsys):
    told = ["--tables", "3", "--seeds", "0", "--runs-dir", str(tmp_path), "--shared", '{"views": 0}']
    assert main(told) == 1
    assert "views must be at least 1" in capsys.readouterr().err
    (row,) = [row for row in read_rows(3, shared={"views": 2}) if row.method == "kd"]
    weights = row.run(0).weights(tmp_path)
    weights.parent.mkdir(parents=True)
    weights.touch()
    needed = [plan(seeds=[0], tables=[3], runs_dir=tmp_path, cost=cost, shared=shared) for shared in ({}, {"views": 2})]
    assert ["kd" in found["method"].tolist() for found in needed] == [True, False]
