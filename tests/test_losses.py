import math

import pytest
import torch

from dadlab.losses import dad_loss, kd_loss, kl_divergence

TEACHER = torch.tensor([[math.log(3.0), 0.0]])  # probabilities 3/4, 1/4
STUDENT = torch.zeros(1, 2)  # probabilities 1/2, 1/2
LABEL = torch.tensor([0])
BY_HAND = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)


def test_kl_divergence_by_hand():
    assert kl_divergence(STUDENT, TEACHER, temperature=1.0).item() == pytest.approx(BY_HAND)


def test_temperature_softens_and_rescales():
    p = torch.softmax(TEACHER / 4, 1)
    expected = 16 * (p * (p / 0.5).log()).sum().item()
    assert kl_divergence(STUDENT, TEACHER, temperature=4.0).item() == pytest.approx(expected)


def test_high_temperature_tends_to_squared_logit_distance():
    a, b = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 5, dtype=torch.float64)
    centred = (a - a.mean(1, True)) - (b - b.mean(1, True))
    limit = centred.square().sum(1).mean() / (2 * 5)
    assert kl_divergence(a, b, temperature=1e4).item() == pytest.approx(limit.item(), rel=1e-3)


def test_reduction_none_averages_to_mean():
    a, b = torch.randn(6, 3), torch.randn(6, 3)
    each = kl_divergence(a, b, temperature=2.0, reduction="none")
    assert each.shape == (6,)
    assert each.mean() == pytest.approx(kl_divergence(a, b, temperature=2.0).item(), rel=1e-5)


def test_kd_loss_by_hand():
    expected = math.log(2) + 0.5 * BY_HAND
    assert kd_loss(STUDENT, TEACHER, LABEL, temperature=1.0, alpha=0.5).item() == pytest.approx(expected)


def test_dad_loss_by_hand_and_without_labels_on_the_adversarial_batch():
    loss = dad_loss(STUDENT, TEACHER, LABEL, STUDENT.repeat(3, 1), TEACHER.repeat(3, 1), temperature=1.0, alpha=0.5)
    assert loss.item() == pytest.approx(math.log(2) + 2 * 0.5 * BY_HAND)  # one label, three adversarial samples


def test_empty_adversarial_batch_leaves_kd():
    none = torch.zeros(0, 2)
    expected = kd_loss(STUDENT, TEACHER, LABEL)
    assert dad_loss(STUDENT, TEACHER, LABEL, none, none) == expected


def test_large_logits_stay_finite():
    assert torch.isfinite(kl_divergence(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]]), temperature=1.0))


def test_gradients():
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher, labels = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(lambda s: dad_loss(s, teacher, labels, s.flip(0), teacher), student)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "names"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), {}, r"\(2, 3\).*\(2, 4\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"temperature": 0.0}, "temperature"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"reduction": "sum"}, "'mean' or 'none'"),
    ],
)
def test_bad_input(student, teacher, options, names):
    with pytest.raises(ValueError, match=names):
        kl_divergence(student, teacher, **{"temperature": 1.0, **options})
