import pytest
import torch
import torch.nn.functional as F

from dadlab.pyramid import PYRAMID, perturb_pyramid
from dadlab.students import Student

LABELS = torch.arange(8) % 3


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student("resnet_s", 3).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_pyramids_perturbation_is_a_sum_over_scales(student, images):
    """Cell means of the coarsest grid are reached at 20 ε only with the coarse scales; every pixel stays in the sum."""
    images = images * 0.2 + 0.4  # so that nothing is clipped to [0, 1]
    found = (perturb_pyramid(student, images, LABELS, torch.zeros(8)) - images) * 255
    step = PYRAMID.step_size * 255
    assert found.abs().amax() <= 31 * PYRAMID.steps * step + 1e-3
    left = found / step  # an integer combination of 20, 10 and 1: |δ_s| is a whole number of steps up to 5
    assert (left - left.round()).abs().amax() < 1e-2
    tens = (left - ((left.round() + 5) % 10 - 5)).round()  # 20 · δ₇ + 10 · δ₁₄, but for δ₁ = ±5
    assert tens.abs().amax() > 10 * PYRAMID.steps


def test_pyramid_goes_towards_the_drawn_class(student, images):
    for draw, shift in ((0.1, 1), (0.9, 2)):
        found = perturb_pyramid(student, images, LABELS, torch.full((8,), draw))
        wrong = (LABELS + shift) % 3
        assert F.cross_entropy(student(found), wrong) < F.cross_entropy(student(images), wrong)


def test_a_linear_models_pyramid_by_hand(images):
    """Five half steps on every scale, each cell along the sum of what is under it; 4 and 2 pixels of 28."""
    weight = 0.01 * torch.randn(3, 28, 28, generator=torch.Generator().manual_seed(2))

    def linear(shown):
        score = (shown * weight).flatten(1).sum(1)
        return torch.stack([score, -score], 1)

    def along(cell: int) -> torch.Tensor:
        sums = F.avg_pool2d(weight, cell).sign()
        return sums.repeat_interleave(cell, 1).repeat_interleave(cell, 2)

    images, labels = images[..., :28, :28], torch.zeros(8, dtype=torch.int64)
    grey = 0.4 + 0.2 * images
    expected = grey - 2.5 / 255 * (20 * along(4) + 10 * along(2) + along(1))
    torch.testing.assert_close(perturb_pyramid(linear, grey, labels, torch.zeros(8)), expected)
    clipped = perturb_pyramid(linear, images, labels, torch.zeros(8))
    assert (clipped.min(), clipped.max()) == (0, 1)
