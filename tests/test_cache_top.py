"""The largest logits of a sample and the mass of the rest."""

from dataclasses import replace

import pytest
import torch
from test_cache import first_view

from dadlab.cache import cache_teacher
from dadlab.losses import kl_divergence
from dadlab.profile import make_profile
from dadlab.students import Student
from dadlab.teacher import StudentTeacher


class ScaledTeacher(StudentTeacher):
    """A teacher surer of itself."""

    def forward(self, images):
        return 20 * super().forward(images)


@pytest.mark.parametrize("top", [1, 3, 9])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_top_logits_keep_their_probabilities_and_the_rest_its_mass(photos40, tiny_teacher, tmp_path, top, temperature):
    rows = torch.arange(40)
    logits = 20 * first_view(photos40, tiny_teacher)
    sharper = ScaledTeacher(tiny_teacher.student)
    cache = cache_teacher(photos40, sharper, tmp_path, views=1, top=top, temperature=temperature)
    exact, found = (x.div(temperature).softmax(1) for x in (logits, cache(rows, 0)))
    kept = exact.topk(top).indices
    torch.testing.assert_close(found.gather(1, kept), exact.gather(1, kept), rtol=0.02, atol=1e-3)
    rest = found.scatter(1, kept, torch.nan)
    assert all(row[~row.isnan()].unique().numel() == 1 for row in rest)


def test_top_logits_belong_to_any_of_a_thousand_classes(photos40, tmp_path):
    torch.manual_seed(0)
    teacher, thousand = StudentTeacher(Student("resnet_s", 1000)), replace(photos40, classes=("thing",) * 1000)
    cache, rows = cache_teacher(thousand, teacher, tmp_path, views=1, top=5), torch.arange(40)
    wanted = first_view(thousand, teacher).topk(5).indices
    assert wanted.max() > 255
    assert torch.equal(cache(rows, 0).topk(5).indices.sort().values, wanted.sort().values)


def test_gradient_of_the_loss_errs_among_the_small_logits_alone(photos40, tiny_teacher, tmp_path):
    rows, temperature, surer = torch.arange(40), 4.0, ScaledTeacher(tiny_teacher.student)
    cache = cache_teacher(photos40, surer, tmp_path, views=1, top=4, temperature=temperature)
    teacher = first_view(photos40, surer)
    student = torch.randn(40, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    exact, found = (
        torch.autograd.grad(kl_divergence(student, logits, temperature=temperature), student)[0]
        for logits in (teacher, cache(rows, 0))
    )
    top = torch.zeros(40, 10, dtype=torch.bool).scatter(1, teacher.topk(4).indices, True)
    torch.testing.assert_close(found[top], exact[top], rtol=0, atol=1e-4)
    assert (found - exact)[~top].abs().max() > 1e-3
    torch.testing.assert_close((found - exact).sum(1), torch.zeros(40), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("deviation", "share"), [(2.0, 0.15), (2.5, 0.19), (3.0, 0.22)])
def test_at_temperature_4_most_of_a_thousand_classes_is_not_in_the_top_64(deviation, share):
    """Why the `imagenet` profile keeps all logits."""
    logits = deviation * torch.randn(256, 1000, generator=torch.Generator().manual_seed(0))
    found = [float((logits / temperature).softmax(1).topk(64).values.sum(1).mean()) for temperature in (4.0, 1.0)]
    assert found[0] == pytest.approx(share, abs=0.01)
    assert found[1] > 0.6
    assert make_profile("imagenet").top_logits == 0


def test_top_logits_below_the_number_of_classes(photos40, tiny_teacher, tmp_path):
    with pytest.raises(ValueError, match="top_logits 10: must be below the number of classes, 10"):
        cache_teacher(photos40, tiny_teacher, tmp_path, views=1, top=10)
