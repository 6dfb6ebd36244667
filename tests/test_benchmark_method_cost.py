import json

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
