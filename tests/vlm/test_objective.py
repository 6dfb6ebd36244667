from dataclasses import replace

import pytest
import torch

from dadlab.vlm.losses import caption_loss, cls_loss, contrast_loss, log_mse_loss, mse_loss, proximity_loss
from dadlab.vlm.objective import Batch, objective
from dadlab.vlm.run import LOSSES, AlignRun


def some_batch(count: int = 6) -> tuple[torch.Tensor, Batch]:
    torch.manual_seed(0)
    student, teacher, told, text = (torch.randn(n, 8) for n in (count, count, count, 5))
    return student.requires_grad_(), Batch(torch.arange(count) % 5, teacher, told, text)


def test_the_objective_is_the_plain_sum():
    student, batch = some_batch()
    parts = [
        cls_loss(student, batch.text, batch.labels, tau=0.07),
        mse_loss(student, batch.teacher),
        contrast_loss(student, batch.teacher, tau=0.07),
    ]
    assert torch.isclose(objective(AlignRun("cls+mse+cst"), student, batch)[0], sum(parts))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_term_is_its_loss_with_the_runs_settings(loss):
    student, batch = some_batch()
    everything = torch.ones(6, dtype=torch.bool)
    expected = {
        "cls": lambda: cls_loss(student, batch.text, batch.labels, tau=0.5),
        "mse": lambda: mse_loss(student, batch.teacher),
        "log_mse": lambda: log_mse_loss(student, batch.teacher),
        "cst": lambda: contrast_loss(student, batch.teacher, tau=0.5),
        "cst_single": lambda: contrast_loss(student, batch.teacher, tau=0.5, bidirectional=False),
        "vlprox": lambda: proximity_loss(student, batch.teacher, batch.text, everything, tau=0.5, k=3),
        "cap": lambda: caption_loss(student, batch.captions, batch.labels),
    }[loss]()
    assert objective(AlignRun(loss, tau=0.5, k=3, keep="all"), student, batch)[0].item() == pytest.approx(
        expected.item()
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_reaches_the_student(loss):
    student, batch = some_batch()
    objective(AlignRun(loss), student, batch)[0].backward()
    assert student.grad.abs().sum() > 0


def test_one_label_in_vlprox_teaches_nothing():
    student, batch = some_batch()
    assert objective(AlignRun("vlprox", keep="all", k=1), student, batch)[0] == 0


def test_the_share_left_out_is_that_of_the_labels_the_teacher_takes_for_others():
    student, batch = some_batch(4)
    shown = batch.text[[0, 2, 4, 3]]  # labels are 0, 1, 2 and 3
    assert objective(AlignRun("vlprox"), student, replace(batch, teacher=shown))[1] == 0.5


def test_the_filter_reaches_the_losses_it_should():
    student, batch = some_batch()
    everything, filtered = AlignRun("vlprox", keep="all"), AlignRun("vlprox", keep="above", keep_at=1.0)
    assert objective(everything, student, batch)[1] == 0
    loss, share = objective(filtered, student, batch)
    assert (loss, share) == (0, 1), "nothing is kept: no loss, and the log says so"
    for either in ("cst", "cst_single"):
        contrast = AlignRun(either, keep="above", keep_at=1.0)
        assert objective(contrast, student, batch)[0] > 0
        assert objective(replace(contrast, keep_contrast=True), student, batch)[0] == 0
