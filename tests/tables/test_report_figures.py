"""A figure's numbers as tables, each with the entry of the record that it is in."""

from __future__ import annotations

from typing import Any

import numpy as np

from dadlab.estimates import accuracy
from dadlab.tables.report_figures import figure_tables
from dadlab.tables.view import cell_text

VALUES = {("kd", "v2"): [1.0, 3.0], ("kd", "a"): [20.0, 20.5], ("dad", "v2"): [2.0, 2.5], ("dad", "a"): [9.0, 10.0]}


def audited(*quantities: str) -> list[dict[str, Any]]:
    return [
        {"method": method, "split": split, "seed": seed, **dict.fromkeys(quantities, value)}
        for (method, split), values in VALUES.items()
        for seed, value in enumerate(values)
    ]


def only(what: str, tables: list[Any]) -> Any:
    (found,) = (frame for told, frame in tables if what in told)
    return found


def test_calibration_and_selective_accuracy_are_means_over_seeds_in_the_records_order():
    rows = audited("ECE", "top-1", "top-1 of surest 80%", "top-1 of surest 50%")
    tables = figure_tables("open_questions", {"rows": rows})
    assert len(tables) == 2  # what teacher and student share was not recorded
    assert all("<code>rows</code>" in what for what, _ in tables)
    found = only("Calibration", tables)
    assert (found.index.tolist(), found.columns.tolist()) == (["kd · ECE", "dad · ECE"], ["v2", "a"])
    for (method, split), values in VALUES.items():
        told = accuracy(np.array(values)[:, None], scale=1)
        assert found.loc[f"{method} · ECE", split] == cell_text(told)
    assert only("Selective", tables).index.tolist()[:3] == [
        "kd · top-1", "kd · top-1 of surest 80%", "kd · top-1 of surest 50%",
    ]  # fmt: skip


def test_what_teacher_and_student_share_may_be_unknown():
    rows = audited("shared", "expected", "repeated", "consistency", "same answer")
    for row in rows:
        row["same answer"] = float("nan")
    found = only("Teacher bias", figure_tables("open_questions", {"rows": rows}))
    assert set(found.loc["kd · same answer"]) == {"—"}


def test_classes_and_corruptions_stand_below_each_other():
    record = {"classes": {"dad": {"bag": 93.1, "coat": 22.0}, "teacher": {"bag": 95.0, "coat": 80.0}}}
    found = only("<code>classes</code>", figure_tables("open_questions", record))
    assert found.loc["bag"].tolist() == ["93.10", "95.00"]
    assert found.columns.tolist() == ["dad", "teacher"]


def test_risks_of_balls_are_shown_if_they_were_recorded():
    line = {"distributions": 2, "method": "kd", "r(P, ε)": 0.2, "r_worst(P, ε)": 0.3, "ε": 0.1}
    found = only("r_worst", figure_tables("theory", {"within": [line], "risks": {"kd": {"p": 0.1}}}))
    assert found.columns.tolist() == ["method", "ε", "distributions", "r(P, ε)", "r_worst(P, ε)"]
    assert found.iloc[0].tolist() == ["kd", "0.100", "2", "0.200", "0.300"]
    assert figure_tables("theory", {"missing": ["x"]}) == []
