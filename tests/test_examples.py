import pytest
import torch

from dadlab.examples import Made, discretize_adversarially, sample_generators
from dadlab.profile import Attack

SIZE = (3, 8, 8)


class Brighter:
    """A discretizer that makes every pixel 0.08 brighter."""

    def of(self, labels):
        return self

    def __call__(self, images):
        return images + 0.08

    straight_through = __call__


def restless(images: torch.Tensor) -> torch.Tensor:
    """The second class for what is brighter than 0.5, or of pixels that differ."""
    flat = images.flatten(1)
    score = flat.mean(1) + 100 * flat.var(1) - 0.5
    return torch.stack([-score, score], 1)


def made(*brightness: float, attack: Attack) -> Made:
    """From flat images, all of the first class."""
    images = torch.tensor(brightness).view(-1, 1, 1, 1).expand(-1, *SIZE)
    labels, rows = torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images))
    return discretize_adversarially(images, labels, restless, Brighter(), attack, sample_generators(rows, 0))


def test_stages_and_reasons_by_hand():
    """Kept; wrong before anything was done; wrong after Q; fooled by the attack."""
    found = made(0.2, 0.6, 0.45, 0.35, attack=Attack("linf", 0.1, 0.1))
    assert found.reason.tolist() == [0, 1, 2, 3]
    assert found.accepted.tolist() == [True, False, False, False]
    torch.testing.assert_close(found.reconstructed, found.clean + 0.08)
    torch.testing.assert_close(found.perturbed, found.reconstructed + 0.1)
    torch.testing.assert_close(found.images, found.perturbed + 0.08)
    assert found.distance.tolist() == pytest.approx([0.26 * 192**0.5] * 4)
    assert torch.equal(found.logits, restless(found.images))


def test_a_random_start_that_fools_the_teacher_is_the_attacks():
    """Q(x) itself it still knows."""
    assert made(0.3, attack=Attack("linf", 0.1, 0.0, start=1.0)).reason.tolist() == [3]


@pytest.mark.parametrize(
    "attack",
    [
        Attack("linf", 0.1, 0.1, steps=0),
        Attack("linf", 0.0, 0.1),
        Attack("linf", 0.1, 0.0),
        Attack("linf", 0.1, 0.0, 3),
    ],
    ids=str,
)
def test_what_no_attack_has_moved_is_lost_to_the_second_pass_through_q(attack):
    assert made(0.3, 0.4, attack=attack).reason.tolist() == [0, 2]


def test_a_samples_random_numbers_are_its_own_and_its_seeds():
    def drawn(rows, seed):
        return [float(torch.rand((), generator=one)) for one in sample_generators(torch.tensor(rows), seed)]

    first = drawn([3, 8], 0)
    assert drawn([8], 0) == first[1:]
    assert len({*first, *drawn([3, 8], 1)}) == 4
