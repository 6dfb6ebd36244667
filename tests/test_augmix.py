import pytest
import torch

from dadlab import augmix as module
from dadlab.augmix import OPERATIONS, augmix
from dadlab.evaluate import CORRUPTIONS

ROWS = torch.tensor([3, 17, 0, 39, 17])


def test_mixtures_replay_whatever_else_is_in_the_batch(photos40):
    images = photos40.images(ROWS, 1)
    together = augmix(images, ROWS, 1, 0)
    assert torch.equal(together, torch.cat([augmix(images[k : k + 1], ROWS[k : k + 1], 1, 0) for k in range(5)]))
    assert together.min() >= 0
    assert together.max() <= 1
    for view, copy in ((2, 0), (1, 1)):
        assert not torch.equal(together, augmix(images, ROWS, view, copy))


def test_without_operations_a_mixture_is_the_image(photos40, monkeypatch):
    """Weights add up to 1: mixing an image with itself changes nothing but its 8 bits."""
    monkeypatch.setattr(module, "_apply", lambda picture, *rest: picture)
    images = photos40.images(torch.arange(40))
    torch.testing.assert_close(augmix(images, torch.arange(40), 0, 0), images, rtol=0, atol=1e-6)


def test_chains_are_one_to_three_operations_of_all_kinds(photos40, monkeypatch):
    seen: list[str] = []
    real = module._apply
    monkeypatch.setattr(module, "_apply", lambda *given: seen.append(given[1]) or real(*given))
    images = photos40.images(torch.arange(40))
    augmix(images, torch.arange(40), 0, 0)
    assert set(seen) == set(OPERATIONS)
    assert 40 * 3 * 1 <= len(seen) <= 40 * 3 * 3
    assert len(seen) / 120 == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("level", [0.1, 3.0])
def test_every_operation_keeps_shape_and_range(photos40, name, level):
    picture = module.to_picture(photos40.images(torch.tensor([5]))[0])
    for sign in (0.0, 0.9):
        found = module._apply(picture, name, level, sign)
        assert (found.size, found.mode) == ((32, 32), "RGB")


def test_no_operation_is_a_corruption():
    known = {name.replace("_", "").lower() for name in CORRUPTIONS}
    assert len(known) >= 15
    assert not known & {name.lower() for name in OPERATIONS}
