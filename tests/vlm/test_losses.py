import math

import pytest
import torch
import torch.nn.functional as F

from dadlab.vlm.losses import (
    TAU,
    caption_loss,
    cls_loss,
    contrast_loss,
    cosine_logits,
    keep_above,
    keep_correct,
    keep_percentile,
    log_mse_loss,
    mse_loss,
    proximity_loss,
)

AXES = torch.eye(3, dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1, 1])


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student (4, 5), teacher (4, 5), text (3, 5)."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, 5, dtype=torch.float64, generator=generator) for n in (4, 4, 3))


def test_cls_by_hand():
    # cosines 0.6, 0.8 and 0 at τ = 0.2: logits 3, 4, 0
    expected = math.log(math.exp(3) + math.exp(4) + 1) - 3
    student = torch.tensor([[3.0, 4.0, 0.0]], dtype=torch.float64)
    assert cls_loss(student, AXES, torch.tensor([0]), tau=0.2).item() == pytest.approx(expected)


def test_mse_by_hand_is_twice_one_minus_the_cosine():
    student = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 7.0]])
    teacher = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert mse_loss(student, teacher).item() == pytest.approx((2 * (1 - 0.6) + 0) / 2)


def test_alternative_mse_by_hand_sees_lengths():
    student, teacher = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert log_mse_loss(student, teacher).item() == pytest.approx(math.log(1 + (25 + 4) / 2 / 10))
    assert log_mse_loss(2 * student, student) > 0
    assert mse_loss(2 * student, student) == 0


