import numpy as np
import pytest

from dadlab.distance import gaussian_w2, pooled_features


def test_shift_of_the_mean_is_its_length():
    sample = np.random.default_rng(0).normal(size=(500, 4))
    assert gaussian_w2(sample, sample + np.array([1.0, 2.0, 2.0, 0.0])) == pytest.approx(3.0, abs=1e-6)


def test_scaling_a_unit_gaussian():
    sample = np.random.default_rng(0).normal(size=(20_000, 1))
    assert gaussian_w2(sample, 3 * sample) == pytest.approx(2 * sample.std(ddof=1), rel=1e-2)


def test_features_of_a_student(tiny_student, photos40):
    assert pooled_features(tiny_student, photos40).shape == (40, 128)
