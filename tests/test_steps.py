from dataclasses import replace

import pytest
import torch

from dadlab.augmix import augmix
from dadlab.augreg import partners
from dadlab.materials import prepare
from dadlab.methods import METHODS
from dadlab.run import Run
from dadlab.steps import Steps, endless_order, epoch_order


@pytest.fixture(scope="module")
def steps_of(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def build(profile, method, rank=0, ranks=1):
        run = Run(profile, method)
        needed = replace(run.profile, accumulate=1)
        if (needed, method) not in made:
            made[needed, method] = prepare(needed, METHODS[method], folder)
        return Steps(run, made[needed, method], rank, ranks)

    return build


def epoch_of(steps, epoch):
    first = epoch * steps.an_epoch
    return [steps[step] for step in range(first, first + steps.an_epoch)]


def test_training_never_runs_the_teacher(profile, steps_of, monkeypatch):
    steps = steps_of(profile, "dad")
    monkeypatch.setattr("dadlab.teacher.StudentTeacher.forward", lambda *args: pytest.fail("the teacher ran"))
    assert sum(len(batch.images) for (batch,) in epoch_of(steps, 0)) == 40


def samples(tensor):
    """A batch's rows in no order."""
    return sorted(tensor.reshape(len(tensor), -1).tolist())


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("augreg", ["none", "light2"])
def test_processes_and_parts_share_a_batch(profile, steps_of, ranks, accumulate, augreg):
    whole = steps_of(replace(profile, augreg=augreg), "dad")
    split = [steps_of(replace(profile, augreg=augreg, accumulate=accumulate), "dad", r, ranks) for r in range(ranks)]
    for step in (0, 7, 14):
        parts = [part for one in split for part in one[step]]
        assert len(parts) == ranks * accumulate
        for name in ("images", "labels", "teacher", "second_images", "second_teacher"):
            found = torch.cat([getattr(part, name) for part in parts])
            assert samples(found) == samples(getattr(whole[step][0], name))


@pytest.mark.parametrize("method", ["augmix", "debiased"])
@pytest.mark.parametrize("augreg", ["none", "light2"])
def test_processes_and_parts_share_what_is_made_of_a_batch(profile, steps_of, method, augreg):
    """3 processes and 8 samples: no equal shares, no whole pairs."""
    whole = steps_of(replace(profile, augreg=augreg), method)[6][0]
    parts = [
        part for r in range(3) for part in steps_of(replace(profile, augreg=augreg, accumulate=2), method, r, 3)[6]
    ]
    name = "mixtures" if method == "augmix" else "second_images"
    assert samples(torch.cat([getattr(part, name) for part in parts])) == samples(getattr(whole, name))
    if method == "debiased":
        assert samples(torch.cat([part.second_labels for part in parts])) == samples(whole.second_labels)


@pytest.mark.parametrize("augreg", ["none", "light2"])
def test_partners_are_the_other_samples_of_the_batch(profile, steps_of, augreg):
    for (batch,) in epoch_of(steps_of(replace(profile, augreg=augreg), "debiased"), 1):
        assert samples(batch.second_images) == samples(batch.images)
        assert not any(torch.equal(a, b) for a, b in zip(batch.images, batch.second_images, strict=True))
        labels = dict(zip(map(str, batch.images.tolist()), batch.labels.tolist(), strict=True))
        assert [labels[str(image)] for image in batch.second_images.tolist()] == batch.second_labels.tolist()


@pytest.mark.parametrize("severity", [3.0, 1.0])
def test_mixtures_belong_to_the_view_that_is_shown(profile, steps_of, severity):
    (batch,) = steps_of(replace(profile, augmix_severity=severity), "augmix")[7]  # the second epoch: view 1
    expected = [augmix(batch.images, batch.rows, 1, copy, severity) for copy in (0, 1)]
    assert torch.equal(batch.mixtures, torch.cat(expected))
    assert not torch.equal(*expected)
    assert not len(batch.second_images)


def test_a_batch_that_cannot_be_split_is_refused(profile, steps_of):
    with pytest.raises(ValueError, match="a batch of 8 cannot be split over 4 processes × 3 parts"):
        steps_of(replace(profile, accumulate=3), "plain", 0, 4)


def test_orders_are_permutations():
    units = torch.arange(14)[:, None]
    assert torch.equal(torch.cat(epoch_order(units[:12], 4, 0, 0)).sort().values, torch.arange(12))
    assert [len(part) for part in epoch_order(units, 4, 0, 0)] == [4, 4, 4]
    assert torch.bincount(torch.cat(endless_order(units[:3], 4, 9, 0, 0))).tolist() == [3, 3, 3]
    for order in (lambda *key: epoch_order(units, 4, *key), lambda *key: endless_order(units, 4, 14, *key)):
        assert len({tuple(torch.cat(order(seed, epoch)).tolist()) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_partners_in_a_mixture_stay_in_one_process(profile, steps_of, ranks):
    steps = steps_of(replace(profile, augreg="medium1"), "plain", ranks=ranks)
    for epoch in (0, 1):
        seen = []
        for rows in steps.order(epoch):
            for rank in range(ranks):
                mine = set(rows[rank::ranks].tolist())
                assert {int(partners(40, epoch)[row]) for row in mine} == mine
                seen += mine
        assert sorted(seen) == list(range(40))


def test_epochs_see_other_orders_and_views(profile, steps_of):
    steps = steps_of(profile, "plain")
    first, second = (torch.cat([batch.labels for (batch,) in epoch_of(steps, epoch)]) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)


@pytest.mark.parametrize("method", ["ard", "rslad"])
def test_ard_and_rslad_compare_a_sample_with_the_teachers_answer_to_its_source(profile, steps_of, method):
    """Of the very samples of DAD, whose answers are to the samples themselves."""
    (batch,), (dads,) = (steps_of(profile, name)[0] for name in (method, "dad"))
    assert torch.equal(batch.second_images, dads.second_images)
    assert (batch.second_teacher - dads.second_teacher).abs().amax(1).min() > 1e-3  # rounding is 1e-5


def test_second_view_is_of_the_same_photographs_and_another_view(profile, steps_of):
    for (batch,) in epoch_of(steps_of(profile, "kd_two_views"), 0):
        assert torch.equal(batch.labels, batch.second_labels)
        assert not torch.equal(batch.images, batch.second_images)


@pytest.mark.parametrize("augreg", ["none", "strong1"])
@pytest.mark.parametrize("method", ["kd", "kd_two_views", "dad_q", "dad"])
def test_cached_logits_belong_to_the_very_pixels_of_the_batch(profile, steps_of, tiny_teacher, method, augreg):
    steps = steps_of(replace(profile, augreg=augreg), method)
    for step in (0, steps.an_epoch):
        (batch,) = steps[step]
        torch.testing.assert_close(tiny_teacher(batch.images), batch.teacher, rtol=1e-3, atol=1e-3)
        if len(batch.second_images):
            torch.testing.assert_close(tiny_teacher(batch.second_images), batch.second_teacher, rtol=1e-3, atol=1e-3)


def test_orders_and_partners_belong_to_seed_and_epoch(profile, steps_of):
    units = torch.arange(40)[:, None]
    for order in (
        lambda *of: torch.cat(epoch_order(units, 8, *of)),
        lambda *of: torch.cat(endless_order(units, 8, 40, *of)),
    ):
        assert torch.equal(order(1, 2), order(1, 2))
        assert not torch.equal(order(1, 2), order(2, 2))
        assert not torch.equal(order(1, 2), order(1, 3))
    steps = steps_of(profile, "debiased")
    shifts = [
        [
            (mine == theirs[0]).nonzero().item()
            for mine, theirs in zip(steps.order(e), steps.second_order(e), strict=True)
        ]
        for e in range(3)
    ]
    assert len({tuple(shift) for shift in shifts}) > 1