def test_contrast_by_hand():
    # rows: cosines (1, 0.6) and (0, 0.8); columns: (1, 0) and (0.6, 0.8)
    student = torch.eye(2, dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    rows = [math.log(1 + math.exp(0.6 - 1)), math.log(1 + math.exp(0 - 0.8))]
    columns = [math.log(1 + math.exp(0 - 1)), math.log(1 + math.exp(0.6 - 0.8))]
    single = contrast_loss(student, teacher, tau=1.0, bidirectional=False)
    assert single.item() == pytest.approx(sum(rows) / 2)
    assert contrast_loss(student, teacher, tau=1.0).item() == pytest.approx(sum(rows + columns) / 4)


def test_single_contrast_is_equation_3_at_half_its_temperature(features):
    student, teacher = (F.normalize(x, dim=1) for x in features[:2])
    printed = (-torch.cdist(student, teacher).square() / 0.3).softmax(1).diagonal()
    found = contrast_loss(student, teacher, tau=0.15, bidirectional=False)
    assert found.item() == pytest.approx(-printed.log().mean().item())


def test_bidirectional_contrast_is_symmetric_and_blind_to_order(features):
    student, teacher, _ = features
    loss = contrast_loss(student, teacher, tau=TAU)
    assert loss.item() == pytest.approx(contrast_loss(teacher, student, tau=TAU).item())
    assert loss.item() == pytest.approx(contrast_loss(student.flip(0), teacher.flip(0), tau=TAU).item())


def test_contrast_does_not_mind_one_rotation_of_both_spaces(features):
    student, teacher, _ = features
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    expected = contrast_loss(student, teacher, tau=TAU).item()
    assert contrast_loss(student @ rotation, teacher @ rotation, tau=TAU).item() == pytest.approx(expected)


def test_proximity_by_hand_leaves_out_labels_beyond_k():
    # teacher cosines 0.8, 0.6, 0: its two nearest labels are 0 and 1; the student has 0 on both, 1 on label 2
    teacher = torch.tensor([[0.8, 0.6, 0.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    p = 1 / (1 + math.exp(-(0.8 - 0.6) / 0.1))
    expected = p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)
    found = proximity_loss(student, teacher, AXES, torch.tensor([True]), tau=0.1, k=2)
    assert found.item() == pytest.approx(expected)


def test_proximity_over_all_labels_is_the_plain_divergence(features):
    student, teacher, text = features
    p, q = (cosine_logits(x, text, tau=0.5).softmax(1) for x in (teacher, student))
    found = proximity_loss(student, teacher, text, torch.ones(4, dtype=torch.bool), tau=0.5)
    assert found.item() == pytest.approx((p * (p / q).log()).sum(1).mean().item())


def test_proximity_is_over_256_labels_unless_told_otherwise():
    generator = torch.Generator().manual_seed(0)
    student, teacher, text = (torch.randn(n, 8, generator=generator) for n in (2, 2, 300))
    found, chosen, every = (
        proximity_loss(student, teacher, text, torch.ones(2, dtype=torch.bool), tau=1.0, **k)
        for k in ({}, {"k": 256}, {"k": 300})
    )
    assert found == chosen != every


def test_proximity_moves_learnt_texts_through_the_student_alone(features):
    student, teacher, text = features
    text, everything = text.requires_grad_(True), torch.ones(4, dtype=torch.bool)
    (found,) = torch.autograd.grad(proximity_loss(student, teacher, text, everything, tau=0.5), text)
    target = cosine_logits(teacher, text, tau=0.5).softmax(1).detach()
    loss = (target * (target.log() - cosine_logits(student, text, tau=0.5).log_softmax(1))).sum(1).mean()
    (expected,) = torch.autograd.grad(loss, text)
    torch.testing.assert_close(found, expected)


def test_proximity_is_the_mean_over_what_is_kept(features):
    student, teacher, text = features
    keep = torch.tensor([True, False, False, True])
    everything = torch.ones(2, dtype=torch.bool)
    found = proximity_loss(student, teacher, text, keep, tau=TAU, k=2)
    expected = proximity_loss(student[keep], teacher[keep], text, everything, tau=TAU, k=2)
    assert found.item() == pytest.approx(expected.item())


def test_one_nearest_label_leaves_nothing_to_learn(features):
    student, teacher, text = features
    assert proximity_loss(student, teacher, text, torch.ones(4, dtype=torch.bool), tau=TAU, k=1) == 0


def test_batch_filtered_empty_gives_zero_and_zero_gradients(features):
    student, teacher, text = features
    student.requires_grad_()
    found = proximity_loss(student, teacher, text, torch.zeros(4, dtype=torch.bool), tau=TAU)
    found.backward()
    assert found == 0
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("loss", ["cls", "mse", "log_mse", "contrast", "proximity", "caption"])
def test_empty_batch_is_zero_with_a_gradient_path(loss, features):
    _, _, text = features
    student, teacher = torch.zeros(0, 5, dtype=torch.float64, requires_grad=True), torch.zeros(0, 5).double()
    labels = torch.zeros(0, dtype=torch.int64)
    found = {
        "cls": lambda: cls_loss(student, text, labels, tau=TAU),
        "mse": lambda: mse_loss(student, teacher),
        "log_mse": lambda: log_mse_loss(student, teacher),
        "contrast": lambda: contrast_loss(student, teacher, tau=TAU),
        "proximity": lambda: proximity_loss(student, teacher, text, labels.bool(), tau=TAU),
        "caption": lambda: caption_loss(student, teacher, labels),
    }[loss]()
    found.backward()
    assert found == 0
    assert student.grad is not None


def test_caption_by_hand_without_captions_of_the_same_class():
    # image 0 against captions 0 (cosine 0.6) and 2 (cosine 0); caption 1 is of its own class
    student = torch.eye(3, dtype=torch.float64)
    captions = torch.tensor([[0.6, 0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.6, 0.8]], dtype=torch.float64)
    labels = torch.tensor([4, 4, 7])
    rows = [
        math.log(1 + math.exp(0 - 0.6)),
        math.log(1 + math.exp(0.6 - 0.6)),
        math.log(1 + 2 * math.exp(0 - 0.8)),
    ]
    assert caption_loss(student, captions, labels).item() == pytest.approx(sum(rows) / 3)


def test_caption_of_the_same_class_does_not_matter(features):
    student, captions, _ = features
    changed = captions.clone()
    changed[3] = -captions[3]
    rows = [caption_loss(student[[0, 1, 2]], x[[0, 1, 3]], torch.tensor([0, 2, 2])) for x in (captions, changed)]
    alone = [caption_loss(student[[1, 2]], x[[1, 3]], torch.tensor([2, 2])) for x in (captions, changed)]
    assert rows[0] != rows[1]
    assert alone == [0, 0]


@pytest.mark.parametrize("length", [0.1, 30.0])
def test_lengths_of_features_do_not_matter(length, features):
    student, teacher, text = features
    keep = keep_correct(cosine_logits(teacher, text, tau=TAU), LABELS)

    def total(scale: float) -> torch.Tensor:
        s, t, y = student * scale, teacher * scale, text * scale
        near = proximity_loss(s, t, y, keep | True, tau=TAU, k=2)
        visual = mse_loss(s, t) + contrast_loss(s, t, tau=TAU) + caption_loss(s, t, LABELS)
        return cls_loss(s, y, LABELS, tau=TAU) + visual + near

    assert total(length).item() == pytest.approx(total(1.0).item())


def test_perfect_student_has_neither_distance_nor_divergence(features):
    _, teacher, text = features
    assert mse_loss(teacher, teacher) == 0
    assert log_mse_loss(teacher, teacher) == 0
    assert proximity_loss(teacher, teacher, text, torch.ones(4, dtype=torch.bool), tau=TAU) == 0


def test_gradients(features):
    student, teacher, text = features
    keep = torch.tensor([True, False, True, True])

    def total(s: torch.Tensor) -> torch.Tensor:
        visual = mse_loss(s, teacher) + log_mse_loss(s, teacher) + contrast_loss(s, teacher, tau=0.5)
        near = proximity_loss(s, teacher, text, keep, tau=0.5, k=2)
        return cls_loss(s, text, LABELS, tau=0.5) + visual + near + caption_loss(s, teacher, LABELS)

    assert torch.autograd.gradcheck(total, student.requires_grad_())


LOGITS = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]]).log()


