"""What the paper leaves open: is a student's trust in itself earned, and does it fail where its teacher fails?

Pure functions of logits and labels: calibration, selective accuracy, agreement of errors, effective robustness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit, softmax

BINS = 15  # of confidence in [0, 1]


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error in points: |accuracy − confidence| in bins of equal width, weighted by their size.

    Source: Guo et al. (2017), *On Calibration of Modern Neural Networks*, Eq. 3.

    Args:
        logits: (N, C).
        labels: (N,).

    >>> round(calibration_error(np.log([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1])), 6)
    25.0
    """
    sure, right = _confidence(logits), logits.argmax(1) == labels
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(float((right[place == b].astype(float) - sure[place == b]).sum())) for b in range(BINS)]
    return 100 * sum(gaps) / len(labels)


def selective_accuracy(logits: np.ndarray, labels: np.ndarray, coverage: float) -> float:
    """Top-1 in per cent on the share of samples that the model is surest of.

    Args:
        logits: (N, C).
        labels: (N,).
        coverage: share in (0, 1].

    Raises:
        ValueError: coverage out of range.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must lie in (0, 1], got {coverage}")
    kept = np.argsort(-_confidence(logits), kind="stable")[: max(1, round(coverage * len(labels)))]
    return 100 * float((logits[kept].argmax(1) == labels[kept]).mean())


def shared_errors(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How far a student's errors are its teacher's, from both logits (N, C).

    `shared` cannot exceed the teacher's errors over the student's, so a better student shares more of its errors,
    biased or not; `consistency` is free of both accuracies.

    Returns:
        `shared`: per cent of the student's errors on which the teacher errs too; `expected`: were they unrelated, that
        would be the teacher's error rate; `repeated`: per cent of the teacher's errors that the student makes too;
        `consistency`: 100 κ, per cent of the agreement in right and wrong that chance leaves open (Geirhos et al.,
        2020, §2); `same answer`: per cent of the errors both make that are the same one. NaN of nothing.
    """
    said, told = student.argmax(1), teacher.argmax(1)
    wrong, misled = said != labels, told != labels
    both, by_chance = wrong & misled, wrong.mean() * misled.mean() + (~wrong).mean() * (~misled).mean()
    return {
        "shared": _percent(misled[wrong]),
        "expected": _percent(misled),
        "repeated": _percent(wrong[misled]),
        "consistency": _percent(wrong == misled, by_chance),
        "same answer": _percent(said[both] == told[both]),
    }


def among_labels(logits: np.ndarray, labels: np.ndarray, among: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) of the K labels that a model may answer with, and the true ones (N,) as positions among these.

    Args:
        logits: (N, C).
        labels: (N,).
        among: labels in increasing order, as in `dadlab.dataset.Dataset`; None for all C.

    >>> among_labels(np.array([[9.0, 1.0, 5.0]]), np.array([2]), (1, 2))
    (array([[1., 5.]]), array([1]))
    """
    return (logits, labels) if among is None else (logits[:, list(among)], np.searchsorted(among, labels))


def per_class(logits: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Top-1 in per cent of every class, from logits (N, C) and labels (N,)."""
    right = logits.argmax(1) == labels
    return {name: _percent(right[labels == label]) for label, name in enumerate(classes)}


def baseline_line(home: Sequence[float], away: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept of β: logit of the accuracy away on that at home, by least squares.

    Source: Taori et al. (2020), §3: β from models without interventions; effective robustness of another is
    ρ = acc_away − β(acc_home).

    Args:
        home, away: accuracies in per cent, in (0, 100), of the models without interventions.

    Raises:
        ValueError: fewer than two different accuracies in distribution.
    """
    x, y = logit(np.asarray(home) / 100), logit(np.asarray(away) / 100)
    if len(set(np.round(x, 9))) < 2:
        raise ValueError("a line needs two models of different accuracy in distribution")
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)


def in_reach(home: Sequence[float], fitted: Sequence[float]) -> bool:
    """Whether a line fitted at some accuracies in per cent says anything of others: none of these lies farther outside
    the range of the fitted ones than that range is wide, on the line's scale.

    >>> in_reach([85.0], [73.0, 83.0]), in_reach([85.0], [82.5, 83.3])
    (True, False)
    """
    x, known = logit(np.asarray(home) / 100), logit(np.asarray(fitted) / 100)
    wide = known.max() - known.min()
    return bool(wide > 0 and x.max() <= known.max() + wide and x.min() >= known.min() - wide)


def expected_away(home: Sequence[float], line: tuple[float, float]) -> np.ndarray:
    """Accuracy in per cent that a line of `baseline_line` expects out of distribution."""
    return 100 * expit(line[0] * logit(np.asarray(home) / 100) + line[1])


def _confidence(logits: np.ndarray) -> np.ndarray:
    return softmax(logits.astype(float), axis=1).max(1)


def _percent(found: np.ndarray, by_chance: float = 0.0) -> float:
    """Of the share that chance leaves open."""
    return 100 * float((np.mean(found) - by_chance) / (1 - by_chance)) if len(found) and by_chance < 1 else float("nan")
