import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dadlab.attack import described, direction, perturb, project, random_start
from dadlab.examples import sample_generators
from dadlab.profile import ATTACKS as PRESETS
from dadlab.profile import Attack

ATTACKS = [
    Attack(norm=norm, epsilon=epsilon, step_size=epsilon / 2, steps=steps, start=start)
    for norm, epsilon in (("l2", 0.5), ("l2", 4.0), ("linf", 0.05))
    for steps in (1, 3)
    for start in (0.0, 0.8)
]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 5)).eval()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(6, 3, 8, 8, generator=generator), torch.arange(6) % 5


def length(offset: torch.Tensor, norm: str) -> torch.Tensor:
    flat = offset.flatten(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_stays_in_ball_and_range_and_raises_the_loss(model, batch, attack):
    images, labels = batch
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = perturb(model, images, labels, attack, sample_generators(torch.arange(6), 0))
    assert found.min() >= 0
    assert found.max() <= 1
    assert (length(found - images, attack.norm) <= attack.epsilon * (1 + 1e-5)).all()
    assert F.cross_entropy(model(found), labels) > F.cross_entropy(model(images), labels)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training


@pytest.mark.parametrize("attack", ATTACKS[:4], ids=str)
def test_a_sample_does_not_depend_on_its_batch(model, batch, attack):
    images, labels = batch
    whole = perturb(model, images, labels, attack, sample_generators(torch.arange(6), 0))
    part = perturb(model, images[4:], labels[4:], attack, sample_generators(torch.arange(4, 6), 0))
    torch.testing.assert_close(whole[4:], part)


def test_no_steps_is_no_attack(model, batch):
    found = perturb(model, *batch, Attack(steps=0), sample_generators(torch.arange(6), 0))
    assert torch.equal(found, batch[0])


def test_through_follows_the_discretizer(model, batch):
    """Where the discretizer hides half of the image, no gradient reaches it."""
    attack = Attack(epsilon=1.0, step_size=1.0, through=True)

    def left_half(images):
        return images * (torch.arange(8) < 4)

    found = perturb(model, *batch, attack, sample_generators(torch.arange(6), 0), through=left_half)
    assert torch.equal(found[..., 4:], batch[0][..., 4:])
    assert not torch.equal(found[..., :4], batch[0][..., :4])


def test_rms_of_the_papers_radius():
    assert Attack(epsilon=0.1).rms(224) == pytest.approx(0.0657, abs=1e-3)
    assert Attack(norm="linf", epsilon=8 / 255).rms(32) == pytest.approx(8)


def test_a_pixel_that_starts_outside_the_range_finds_its_way_back(model, batch):
    """Clipped pixels keep their gradient: many steps from any start reach a linear model's worst case."""
    images, labels = batch[0].round(), torch.zeros(6, dtype=torch.int64)  # every pixel at a bound
    weight = torch.linspace(-1, 1, 192).view(3, 8, 8)

    def linear(shown):
        score = (shown * weight).flatten(1).sum(1)
        return torch.stack([score, -score], 1)

    attack = Attack(norm="linf", epsilon=0.1, step_size=0.05, steps=5, start=1.0)
    found = perturb(linear, images, labels, attack, sample_generators(torch.arange(6), 0))
    torch.testing.assert_close(found, (images - 0.1 * weight.sign()).clamp(0, 1))


def test_no_attack_is_described_as_ever():
    """So that what was made without attack is found again."""
    assert described(PRESETS["none"]) == dataclasses.asdict(PRESETS["none"])
    assert described(PRESETS["paper"]).keys() - dataclasses.asdict(PRESETS["paper"]).keys() == {"clipped"}


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_random_starts_are_as_many_as_told_and_as_far(norm):
    """A quarter of them; on the surface in L2, all over the box in L∞."""
    attack = Attack(norm, epsilon=0.5, start=0.25)
    offsets = random_start(torch.zeros(400, 3, 8, 8), attack, sample_generators(torch.arange(400), 0))
    begun = length(offsets, norm) > 0
    assert 70 < begun.sum() < 130
    found = length(offsets[begun], norm)
    torch.testing.assert_close(found, torch.full_like(found, 0.5), atol=0.05 if norm == "linf" else 1e-5, rtol=0)
    assert offsets[begun].mean().abs() < 0.01
    if norm == "linf":
        assert offsets[begun].abs().mean() == pytest.approx(0.25, abs=0.01)


def test_a_start_without_steps_is_an_image(model, batch):
    found = perturb(model, *batch, Attack("linf", 0.5, steps=0, start=1.0), sample_generators(torch.arange(6), 0))
    assert (found.min(), found.max()) == (0, 1)


def test_projection_moves_only_what_is_outside():
    offsets = torch.tensor([3.0, 0.3]).view(2, 1, 1, 1) * torch.tensor([0.6, -0.8]).view(1, 1, 1, 2)
    lengths = project(offsets, Attack("l2", 1.0)).flatten(1)
    torch.testing.assert_close(lengths, torch.tensor([[0.6, -0.8], [0.18, -0.24]]))
    torch.testing.assert_close(project(offsets, Attack("linf", 1.0)).flatten(1), offsets.flatten(1).clamp(-1, 1))


def test_steepest_ascent_by_hand():
    gradient = torch.tensor([3.0, -4.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(direction(gradient, "l2").flatten(), torch.tensor([0.6, -0.8]))
    assert direction(gradient, "linf").flatten().tolist() == [1, -1]
    assert direction(0 * gradient, "l2").flatten().tolist() == [0, 0]