def test_filter_by_correctness():
    assert keep_correct(LOGITS, LABELS).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("threshold", "kept"), [(0.0, [1, 1, 1, 1]), (0.25, [1, 0, 1, 1]), (0.4, [1, 0, 1, 0]), (1.0, [0, 0, 0, 0])]
)
def test_filter_by_threshold_of_the_labels_probability(threshold, kept):
    assert keep_above(LOGITS, LABELS, threshold=threshold).int().tolist() == kept


def test_a_probability_at_the_threshold_is_kept():
    assert keep_above(torch.zeros(1, 2), torch.tensor([0]), threshold=0.5).tolist() == [True]


@pytest.mark.parametrize(("percentile", "kept"), [(0, [1, 1, 1, 1]), (34, [1, 0, 1, 1]), (100, [1, 0, 0, 0])])
def test_filter_by_percentile_of_the_labels_probability(percentile, kept):
    assert keep_percentile(LOGITS, LABELS, percentile=percentile).int().tolist() == kept


def test_percentile_leaves_out_its_share():
    logits, labels = torch.randn(1000, 7, generator=torch.Generator().manual_seed(0)), torch.arange(1000) % 7
    assert keep_percentile(logits, labels, percentile=30).float().mean().item() == pytest.approx(0.7, abs=2e-3)


def test_percentile_of_nothing_keeps_nothing():
    assert keep_percentile(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), percentile=50).shape == (0,)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: mse_loss(torch.zeros(2, 3), torch.zeros(2, 4)), r"\(2, 3\) and \(2, 4\)"),
        (lambda: contrast_loss(torch.zeros(2, 3), torch.zeros(1, 3), tau=1.0), r"\(2, 3\) and \(1, 3\)"),
        (lambda: cls_loss(torch.zeros(2, 3), torch.zeros(5, 4), LABELS[:2], tau=1.0), r"\(2, 3\) and \(5, 4\)"),
        (lambda: contrast_loss(AXES, AXES, tau=0.0), "tau must be positive, got 0"),
        (lambda: proximity_loss(AXES, AXES, AXES, torch.ones(3).bool(), tau=1.0, k=0), "k must be at least 1, got 0"),
        (lambda: proximity_loss(AXES, AXES, AXES, torch.ones(2).bool(), tau=1.0), r"keep must be \(3,\) bool.*\(2,\)"),
        (lambda: proximity_loss(AXES, AXES, AXES, torch.ones(3), tau=1.0), r"keep must be .*torch\.float32"),
        (lambda: keep_above(LOGITS, LABELS, threshold=1.5), "threshold.*1.5"),
        (lambda: keep_percentile(LOGITS, LABELS, percentile=-1), "percentile.*-1"),
    ],
)
def test_bad_input(call, names):
    with pytest.raises(ValueError, match=names):
        call()
