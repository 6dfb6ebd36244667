"""A measured table without any training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dadlab.tables import measured as module
from dadlab.tables.rows import NOT_YET, Row, read_rows

PROFILE = read_rows(1)[0].profile
PUBLISHED = pd.DataFrame(
    {"ImageNet": [80.0, 70.0, 60.0], "C": [50.0, 40.0, 60.0], "Avg": [65.0, 65.0, 50.0]},
    index=pd.MultiIndex.from_tuples([("teacher", "T"), ("N", "a"), ("N", "b")], names=["block", "method"]),
)
PUBLISHED.attrs = {"averages": {"Avg": ["ImageNet", "C"]}, "lower_is_better": ["C"], "title": "t", "unit": "%"}


def made_up(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    there: tuple[str, ...] = ("a", "b"),
    seeds: Sequence[int] = (0, 1, 2),
    more: Sequence[Row] = (),
) -> module.Measured:
    """A table whose row a is right on 8 of 10 with mCE 30, b on 2 of 10 with mCE 50; `more` rows come last."""
    right = {"plain": 2, "kd": 8, "": 9}
    cell = {method: np.arange(10) < count for method, count in right.items()}
    monkeypatch.setattr(module, "measure", lambda run, *_: {"studio": cell[run.method]})
    wrong = {
        method: {"fog": (np.arange(1000) % 10 < count).astype(float)} for method, count in {"kd": 3, "plain": 5}.items()
    }
    monkeypatch.setattr(module, "measure_corrupted", lambda run, _: wrong[run.method])
    monkeypatch.setattr(module, "teacher_correct", lambda *_: cell[""])
    monkeypatch.setattr(module, "teacher_corrupted", lambda *_: {"fog": np.full(1000, 0.2)})
    monkeypatch.setattr(module, "mce_baseline", lambda _: {"fog": 1.0})
    monkeypatch.setattr(module, "is_there", lambda row, seed, *_: not row.method or (row.name[1] in there and seed < 2))
    methods = {"a": "kd", "b": "plain"}
    rows = [Row(("teacher", "T"), PROFILE)]
    rows += [Row(("N", name), PROFILE, method, "resnet_s") for name, method in methods.items()]
    rows += [Row(("N", "c"), PROFILE, missing=NOT_YET), *more]
    return module.measure_rows(PUBLISHED, rows, seeds, tmp_path, train=False)
