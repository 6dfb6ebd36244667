"""Audit: reliability of a grid of runs, one row a method, seed and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from dadlab.data import load_split
from dadlab.estimates import accuracy
from dadlab.progress import track
from dadlab.results import measure, measure_corruptions
from dadlab.run import Run
from dadlab.tables.answers import student_logits, teacher_logits
from dadlab.tables.reliability import (
    calibration_error,
    effective_robustness,
    expected_away,
    selective_accuracy,
    shared_errors,
)

COVERAGES = (0.5, 0.8)


def audit(runs: Mapping[tuple[str, int], Run], splits: Sequence[str], runs_dir: Path) -> pd.DataFrame:
    """Top-1, calibration, selective accuracy and errors shared with the teacher, all in per cent or points.

    Args:
        runs: (method, seed) → run; trained if need be.
        splits: test splits.
        runs_dir: where runs live; logits are kept beside them.
    """
    lines = [
        {"method": method, "seed": seed, "split": split, **_line(run, split, runs_dir)}
        for (method, seed), run in track(runs.items(), "auditing", len(runs))
        for split in splits
    ]
    return pd.DataFrame(lines)


def _line(run: Run, split: str, runs_dir: Path) -> dict[str, float]:
    labels = load_split(run.profile.data, split, image_size=run.profile.image_size).labels.numpy()
    said, told = student_logits(run, runs_dir, split), teacher_logits(run.profile, runs_dir, split)
    line = {"top-1": 100 * float((said.argmax(1) == labels).mean()), "ECE": calibration_error(said, labels)}
    line |= {f"top-1 of surest {c:.0%}": selective_accuracy(said, labels, c) for c in COVERAGES}
    return line | shared_errors(said, told, labels)


def over_seeds(audited: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """A quantity's mean over seeds with its 95 % interval (Student's t): a row a method, a column a split."""
    groups = audited.groupby(["method", "split"], sort=False)[quantity]
    return groups.agg(lambda values: accuracy(values.to_numpy()[:, None], scale=1)).unstack("split")


def above_the_line(audited: pd.DataFrame, home: str, fitted: Sequence[str]) -> pd.DataFrame:
    """Effective robustness: points above the line of the `fitted` methods, a row a method, seed and split.

    Raises:
        ValueError: the fitted methods have one accuracy in distribution.
    """
    top1 = audited.pivot(index=["method", "seed"], columns="split", values="top-1")
    part = top1[top1.index.get_level_values("method").isin(fitted)]
    for split in (name for name in top1.columns if name != home):
        _, line = effective_robustness(part[home], part[split])
        top1[split] -= expected_away(top1[home], line)
    above = top1.drop(columns=home).stack().rename("above")
    return audited[audited["split"] != home].join(above, on=["method", "seed", "split"])


def spread_over(runs: Mapping[tuple[str, str, int], Run], splits: Sequence[str], runs_dir: Path) -> pd.DataFrame:
    """Top-1 in per cent of students whose profiles differ in one field, and how much it varies.

    Args:
        runs: (field, what it is, seed) → run.
        splits: test splits.
        runs_dir: where runs live.

    Returns:
        A row each value of a field, averaged over seeds, then `deviation` over these values and `over seeds` the mean
        deviation over seeds of one value; a column a split.
    """
    tested = {
        key: {s: 100 * float(v.mean()) for s, v in measure(run, runs_dir, splits).items()} for key, run in runs.items()
    }
    top1 = pd.DataFrame(tested).T.rename_axis(["field", "value", "seed"])
    means = top1.groupby(level=["field", "value"], sort=False).mean()
    lines: dict[tuple[str, str], pd.Series] = {}
    for field, part in means.groupby(level="field", sort=False):
        lines |= {(field, value): line for (_, value), line in part.iterrows()}
        lines[field, "deviation"] = part.std()
        lines[field, "over seeds"] = top1.loc[[field]].groupby(level="value").std().mean()
    return pd.DataFrame(lines).T.rename_axis(["field", "value"])


def by_corruption(runs: Mapping[tuple[str, int], Run], runs_dir: Path) -> pd.DataFrame:
    """Error in per cent under each corruption, a row a corruption and a column a method, averaged over seeds."""
    found = {key: measure_corruptions(run, runs_dir) for key, run in runs.items()}
    return (100 * pd.DataFrame(found)).T.groupby(level=0, sort=False).mean().T
