"""Audits of made-up runs: the arithmetic over methods, seeds and splits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

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
    assert found.loc[("plain", 0), ["shared", "expected", "repeated", "same answer"]].tolist() == [100.0] * 4


def test_answers_count_among_the_labels_of_the_split(monkeypatch, tmp_path):
    """As in tests of 200 classes of 1,000: a label outside them is no answer."""
    whole = load_split("fashion", "a")
    rows = torch.isin(whole.labels, torch.tensor([0, 1])).nonzero()[:, 0]
    some = replace(whole.take(rows), among=(0, 1))
    labels = some.labels.numpy()
    outside = 9 * np.eye(10)[np.full(len(labels), 7)]  # a garment that this split has not, before all
    monkeypatch.setattr(audit, "held_out", lambda *_, **__: some)
    monkeypatch.setattr(audit, "student_logits", lambda *_: outside + 5 * np.eye(10)[labels])
    monkeypatch.setattr(audit, "teacher_logits", lambda *_: outside + 5 * np.eye(10)[1 - labels])
    found = audit.audit(RUNS, ["a"], tmp_path)
    assert found["top-1"].tolist() == [100.0] * 4
    assert found["expected"].tolist() == [100.0] * 4
    assert found["ECE"].tolist() == pytest.approx([100 / (1 + np.exp(5))] * 4)
    classes = audit.by_class(RUNS, ["a"], tmp_path)
    assert list(classes.index) == list(some.classes[:2])
    assert classes["teacher"].tolist() == [0.0, 0.0]
    assert classes["kd"].tolist() == [100.0, 100.0]
    monkeypatch.setattr(audit, "teacher_logits", lambda *_: outside + 5 * np.eye(10)[labels])
    monkeypatch.setattr(audit, "student_logits", lambda run, *_: outside + 5 * np.eye(10)[abs(run.seed - labels)])
    assert audit.audit(RUNS, ["a"], tmp_path)["expected"].tolist() == [0.0] * 4
    classes = audit.by_class(RUNS, ["a"], tmp_path)
    assert classes["kd"].tolist() == classes["plain"].tolist() == [50.0, 50.0]  # right with one seed of two


def lines(method: str, values: list[tuple[float, float]], seeds: int = 2) -> list[dict]:
    """Each pair of accuracies at `h` and at `x`, of seeds in turn."""
    return [
        {"method": f"{method} {k // seeds}" if method == "plain" else method, "seed": k % seeds, "split": n, "top-1": v}
        for k, both in enumerate(values)
        for n, v in zip("hx", both, strict=True)
    ]


def test_effective_robustness_is_measured_from_the_line():
    line = lines("plain", [(50, 50), (60, 60), (80, 80), (90, 90)])
    found = audit.above_the_line(pd.DataFrame(lines("dad", [(50, 60), (80, 90)])), "h", pd.DataFrame(line))
    assert found.loc["dad", "x"].mean == pytest.approx(10)
    assert found.loc["dad", "x"].high == pytest.approx(10)  # all seeds agree, and so do all lines


def test_the_interval_is_the_jackknifes_by_hand():
    """The line is y = x, three seeds lie 9, 12 and 15 points above it: leaving one out gives 13.5, 12 and 10.5."""
    known = lines("plain", [(50, 50)] * 3 + [(60, 60)] * 3 + [(80, 80)] * 3, seeds=3)
    method = lines("dad", [(60, 69), (60, 72), (60, 75)], seeds=3)
    found = audit.above_the_line(pd.DataFrame(method), "h", pd.DataFrame(known)).loc["dad", "x"]
    left_out = np.array([13.5, 12.0, 10.5])
    error = np.sqrt(2 / 3 * ((left_out - 12) ** 2).sum())  # of the mean of three values 3 apart: 3 / √3
    assert error == pytest.approx(3 / np.sqrt(3))
    assert (found.mean, found.high) == pytest.approx((12, 12 + 4.3027 * error), abs=1e-3)


def test_the_lines_own_doubt_widens_the_interval():
    sure = [(50, 50), (50.1, 50.1), (80, 80), (79.9, 79.9)]
    doubtful = [(50, 40), (50.1, 60.1), (80, 88), (79.9, 69.9)]
    method = pd.DataFrame(lines("dad", [(84, 90), (84.1, 90.1)]))
    narrow, wide = (
        audit.above_the_line(method, "h", pd.DataFrame(lines("plain", known))).loc["dad", "x"]
        for known in (sure, doubtful)
    )
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)


def test_what_the_lines_own_students_lie_above_it_is_taken_off():
    line = pd.DataFrame(lines("plain", [(50, 48), (50, 48), (60, 66), (60, 66), (80, 78), (80, 78)]))
    method = pd.DataFrame(lines("dad", [(60, 76), (60, 76)]))
    own = audit.above_the_line(line.query("method == 'plain 1'"), "h", line).loc["plain 1", "x"].mean
    assert own > 1
    whole, beyond = (audit.above_the_line(method, "h", line, name).loc["dad", "x"].mean for name in ("", "plain 1"))
    assert whole == pytest.approx(10 + own)
    assert beyond == pytest.approx(10)


def test_the_lines_own_students_are_no_farther_above_themselves():
    """Each seed is left out of both, so that nothing is left of the difference, nor of its interval."""
    line = pd.DataFrame(lines("plain", [(50, 48), (51, 47), (60, 66), (61, 63), (80, 78), (79, 80)]))
    found = audit.above_the_line(line.query("method == 'plain 1'"), "h", line, "plain 1").loc["plain 1", "x"]
    assert (found.mean, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize(
    ("method", "known"),
    [
        ([(85, 60), (85, 60)], [(82.5, 50), (83.3, 51), (82.6, 50), (83.2, 51)]),  # too narrow to say anything of 85
        ([(60, 60), (60, 60)], [(50, 50), (80, 80)]),  # without either seed one student is left, and no line
        ([(60, 60), (60, 100)], [(50, 50), (50, 50), (80, 80), (80, 80)]),  # no logit of 100 %
    ],
)
def test_a_line_that_says_nothing_is_not_drawn(method, known):
    found = audit.above_the_line(pd.DataFrame(lines("dad", method)), "h", pd.DataFrame(lines("plain", known)))
    assert found.loc["dad", "x"] == audit.NOT_ESTIMABLE


def test_a_quantity_over_seeds_has_students_interval():
    values = {"plain": (1.0, 3.0), "dad": (5.0, 5.0)}
    rows = [{"method": m, "seed": s, "split": "x", "ECE": v[s]} for m, v in values.items() for s in (0, 1)]
    found = audit.over_seeds(pd.DataFrame(rows), "ECE")["x"]
    assert list(found.index) == ["plain", "dad"]
    assert (found["plain"].mean, found["plain"].high) == pytest.approx((2, 2 + 12.706), abs=1e-2)
    assert str(found["dad"]) == "+5.0"


def test_errors_under_corruption_are_averaged_over_seeds(monkeypatch, tmp_path):
    errors = {"plain": 0.5, "kd": 0.25}
    monkeypatch.setattr(audit, "measure_corruptions", lambda run, _: {"fog": errors[run.method] + 0.1 * run.seed})
    found = audit.by_corruption(RUNS, tmp_path)
    assert found.loc["fog"].to_dict() == pytest.approx({"plain": 55.0, "kd": 30.0})


def test_a_curve_counts_the_surest_first_and_averages_over_seeds(monkeypatch, tmp_path):
    """Of the plain student's photographs the surer half is right, with either seed; KD's are all right."""
    labels = load_split("fashion", "a").labels.numpy()
    half = np.arange(len(labels)) < len(labels) // 2
    right, wrong = 5 * np.eye(10)[labels], 3 * np.eye(10)[(labels + 1) % 10]
    said = {"kd": right, "plain": np.where(half[:, None], right, wrong)}
    monkeypatch.setattr(audit, "student_logits", lambda run, *_: said[run.method])
    found = audit.coverage_curves(RUNS, ["a"], tmp_path).set_index(["method", "split", "coverage"])["top-1"]
    assert len(found) == 2 * len(audit.SHARES)
    assert found["kd"].tolist() == [100.0] * len(audit.SHARES)
    assert found["plain", "a", 0.25] == 100
    assert found["plain", "a", 1.0] == pytest.approx(100 * half.mean())
    monkeypatch.setattr(audit, "teacher_logits", lambda *_: right)
    plain = audit.audit(RUNS, ["a"], tmp_path).query("method == 'plain'")
    assert plain["top-1 of surest 80%"].tolist() == pytest.approx([100 * half.sum() / round(0.8 * len(half))] * 2)
    assert (plain["top-1 of surest 50%"] > 99).all()
