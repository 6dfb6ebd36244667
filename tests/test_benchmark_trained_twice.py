"""Students trained twice: paired by seed and photograph, a kind of run at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_ledger import made

from benchmarks.trained_twice import compared, main
from dadlab.ledger import pack
from dadlab.profile import make_profile
from dadlab.run import Run

RUNS = [Run(make_profile(), "kd", "resnet_s", seed) for seed in (0, 1)]


@pytest.fixture
def twice(tmp_path) -> tuple[Path, Path]:
    """Two seeds; the second one answers ten photographs of `sketch` right that it had wrong."""
    folders = [made(tmp_path / "runs", run) for run in RUNS]
    made(tmp_path / "runs", Run(make_profile(), "plain", "resnet_s", 0))
    pack(tmp_path / "runs", tmp_path / "ledger")
    right = np.load(folders[1] / "correct/sketch.npy")
    right[np.flatnonzero(~right)[:10]] = True
    np.save(folders[1] / "correct/sketch.npy", right)
    return tmp_path / "runs", tmp_path / "ledger"


def test_what_moved_is_told_by_kind_and_split(twice):
    found = {(row["method"], row["split"]): row for row in compared(*twice)}
    row = found["kd", "sketch"]
    assert (row["seeds"], row["photographs"]) == ([0, 1], 200)
    assert (row["answered otherwise, %"], row["largest"]) == (2.5, 5.0)
    assert row["difference"]["mean"] == 2.5
    assert row["difference"]["low"] < 0 < row["difference"]["high"]  # one of two seeds moved
    assert row["trained"] == [{"commit": "abc1234", "machine": "CPU"}]
    assert found["kd", "studio"]["difference"]["mean"] == found["plain", "sketch"]["answered otherwise, %"] == 0
    assert found["plain", "sketch"]["seeds"] == [0]


def test_the_record_says_how_it_was_made(twice, tmp_path):
    runs, ledger = map(str, twice)
    out = tmp_path / "out.json"
    assert main(["--runs-dir", runs, "--ledger", ledger, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert len(told["rows"]) == len(compared(*twice))
    assert "benchmarks.trained_twice" in told["command"]


def test_nothing_to_compare_is_said(tmp_path, capsys):
    (tmp_path / "ledger").mkdir()
    assert main(["--runs-dir", str(tmp_path), "--ledger", str(tmp_path / "ledger")]) == 1
    assert "no run under" in capsys.readouterr().err
