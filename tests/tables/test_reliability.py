"""Calibration, selection and agreement by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dadlab.tables import reliability

LABELS = np.array([0, 0, 1, 1])


def said(*answers: int) -> np.ndarray:
    return 10.0 * np.eye(3)[list(answers)]


def test_calibration_of_a_sure_and_right_model_is_near_zero():
    assert reliability.calibration_error(100 * said(0, 0, 1, 1), LABELS) == pytest.approx(0, abs=1e-6)
    assert reliability.calibration_error(100 * said(1, 1, 0, 0), LABELS) == pytest.approx(100)


def test_calibration_is_counted_in_fifteenths():
    """Confidence of 0.62 lies in the tenth bin, of 0.68 in the eleventh; in tenths, both would be in the seventh."""
    logits = np.log([[0.62, 0.38], [0.68, 0.32]])
    assert reliability.calibration_error(logits, np.array([0, 1])) == pytest.approx(100 * (0.38 + 0.68) / 2)


def test_the_surest_half_is_judged_alone():
    logits = np.array([[9.0, 0.0], [8.0, 0.0], [1.0, 0.0], [1.1, 0.0]])
    assert reliability.selective_accuracy(logits, LABELS, 0.5) == 100
    assert reliability.selective_accuracy(logits, LABELS, 1.0) == 50
    two_of_three = reliability.selective_accuracy(logits[:3], np.array([0, 1, 0]), 0.6)  # 1.8 are two
    assert two_of_three == 50
    with pytest.raises(ValueError, match="coverage"):
        reliability.selective_accuracy(logits, LABELS, 0)


def test_errors_shared_with_the_teacher():
    found = reliability.shared_errors(said(1, 2, 1, 0), said(1, 1, 0, 1), LABELS)
    # the student errs on samples 0, 1 and 3, the teacher on 0, 1 and 2; on 0 alone they say the same
    told = {"shared": 200 / 3, "expected": 75.0, "repeated": 200 / 3, "consistency": -100 / 3, "same answer": 50.0}
    assert found == pytest.approx(told)
    twice = reliability.shared_errors(said(0, 2, 1, 1), said(1, 1, 0, 1), LABELS)  # one error; the teacher has three
    assert (twice["shared"], twice["repeated"]) == pytest.approx((100.0, 100 / 3))
    assert np.isnan(reliability.shared_errors(said(0, 0, 1, 1), said(0, 0, 1, 1), LABELS)["shared"])


def test_accuracy_of_each_class():
    assert reliability.per_class(said(0, 1, 1, 1), LABELS, ["a", "b"]) == {"a": 50.0, "b": 100.0}


def test_models_on_one_line_have_no_effective_robustness():
    home = np.array([50.0, 70.0, 90.0])
    line = (1.0, -1.0)
    found = reliability.baseline_line(home, reliability.expected_away(home, line))
    assert found == pytest.approx(line)
    with pytest.raises(ValueError, match="two models"):
        reliability.baseline_line([50.0], [40.0])


def test_a_line_reaches_as_far_as_its_models_lie_apart():
    assert reliability.in_reach([45.0, 85.0], [60.0, 75.0])  # on the scale of logits, as far again on either side
    assert not reliability.in_reach([45.0, 87.0], [60.0, 75.0])
    assert not reliability.in_reach([40.0], [60.0, 75.0])
    assert not reliability.in_reach([60.0], [60.0, 60.0])


def test_only_the_labels_of_the_split_count():
    logits = np.array([[9.0, 1.0, 5.0, 0.0], [0.0, 7.0, 8.0, 9.0]])
    kept, labels = reliability.among_labels(logits, np.array([2, 1]), (1, 2))
    assert kept.tolist() == [[1.0, 5.0], [7.0, 8.0]]
    assert labels.tolist() == [1, 0]
    assert reliability.among_labels(logits, labels, None)[0] is logits
