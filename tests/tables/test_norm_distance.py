"""Statistics of batch normalization, and distances by them, on networks and images small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dadlab.dataset import Dataset
from dadlab.tables.norm_distance import Norms, distances, norm_statistics, norm_w2, sliced


def plain_images(values: list[int]) -> Dataset:
    pixels = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    return Dataset("x", ("a",), pixels, torch.zeros(len(values), dtype=torch.int64))


def test_statistics_are_means_over_batches():
    network = nn.Sequential(nn.BatchNorm2d(3))
    (found,) = norm_statistics(network, plain_images([0, 255, 0, 255]), batches=3, batch=4)
    assert found.mean.tolist() == pytest.approx([0.5] * 3)
    assert found.variance.tolist() == pytest.approx([0.25 * 64 / 63] * 3)  # unbiased over 4 × 4 × 4 values
    assert network[0].num_batches_tracked == 0
    assert network[0].momentum == 0.1


def test_few_batches_are_drawn_from_the_whole_distribution():
    """Not its first images, which may all be of one class."""
    (found,) = norm_statistics(
        nn.Sequential(nn.BatchNorm2d(3)), plain_images([0] * 50 + [255] * 50), batches=1, batch=20
    )
    assert 0.2 < float(found.mean[0]) < 0.8


def test_sliced_distance_squares_what_is_moved():
    assert sliced(np.zeros((2, 1)), np.array([[0.0], [2.0]])) == pytest.approx(2**0.5)  # half of it by 2: W₁ is 1


def test_distance_of_a_shift_in_light_is_the_shift():
    network = nn.Sequential(nn.BatchNorm2d(3))
    dark, light = plain_images([0, 51] * 4), plain_images([51, 102] * 4)
    one, other = (norm_statistics(network, data, batches=2, batch=8) for data in (dark, light))
    assert norm_w2(one, one) == 0
    assert norm_w2(one, other) == pytest.approx(0.2 * 3**0.5)


def test_layers_count_alike():
    near = [Norms(torch.zeros(2), torch.ones(2)), Norms(torch.zeros(1), torch.ones(1))]
    far = [Norms(torch.zeros(2), torch.ones(2)), Norms(torch.ones(1) * 4, torch.ones(1))]
    assert norm_w2(near, far) == 2.0


def test_refuses_what_cannot_be_compared():
    with pytest.raises(ValueError, match="Linear has no batch normalization"):
        norm_statistics(nn.Linear(2, 2), plain_images([0]))
    with pytest.raises(ValueError, match="different networks"):
        norm_w2([Norms(torch.zeros(1), torch.ones(1))], [])


def test_a_distribution_is_nowhere_far_from_itself(photos40, tiny_student):
    darker = Dataset("dark", photos40.classes, photos40.pixels // 2, photos40.labels)
    found = distances(tiny_student, photos40, {"itself": photos40, "dark": darker}, batches=2)
    assert list(found) == ["itself", "dark"]
    assert set(found["itself"].values()) == {0.0}
    assert all(far > 0.01 for far in found["dark"].values())
