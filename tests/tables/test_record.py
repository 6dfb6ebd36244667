"""Records of made-up runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dadlab.tables import measured as module
from dadlab.tables.record import record
from dadlab.tables.rows import NOT_YET, Row
from tables.made_up import PROFILE, made_up


def test_record_follows_every_cell_to_its_runs(monkeypatch, tmp_path):
    found = json.loads(json.dumps(record(made_up(monkeypatch, tmp_path), command="x")))
    teacher, a, b, c = found["rows"]
    assert (a["cells"]["C"]["published"], a["cells"]["C"]["mean"]) == (40.0, 30.0)
    assert a["cells"]["ImageNet"]["seeds"] == {"0": 80.0, "1": 80.0}
    assert a["runs"]["0"].startswith("kd-resnet_s-s0-")
    assert (teacher["method"], c["missing"], c["cells"]["C"]) == ("teacher", NOT_YET, {"published": None})
    assert b["cells"]["ImageNet"]["n"] == 10
    assert a["cells"]["ImageNet"].get("gain") is None
    assert b["cells"]["ImageNet"]["gain"] == {
        "over": "N · a",
        "published": -10.0,
        "mean": -60.0,
        "low": -96.94,  # 2.262 (t of nine) standard errors of 16.33 away
        "high": -23.06,
    }
    assert set(found) >= {"profile", "seeds", "machine", "commit", "command", "title"}


def test_record_says_by_which_code_its_runs_were_trained(monkeypatch, tmp_path):
    here = {"commit": "abc1234", "machine": "CPU"}
    made = {0: here, 1: here}
    monkeypatch.setattr(
        module, "trained_by", lambda folder: made.get(int(folder.name.split("-s")[1][0]), {"commit": "unknown"})
    )
    found = record(made_up(monkeypatch, tmp_path))["rows"]
    assert found[1]["trained"] == [{**here, "seeds": [0, 1]}]
    assert found[0]["trained"] == found[3]["trained"] == []
    del made[1]
    assert record(made_up(monkeypatch, tmp_path))["rows"][1]["trained"] == [
        {**here, "seeds": [0]}, {"commit": "unknown", "seeds": [1]},
    ]  # fmt: skip


def test_one_seed_has_no_interval(monkeypatch, tmp_path):
    _, a, b, _ = record(made_up(monkeypatch, tmp_path, seeds=[0]))["rows"]
    assert "low" not in a["cells"]["ImageNet"]
    assert b["cells"]["ImageNet"]["gain"] == {"over": "N · a", "published": -10.0, "mean": -60.0}


def gain_of(measured: module.Measured, name: str) -> dict:
    (line,) = (line for line in record(measured)["rows"] if line["row"][1] == name)
    return line["cells"]["ImageNet"].get("gain", {})


def test_gains_are_over_the_first_published_row_unless_another_is_named(monkeypatch, tmp_path):
    """Not over a control, though it stands first."""
    control = Row(("N", "x"), PROFILE, "plain", "resnet_s")
    own = Row(("D", "y"), PROFILE, "plain", "resnet_s", over="N · a")
    measured = made_up(monkeypatch, tmp_path, there=("a", "b", "x", "y"), more=[control, own])
    assert gain_of(measured, "y")["over"] == "N · a"
    first = replace(measured, rows=[control, *(row for row in measured.rows if row is not control)])
    assert {gain_of(first, name)["over"] for name in "xb"} == {"N · a"}


def test_gains_are_over_the_seeds_that_both_rows_have(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    del measured.values["N · a"]["ImageNet"][0]
    assert gain_of(measured, "b") == {"over": "N · a", "published": -10.0, "mean": -60.0}


def test_gains_have_the_scale_of_their_table(monkeypatch, tmp_path):
    measured = replace(made_up(monkeypatch, tmp_path), scale=1.0)
    assert gain_of(measured, "b")["mean"] == pytest.approx(-0.6)
