import json

import pytest

from benchmarks import method_cost


def test_methods_are_timed_beside_plain(files, tmp_path, capsys):
    profile = json.dumps({"batch": 8, "teacher": str(files["teacher"]), "discretizer": str(files["vqgan"])})
    shape = ["--students", "resnet_s", "vit_s", "--limit", "16", "--turns", "1", "--profile", profile]
    assert method_cost.main([*shape, "--methods", "at", "advprop", "--out", str(tmp_path / "cost.json")]) == 0
    found = json.loads((tmp_path / "cost.json").read_text())
    assert {student: list(rows) for student, rows in found["students"].items()} == {
        "resnet_s": ["advprop", "at", "plain"],
        "vit_s": ["at", "plain"],
    }
    assert found["steps a run"] == 9000 // 8 * 12
    resnet = found["students"]["resnet_s"]
    assert resnet["plain"]["over plain"] == 1
    assert resnet["at"]["over plain"] > 2
    assert (resnet["at"]["attack_steps"], resnet["at"]["forward"]) == (10, 11)
    assert "left out: student 'vit_s' has no batch norm" in capsys.readouterr().out


def test_less_than_a_batch_is_not_timed(capsys):
    with pytest.raises(SystemExit):
        method_cost.main(["--limit", "16"])
    assert "--limit 16: less than a batch of 32" in capsys.readouterr().err


def test_a_sweep_is_five_seeds_of_every_method_and_student_on_two_cores(monkeypatch):
    rows = {
        "resnet_s": {"plain": {"minutes a run": 24.0}},
        "vit_s": {"plain": {"minutes a run": 36.0}, "at": {"minutes a run": 60.0}},
    }
    monkeypatch.setattr(method_cost.torch.cuda, "is_available", lambda: False)
    assert method_cost.sweep_hours(rows) == 5.0
    monkeypatch.setattr(method_cost.torch.cuda, "is_available", lambda: True)
    assert method_cost.sweep_hours(rows) == 10.0
