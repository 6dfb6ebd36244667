"""Audit: reliability of a grid of runs, one row a method, seed and split."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from dadlab.data import held_out
from dadlab.estimates import Estimate, accuracy
from dadlab.progress import track
from dadlab.results import measure_corruptions
from dadlab.run import Run
from dadlab.tables.answers import student_logits, teacher_logits
from dadlab.tables.reliability import (
    among_labels,
    baseline_line,
    calibration_error,
    expected_away,
    in_reach,
    per_class,
    selective_accuracy,
    shared_errors,
)

COVERAGES = (0.5, 0.8)
SHARES = tuple(step / 20 for step in range(1, 21))  # of a curve
NOT_ESTIMABLE = "not estimable"


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


def coverage_curves(runs: Mapping[tuple[str, int], Run], splits: Sequence[str], runs_dir: Path) -> pd.DataFrame:
    """Top-1 in per cent on the share of photographs that a student is surest of, averaged over seeds.

    Columns: `method`, `split`, `coverage` in (0, 1], `top-1`.
    """
    lines = []
    for ((method, _), run), split in itertools.product(runs.items(), splits):
        tested = held_out(run.profile, split)
        said = among_labels(student_logits(run, runs_dir, split), tested.labels.numpy(), tested.among)
        lines += [
            {"method": method, "split": split, "coverage": share, "top-1": selective_accuracy(*said, share)}
            for share in SHARES
        ]
    return pd.DataFrame(lines).groupby(["method", "split", "coverage"], sort=False, as_index=False).mean()


def _line(run: Run, split: str, runs_dir: Path) -> dict[str, float]:
    tested = held_out(run.profile, split)
    labels = tested.labels.numpy()
    told, _ = among_labels(teacher_logits(run.profile, runs_dir, split), labels, tested.among)
    said, labels = among_labels(student_logits(run, runs_dir, split), labels, tested.among)
    line = {"top-1": 100 * float((said.argmax(1) == labels).mean()), "ECE": calibration_error(said, labels)}
    line |= {f"top-1 of surest {c:.0%}": selective_accuracy(said, labels, c) for c in COVERAGES}
    return line | shared_errors(said, told, labels)


def by_class(runs: Mapping[tuple[str, int], Run], splits: Sequence[str], runs_dir: Path) -> pd.DataFrame:
    """Top-1 in per cent on each class, a row a class and a column a method or the teacher, over seeds and splits."""
    first, lines = next(iter(runs.values())), []
    for split in splits:
        tested = held_out(first.profile, split)
        among = range(len(tested.classes)) if tested.among is None else tested.among
        names = [tested.classes[label] for label in among]
        said = [(method, student_logits(run, runs_dir, split)) for (method, _), run in runs.items()]
        for method, logits in [*said, ("teacher", teacher_logits(first.profile, runs_dir, split))]:
            own = among_labels(logits, tested.labels.numpy(), tested.among)
            lines.append({"method": method, **per_class(*own, names)})
    return pd.DataFrame(lines).groupby("method", sort=False).mean().T


def over_seeds(audited: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """A quantity's mean over seeds with its 95 % interval (Student's t): a row a method, a column a split."""
    groups = audited.groupby(["method", "split"], sort=False)[quantity]
    return groups.agg(lambda values: accuracy(values.to_numpy()[:, None], scale=1)).unstack("split")


def above_the_line(audited: pd.DataFrame, home: str, baseline: pd.DataFrame, beyond: str = "") -> pd.DataFrame:
    """Effective robustness in points, a row a method and a column a split: an `Estimate`, or why there is none.

    A method lies above or below the line of students without interventions that differ in how well they are trained.
    The 95 % interval is a jackknife over seeds (Student's t), each left out of the method and of the line at once; test
    photographs are taken as given. That students without interventions may not lie on a line is not in it: `beyond`
    takes off how far those of one kind lie above it themselves. `NOT_ESTIMABLE` stands where the line's students lie
    too close together in distribution to say anything of the method's, or one seed is all there is.

    Args:
        audited: `method`, `seed`, `split`, `top-1` in per cent, as from `audit`.
        home: the split in distribution.
        baseline: the same of the line's students, whatever their `method` is called.
        beyond: a method of `baseline`, such as the training of the same length; or nothing.
    """
    known = baseline.pivot(index=["method", "seed"], columns="split", values="top-1")
    zero = known.loc[beyond] if beyond else known.iloc[:0].droplevel(0)
    found: dict[str, dict[str, Estimate | str]] = {}
    for method, part in audited.groupby("method", sort=False):
        top1 = part.pivot(index="seed", columns="split", values="top-1")
        away = [split for split in part["split"].unique() if split != home]
        found[str(method)] = {s: _above(*(frame[[home, s]] for frame in (top1, known, zero))) for s in away}
    return pd.DataFrame(found).T


def _above(top1: pd.DataFrame, known: pd.DataFrame, zero: pd.DataFrame) -> Estimate | str:
    """Of one method and split; all frames have the columns home and away."""
    line_seeds = known.index.get_level_values("seed")
    seeds = sorted({*top1.index, *line_seeds})
    without = [
        (top1.drop(seed, errors="ignore"), known[line_seeds != seed], zero.drop(seed, errors="ignore"))
        for seed in seeds
    ]
    inside = ((known > 0) & (known < 100)).all(axis=None) and ((top1 > 0) & (top1 < 100)).all(axis=None)
    enough = all(len(part) and line.iloc[:, 0].nunique() > 1 for part, line, _ in without)
    if not (inside and enough and in_reach(top1.iloc[:, 0], known.iloc[:, 0])):
        return NOT_ESTIMABLE
    left = np.array([_residual(*parts) for parts in without])
    mean, error = _residual(top1, known, zero), float(np.sqrt((len(seeds) - 1) * left.var()))
    reach = error * float(student_t.ppf(0.975, len(seeds) - 1))
    return Estimate(mean, mean - reach, mean + reach)


def _residual(top1: pd.DataFrame, known: pd.DataFrame, zero: pd.DataFrame) -> float:
    line = baseline_line(known.iloc[:, 0], known.iloc[:, 1])
    above, own = (
        float((f.iloc[:, 1] - expected_away(f.iloc[:, 0], line)).mean()) if len(f) else 0.0 for f in (top1, zero)
    )
    return above - own


def by_corruption(runs: Mapping[tuple[str, int], Run], runs_dir: Path) -> pd.DataFrame:
    """Error in per cent under each corruption, a row a corruption and a column a method, averaged over seeds."""
    found = {key: measure_corruptions(run, runs_dir) for key, run in runs.items()}
    return (100 * pd.DataFrame(found)).T.groupby(level=0, sort=False).mean().T
