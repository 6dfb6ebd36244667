"""Audits of made-up runs: the arithmetic over methods, seeds and splits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dadlab.data import load_split
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.tables import audit

RUNS = {(method, seed): Run(make_profile(), method, seed=seed) for method in ("plain", "kd") for seed in (0, 1)}


def test_a_row_a_method_seed_and_split(monkeypatch, tmp_path):
    labels = load_split("fashion", "a").labels.numpy()
    right, wrong = 50 * np.eye(10)[labels], 50 * np.eye(10)[(labels + 1) % 10]
    monkeypatch.setattr(audit, "student_logits", lambda run, *_: right if run.method == "kd" else wrong)
    monkeypatch.setattr(audit, "teacher_logits", lambda *_: wrong)
    found = audit.audit(RUNS, ["a"], tmp_path).set_index(["method", "seed"])
    assert found.loc["kd", "top-1"].tolist() == [100.0, 100.0]
    assert found.loc["plain", "ECE"].tolist() == pytest.approx([100.0, 100.0])
    assert found.loc[("plain", 0), ["shared", "expected", "same answer"]].tolist() == [100.0, 100.0, 100.0]


def test_effective_robustness_is_measured_from_the_fitted_methods():
    lines = [("plain", 0, 50, 50), ("plain", 1, 80, 80), ("dad", 0, 50, 60), ("dad", 1, 80, 90)]
    rows = [
        {"method": m, "seed": s, "split": n, "top-1": v}
        for m, s, *both in lines
        for n, v in zip("hx", both, strict=True)
    ]
    found = audit.above_the_line(pd.DataFrame(rows), "h", ["plain"])
    assert found["split"].tolist() == ["x"] * 4
    assert found["above"].tolist() == pytest.approx([0, 0, 10, 10], abs=1e-6)


def test_a_quantity_over_seeds_has_students_interval():
    values = {"plain": (1.0, 3.0), "dad": (5.0, 5.0)}
    rows = [{"method": m, "seed": s, "split": "x", "ECE": v[s]} for m, v in values.items() for s in (0, 1)]
    found = audit.over_seeds(pd.DataFrame(rows), "ECE")["x"]
    assert list(found.index) == ["plain", "dad"]
    assert (found["plain"].mean, found["plain"].high) == pytest.approx((2, 2 + 12.706), abs=1e-2)
    assert (found["dad"].low, found["dad"].high) == (5, 5)


def test_errors_under_corruption_are_averaged_over_seeds(monkeypatch, tmp_path):
    errors = {"plain": 0.5, "kd": 0.25}
    monkeypatch.setattr(audit, "measure_corruptions", lambda run, _: {"fog": errors[run.method] + 0.1 * run.seed})
    found = audit.by_corruption(RUNS, tmp_path)
    assert found.loc["fog"].to_dict() == pytest.approx({"plain": 55.0, "kd": 30.0})


def test_spread_over_a_field_stands_beside_the_spread_over_seeds(monkeypatch, tmp_path):
    runs = {
        ("discretizer", name, seed): Run(make_profile(discretizer=name), "dad", seed=seed)
        for name in ("studio", "broad")
        for seed in (0, 1)
    }
    share = {"studio": 0.4, "broad": 0.8}
    monkeypatch.setattr(
        audit,
        "measure",
        lambda run, *_: {"a": np.arange(10) < 10 * share[run.profile.discretizer] + 2 * run.seed},
    )
    found = audit.spread_over(runs, ["a"], tmp_path)["a"]
    assert found["discretizer", "studio"] == pytest.approx(50)
    assert found["discretizer", "deviation"] == pytest.approx(40 / 2**0.5)  # of 50 and 90
    assert found["discretizer", "over seeds"] == pytest.approx(20 / 2**0.5)  # of 40 and 60, and of 80 and 100
