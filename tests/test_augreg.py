import pytest
import torch

from dadlab import augreg as module
from dadlab.augreg import OPERATIONS, AugRegViews, augreg_views, pairing, partners, weights
from dadlab.profile import AUGREG, AugReg

ROWS = torch.tensor([3, 17, 0, 39, 17])


def test_none_is_the_dataset_itself(photos40):
    assert augreg_views(photos40, "none") is photos40


@pytest.mark.parametrize("name", [name for name in AUGREG if name != "none"])
def test_views_replay_whatever_else_is_in_the_batch(photos40, name):
    views = augreg_views(photos40, name)
    together = views.images(ROWS, 2)
    alone = torch.cat([views.images(row[None], 2) for row in ROWS])
    assert torch.equal(together, alone)
    assert torch.equal(views.targets(ROWS, 2), torch.cat([views.targets(row[None], 2) for row in ROWS]))
    assert together.min() >= 0
    assert together.max() <= 1
    assert not torch.equal(together, views.images(ROWS, 3))


def test_clean_view_stays_clean(photos40):
    views = augreg_views(photos40, "strong2")
    assert torch.equal(views.images(ROWS), photos40.images(ROWS))
    assert torch.equal(views.targets(ROWS, -1), photos40.labels[ROWS])


def test_mixture_is_of_a_sample_and_its_partner(photos40):
    alone, mixed = AugRegViews(photos40, AugReg(magnitude=9)), AugRegViews(photos40, AugReg(magnitude=9, mixup=1.0))
    other, share = partners(40, 1)[ROWS], weights(ROWS, 1, 1.0)
    by_hand = share.view(-1, 1, 1, 1) * alone.images(ROWS, 1) + (1 - share).view(-1, 1, 1, 1) * alone.images(other, 1)
    torch.testing.assert_close(mixed.images(ROWS, 1), by_hand)
    for target, row, partner, weight in zip(mixed.targets(ROWS, 1), ROWS, other, share, strict=True):
        expected = torch.zeros(10)
        expected[photos40.labels[row]] += weight
        expected[photos40.labels[partner]] += 1 - weight
        torch.testing.assert_close(target, expected)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_partnership_goes_both_ways_and_changes_with_the_view(count):
    table = partners(count, 0)
    assert torch.equal(table[table], torch.arange(count))
    assert int((table == torch.arange(count)).sum()) == count % 2
    assert len(pairing(count, 0)) == count // 2
    if count == 40:
        assert not torch.equal(table, partners(count, 1))


@pytest.mark.parametrize("alpha", [0.2, 0.8])
def test_weights_follow_the_beta_distribution(alpha):
    drawn = weights(torch.arange(20_000), 0, alpha).double()
    assert abs(float(drawn.mean()) - 0.5) < 0.01
    assert abs(float(drawn.var()) - 1 / (4 * (2 * alpha + 1))) < 0.005


def test_half_of_the_layers_do_something(photos40):
    rows = torch.arange(40)
    views = AugRegViews(photos40, AugReg(layers=1, magnitude=9))
    changed = (views.images(rows, 0) - photos40.images(rows, 0)).abs().flatten(1).amax(1) > 0.01
    assert 8 < int(changed.sum()) < 30


@pytest.mark.parametrize("magnitude", sorted({recipe.magnitude for recipe in AUGREG.values()}))
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_shape_and_range(monkeypatch, photos40, name, magnitude):
    monkeypatch.setattr("dadlab.augreg.OPERATIONS", (name,))
    found = AugRegViews(photos40, AugReg(magnitude=magnitude)).images(torch.arange(8), 0)
    assert found.shape == (8, 3, 32, 32)
    assert found.min() >= 0
    assert found.max() <= 1


def test_recipes_are_told_apart_by_fingerprint(photos40):
    names = [name for name in AUGREG if name != "none"]
    assert len({augreg_views(photos40, name).fingerprint for name in names} | {photos40.fingerprint}) == 7


@pytest.mark.parametrize(
    ("name", "magnitude", "negative", "expected"),
    [
        ("Rotate", 10, 0, 30),
        ("Rotate", 10, 1, -30),
        ("ShearX", 20, 1, -0.6),
        ("Posterize", 0, 1, 1),
        ("Color", 10, 1, 1.9),
    ],
)
def test_strengths_are_timms_with_signs_of_our_own(name, magnitude, negative, expected):
    assert module._arguments(name, magnitude, negative) == pytest.approx((expected,))


def test_magnitude_and_both_signs_reach_the_operation(photos40, monkeypatch):
    asked, real = set(), module._arguments
    monkeypatch.setattr(module, "_arguments", lambda *given: asked.add(given[1:]) or real(*given))
    AugRegViews(photos40, AugReg(magnitude=7)).images(torch.arange(20), 0)
    assert asked == {(7, 0), (7, 1)}


def test_another_view_mixes_by_other_weights():
    assert not torch.equal(weights(ROWS, 1, 0.5), weights(ROWS, 2, 0.5))
