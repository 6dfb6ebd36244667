from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dadlab.distance import features_of, gaussian_w2, pooled_features


def test_shift_of_the_mean_is_its_length():
    sample = np.random.default_rng(0).normal(size=(500, 4))
    assert gaussian_w2(sample, sample + np.array([1.0, 2.0, 2.0, 0.0])) == pytest.approx(3.0, abs=1e-6)


def test_scaling_a_unit_gaussian():
    sample = np.random.default_rng(0).normal(size=(20_000, 1))
    assert gaussian_w2(sample, 3 * sample) == pytest.approx(2 * sample.std(ddof=1), rel=1e-2)


def test_features_of_a_student(tiny_student, photos40):
    assert pooled_features(tiny_student, photos40).shape == (40, 128)


def test_features_are_means_over_places_and_of_the_first_samples(tiny_student, photos40):
    images = photos40.images(torch.arange(2))
    net = SimpleNamespace(forward_features=lambda images: images)
    found = features_of(SimpleNamespace(net=net, preprocess=lambda images: 2 * images), images)
    assert found == pytest.approx(2 * images.flatten(2).mean(2).numpy(), abs=1e-6)
    few = pooled_features(tiny_student, photos40, 7)
    assert few == pytest.approx(pooled_features(tiny_student, photos40)[:7], abs=1e-5)
