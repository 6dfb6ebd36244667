import ast
import dataclasses
import importlib
import inspect
import math
import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dadlab.auxiliary import add_auxiliary
from dadlab.batch import Batch, Tools
from dadlab.fingerprints import fingerprint
from dadlab.losses import dist_loss, jensen_shannon, kd_loss
from dadlab.methods import METHODS, Method
from dadlab.profile import Profile
from dadlab.students import Student

PROFILE = Profile(temperature=2.0, alpha=0.25)
MIXING = {name for name, method in METHODS.items() if method.mixtures}
CALM = [name for name, method in METHODS.items() if not method.attack and "attack" not in method.online]


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


def one(student, batch, tools):
    """A loss."""
    return student(batch.images).mean()  # of nothing


def same(student, batch, tools):
    return student(
        batch.images,
    ).mean()


def other(student, batch, tools):
    return student(batch.images).sum()


def test_the_code_of_a_loss_is_what_it_does_not_how_it_looks():
    codes = [Method("", loss).code for loss in (one, other)]
    assert len(set(codes)) == 2
    assert METHODS["kd"].code != METHODS["plain"].code
    assert METHODS["dad"].code == METHODS["dad_q"].code
    renamed = ast.unparse(ast.parse(inspect.getsource(same))).replace("same", "one")
    assert codes[0] == fingerprint(renamed)
    assert Method("", len).code == ""  # whose source cannot be read


WEIGHT = 2.0


def weighted(student, batch, tools):
    return WEIGHT * student(batch.images).mean()


def test_a_constant_that_the_loss_names_counts(monkeypatch):
    before = Method("", weighted).code
    assert Method("", weighted).code == before
    monkeypatch.setitem(globals(), "WEIGHT", 3.0)
    assert Method("", weighted).code != before


def test_the_code_is_that_of_the_loss_that_runs(tmp_path, monkeypatch):
    """Also when its file is edited while it runs."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "edited_while_running.py"
    file.write_text("def loss(student, batch, tools):\n    return 1\n")
    method = Method("", importlib.import_module("edited_while_running").loss)
    before = method.code
    file.write_text("def loss(student, batch, tools):\n    return 2\n")
    os.utime(file, (0, 0))
    assert method.code == before != ""


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
    expected |= {
        "dad_augmentation": one + two,
        "ard": one + 0.25 * soft_two,
        "rslad": 0.75 * soft_one + 0.25 * soft_two,
        "dist": dist_loss(first, batch.teacher, batch.labels, temperature=2.0, alpha=0.25),
    }
    assert set(expected) | {"debiased"} | MIXING == set(CALM)
    for name, value in expected.items():
        torch.testing.assert_close(METHODS[name].loss(student, batch, tools), value)


def test_augmix_by_hand(student, batch, tools):
    mixtures = torch.rand(8, 3, 2, 2)
    batch = dataclasses.replace(batch, mixtures=mixtures)
    clean, first, second = student(batch.images), student(mixtures[:4]), student(mixtures[4:])
    agreement = 12 * jensen_shannon(clean, first, second)
    expected = F.cross_entropy(clean, batch.labels) + agreement
    torch.testing.assert_close(METHODS["augmix"].loss(student, batch, tools), expected)
    expected = METHODS["kd"].loss(student, batch, tools) + agreement
    torch.testing.assert_close(METHODS["kd_augmix"].loss(student, batch, tools), expected)
    expected = METHODS["dad"].loss(student, batch, tools) + agreement
    torch.testing.assert_close(METHODS["dad_augmix"].loss(student, batch, tools), expected)


class Average(nn.Module):
    """In the place of a style transfer: the content's squares moved to the style's pixels."""

    def forward(self, content, style, strength):
        return content.square().lerp(style, strength)


@pytest.mark.parametrize("mixed", [False, True])
def test_debiased_by_hand(student, batch, tools, mixed):
    """Half of the style, with a fifth of its label; labels may be shares already, as Mixup gives them."""
    labels, others = batch.labels, torch.tensor([2, 2, 0, 1])
    shape, texture = F.one_hot(labels, 3).float(), F.one_hot(others, 3).float()
    if mixed:
        labels, others = (shape, texture) = (torch.rand(4, 3).softmax(1), torch.rand(4, 3).softmax(1))
    style = torch.rand(4, 3, 2, 2)
    batch = dataclasses.replace(batch, labels=labels, second_images=style, second_labels=others)
    tools = dataclasses.replace(tools, transfer=Average())
    conflicting = student((batch.images.square() + style) / 2).log_softmax(1)
    expected = F.cross_entropy(student(batch.images), labels)
    expected = expected - ((0.8 * shape + 0.2 * texture) * conflicting).sum(1).mean()
    torch.testing.assert_close(METHODS["debiased"].loss(student, batch, tools), expected)


def test_debiaseds_auxiliary_norms_see_conflicting_images_alone(batch):
    """One step moves the main statistics as the clean images alone would, the twin's by the stylized ones."""
    torch.manual_seed(0)
    student = add_auxiliary(Student("resnet_s", 3)).train()
    photographs, style = torch.rand(2, 4, 3, 32, 32)
    batch = dataclasses.replace(batch, images=photographs, second_images=style, second_labels=batch.labels)
    METHODS["debiased"].loss(student, batch, Tools(Profile(), student, transfer=Average()))
    norm = student.net.stem.bn
    for images, bn in ((photographs, norm.main), ((photographs.square() + style) / 2, norm.auxiliary)):
        mean = student.net.stem.conv(student.preprocess(images)).mean((0, 2, 3))
        torch.testing.assert_close(bn.running_mean, 0.1 * mean)


def test_attacks_on_the_student_are_those_of_their_papers():
    """L∞ radius and step in 255ths, steps, probability of a random start."""
    attacks = {name: method.attack for name, method in METHODS.items() if method.attack}
    assert {attack.norm for attack in attacks.values()} == {"linf"}
    found = {name: (255 * a.epsilon, 255 * a.step_size, a.steps, a.start) for name, a in attacks.items()}
    assert found.keys() == {"at", "advprop", "fast_advprop", "pyramid_at"}
    assert found["at"] == pytest.approx((8, 2, 10, 1))
    assert found["advprop"] == pytest.approx((4, 1, 5, 1))
    assert found["fast_advprop"] == pytest.approx((1, 1, 1, 1))
    assert found["pyramid_at"] == pytest.approx((3, 0.5, 5, 0))  # 6 and 1 of pixels in [−1, 1]


def test_weights_of_a_methods_own_are_those_of_its_paper():
    own = {name: (method.temperature, method.alpha) for name, method in METHODS.items() if method.alpha is not None}
    assert own == {"dist": (1.0, 2.0), "rslad": (1.0, 5 / 6)}
    doubled = {name for name, method in METHODS.items() if method.auxiliary_norm}
    assert doubled == {"advprop", "fast_advprop", "debiased"}


@pytest.mark.parametrize("name", sorted(set(CALM) - {"debiased"} - MIXING))
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
    without = {name for name in CALM if not METHODS[name].uses_teacher}
    assert without == {"plain", "augmix", "debiased", "dad_augmentation"}


def test_without_adversarial_samples_dad_is_kd(student, batch, tools):
    first = (batch.images, batch.labels, batch.teacher)
    empty = Batch(batch.rows, *first, *(part[:0] for part in first))
    expected = kd_loss(student(batch.images), batch.teacher, batch.labels, temperature=2.0, alpha=0.25)
    torch.testing.assert_close(METHODS["dad"].loss(student, empty, tools), expected)
