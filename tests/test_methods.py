import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dadlab.losses import kd_loss
from dadlab.methods import METHODS, Batch, Tools
from dadlab.profile import Profile

PROFILE = Profile(temperature=2.0, alpha=0.25)
CALM = [name for name, method in METHODS.items() if not method.attack and not method.online]


@pytest.fixture
def student() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


@pytest.fixture
def tools(student) -> Tools:
    return Tools(PROFILE, student)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images, teacher = torch.rand(count, 3, 2, 2, generator=generator), torch.randn(count, 3, generator=generator)
        return images, torch.arange(count) % 3, teacher

    return Batch(torch.arange(4), *draw(4), *draw(5))


def kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    p = (teacher / 2).softmax(1)
    return 4 * (p * (p.log() - (student / 2).log_softmax(1))).sum(1).mean()


def test_losses_by_hand(student, batch, tools):
    first, second = student(batch.images), student(batch.second_images)
    one, two = F.cross_entropy(first, batch.labels), F.cross_entropy(second, batch.second_labels)
    soft_one, soft_two = kl(first, batch.teacher), kl(second, batch.second_teacher)
    expected = {
        "plain": one,
        "kd": one + 0.25 * soft_one,
        "kd_two_views": one + two + 0.25 * (soft_one + soft_two),
        "dad_q": one + 0.25 * (soft_one + soft_two),
        "dad_q_matched": one + 0.25 * (soft_one + soft_two),
        "dad": one + 0.25 * (soft_one + soft_two),
    }
    assert set(expected) == set(CALM)
    for name, value in expected.items():
        torch.testing.assert_close(METHODS[name].loss(student, batch, tools), value)


@pytest.mark.parametrize("name", CALM)
def test_second_stream_makes_a_second_pass(student, batch, tools, name):
    """Controls are matched in compute: one student pass a step, over both halves where there are two."""
    seen: list[int] = []
    student.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    METHODS[name].loss(student, batch, tools)
    assert seen == [4 if METHODS[name].second == "none" else 9]


@pytest.mark.parametrize("name", ["dad", "dad_q"])
def test_labels_of_discretized_samples_do_not_matter(student, batch, tools, name):
    other = dataclasses.replace(batch, second_labels=2 - batch.second_labels % 3)
    assert METHODS[name].loss(student, batch, tools) == METHODS[name].loss(student, other, tools)


def test_plain_needs_no_teacher(student, batch, tools):
    none = torch.zeros(0)
    loss = METHODS["plain"].loss(student, Batch(batch.rows, batch.images, batch.labels, none, none, none, none), tools)
    assert math.isfinite(loss.item())
    assert [name for name in CALM if not METHODS[name].uses_teacher] == ["plain"]


def test_without_adversarial_samples_dad_is_kd(student, batch, tools):
    first = (batch.images, batch.labels, batch.teacher)
    empty = Batch(batch.rows, *first, *(part[:0] for part in first))
    expected = kd_loss(student(batch.images), batch.teacher, batch.labels, temperature=2.0, alpha=0.25)
    torch.testing.assert_close(METHODS["dad"].loss(student, empty, tools), expected)
