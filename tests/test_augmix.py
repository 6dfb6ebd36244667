import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

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


@pytest.mark.parametrize(("severity", "level"), [(3.0, 1.55), (1.0, 0.55)])
def test_a_mixture_by_hand(photos40, monkeypatch, severity, level):
    """A quarter of chains of one, two and three inversions of the image, weighing 1 : 2 : 5, up to the severity."""
    levels: list[float] = []
    monkeypatch.setattr(module, "_apply", lambda picture, *rest: levels.append(rest[1]) or ImageOps.invert(picture))
    draws = np.full(1 + 3 + 3 + 27, 0.5)
    draws[0], draws[1:4], draws[4:7] = 0.25, [1 - math.exp(-part) for part in (1, 2, 5)], [0.0, 0.5, 0.9]
    image = photos40.images(torch.tensor([5]))[0]
    found = module._mixture(image, draws, severity)
    torch.testing.assert_close(found, 0.75 * image + 0.25 * (6 / 8 * (1 - image) + 2 / 8 * image))
    assert levels == pytest.approx([level] * 6)


BILINEAR = Image.Resampling.BILINEAR


@pytest.mark.parametrize(
    ("name", "sign", "expected"),
    [
        ("Posterize", 0.9, lambda picture: ImageOps.posterize(picture, 3)),
        ("Solarize", 0.9, lambda picture: ImageOps.solarize(picture, 180)),
        ("Rotate", 0.9, lambda picture: picture.rotate(9, BILINEAR)),
        ("Rotate", 0.1, lambda picture: picture.rotate(-9, BILINEAR)),
        ("ShearX", 0.1, lambda picture: affine(picture, 1, -0.09, 0, 0, 1, 0)),
        ("ShearY", 0.9, lambda picture: affine(picture, 1, 0, 0, 0.09, 1, 0)),
        ("TranslateXRel", 0.9, lambda picture: affine(picture, 1, 0, 3.2, 0, 1, 0)),
        ("TranslateYRel", 0.1, lambda picture: affine(picture, 1, 0, 0, 0, 1, -3.2)),
    ],
)
def test_strengths_are_the_papers(photos40, name, sign, expected):
    """At level 3: 1 of 4 bits less, 76 of 256 grey levels, 9°, 0.09, a tenth of the side; black comes in."""
    picture = module.to_picture(photos40.images(torch.tensor([5]))[0])
    found, wanted = (np.asarray(one, int) for one in (module._apply(picture, name, 3.0, sign), expected(picture)))
    assert np.abs(found - wanted).max() <= 1
    assert np.abs(found - np.asarray(picture, int)).max() > 1


def affine(picture: Image.Image, *matrix: float) -> Image.Image:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, BILINEAR)
