"""Cost by a made-up clock."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from dadlab.tables import timing
from dadlab.tables.published import load_table
from dadlab.tables.rows import read_rows
from dadlab.tables.sentences import NOT_MEASURED, judge_sentences, read_sentences
from dadlab.tables.timing import budgets, step_seconds, timed
from dadlab.tables.verdicts import HOLDS


def test_budgets_are_paired_by_round_and_judged():
    seconds = pd.DataFrame(
        {"ImageNet": [1.0, 2.0, 1.0] * 2, "DAD (Ours)": [2.0, 4.2, 1.9] * 2, "DAT": [3.0, 7.0, 3.4] * 2}
    )
    published = load_table(7)
    measured = timed(published, read_rows(7), budgets(seconds, "ImageNet"))
    assert measured.estimates["DAD (Ours)", "Training Budget"].mean == pytest.approx(2.0)
    assert measured.estimates["DAT", "Attack Steps"].mean == 1
    assert measured.scale == 1
    found, dearer, cheaper = judge_sentences(read_sentences(7, published.attrs["lower_is_better"]), measured)
    assert dearer.verdict == HOLDS  # plain training is the cheaper one
    assert cheaper.verdict == NOT_MEASURED  # DAD as augmentation was not timed
    told = dict(zip([c.second for c in found.sentence.comparisons], found.verdicts, strict=True))
    assert told["DAT"] is not None
    assert told["DAT"].verdict == HOLDS
    assert told["DAT"].effect.mean == pytest.approx(2.0 - (3 + 3.5 + 3.4) / 3)


def test_runs_take_turns(tmp_path):
    shared = {"limit": 40, "views": 2, "epochs": 1}
    (plain,) = [row for row in read_rows(7, shared=shared) if row.method == "plain"]
    runs = {"one": plain.run(0), "again": plain.run(1)}
    seconds = step_seconds(runs, tmp_path, rounds=2, steps=2)
    assert seconds.shape == (2, 2)
    assert (seconds > 0).all(axis=None)
    with pytest.raises(ValueError, match="rounds must be at least 2"):
        step_seconds(runs, tmp_path, rounds=1)


def test_a_round_is_the_median_of_its_steps_after_as_many_that_warm_up(monkeypatch, tmp_path):
    taken = {"one": [9.0, 9.0, 9.0, 1.0, 2.0, 6.0], "other": [9.0, 9.0, 9.0, 3.0, 3.0, 3.0]}
    monkeypatch.setattr(timing, "_steps", lambda run, _: iter(taken[run]))
    assert timing.time_round({name: name for name in taken}, tmp_path, steps=3) == {"one": 2.0, "other": 3.0}


def test_on_a_cpu_its_own_seconds_count(monkeypatch, tmp_path):
    """Not the clock's, in which other programs run too."""
    (plain,) = [row for row in read_rows(7, shared={"limit": 40, "views": 2, "epochs": 1}) if row.method == "plain"]
    monkeypatch.setattr(time, "process_time", iter(np.arange(0.0, 999.0, 7.0)).__next__)
    assert next(timing._steps(plain.run(0), tmp_path)) == 7.0


def test_attack_steps_are_the_students_or_those_that_its_samples_were_made_with():
    rows = {row.key: row for row in read_rows(7)}
    names = ("ImageNet", "Adversarial Training", "DAD (Ours)", "KD")
    steps = {name: timing._attack_steps(rows[name]) for name in names}
    assert steps == {"ImageNet": 0, "Adversarial Training": 10, "DAD (Ours)": 1, "KD": 0}
