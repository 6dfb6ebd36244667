import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dadlab.losses import ard_loss, dad_loss, dist_loss, jensen_shannon, kd_loss, kl_divergence, rslad_loss

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


def test_ard_loss_by_hand_asks_the_label_of_clean_images_alone():
    loss = ard_loss(STUDENT, LABEL, STUDENT.repeat(3, 1), TEACHER.repeat(3, 1), temperature=1.0, alpha=0.5)
    assert loss.item() == pytest.approx(math.log(2) + 0.5 * BY_HAND)


def test_rslad_loss_by_hand_has_no_label():
    loss = rslad_loss(STUDENT, TEACHER, TEACHER.repeat(3, 1), STUDENT.repeat(3, 1), temperature=1.0, alpha=0.75)
    backwards = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert loss.item() == pytest.approx(0.25 * BY_HAND + 0.75 * backwards)


@pytest.mark.parametrize(("options", "t"), [({}, 1), ({"temperature": 3.0}, 3)], ids=str)
def test_dist_loss_by_hand(options, t):
    torch.manual_seed(0)
    student, teacher, labels = torch.randn(5, 3), torch.randn(5, 3), torch.arange(5) % 3
    p, q = ((logits / t).softmax(1).double().numpy() for logits in (student, teacher))
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    expected = F.cross_entropy(student, labels).item() + 2 * t**2 * (1 - rows) + 2 * t**2 * (1 - columns)
    assert dist_loss(student, teacher, labels, **options).item() == pytest.approx(expected, rel=1e-5)


def test_dist_asks_for_relations_not_for_equality():
    """A student half as sure, with all probabilities in the same relation, has nothing to learn from the teacher."""
    torch.manual_seed(0)
    teacher = torch.randn(6, 4).softmax(1)
    unsure = 0.5 * teacher + 0.5 / 4
    labels = torch.arange(6) % 4
    expected = F.cross_entropy(unsure.log(), labels)
    torch.testing.assert_close(dist_loss(unsure.log(), teacher.log(), labels), expected)
    assert kd_loss(unsure.log(), teacher.log(), labels, temperature=1.0) > expected + 0.01


def test_jensen_shannon_by_hand():
    middle = (7 / 12, 5 / 12)  # of (3/4, 1/4) and twice (1/2, 1/2)
    first = 0.75 * math.log(0.75 / middle[0]) + 0.25 * math.log(0.25 / middle[1])
    others = 0.5 * math.log(0.5 / middle[0]) + 0.5 * math.log(0.5 / middle[1])
    assert jensen_shannon(TEACHER, STUDENT, STUDENT).item() == pytest.approx((first + 2 * others) / 3)


def test_jensen_shannon_is_at_most_log_k():
    apart = 100 * torch.eye(3)
    assert jensen_shannon(*(row[None] for row in apart)).item() == pytest.approx(math.log(3))


def test_large_logits_stay_finite():
    assert torch.isfinite(kl_divergence(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]]), temperature=1.0))


def test_gradients():
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher, labels = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(lambda s: dad_loss(s, teacher, labels, s.flip(0), teacher), student)
    assert torch.autograd.gradcheck(lambda s: dist_loss(s, teacher, labels), student)
    assert torch.autograd.gradcheck(lambda s: jensen_shannon(s, s.flip(0), teacher), student)
    assert torch.autograd.gradcheck(lambda s: rslad_loss(s, teacher, s.flip(0), teacher), student)


def test_one_sample_has_no_relation_to_others():
    """Parts of a batch may be that small: the intra-class term is then constant, its gradient finite."""
    student = torch.randn(1, 4, requires_grad=True)
    dist_loss(student, torch.randn(1, 4), LABEL).backward()
    assert student.grad.isfinite().all()


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
