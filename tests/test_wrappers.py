import numpy as np
import pytest
import torch
from PIL import Image

from dadlab.wrappers import Preprocess, resize


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(64, 192, (40, 40, 3), dtype=np.uint8)


def to_images(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("size", [16, 33, 40, 56])
def test_bicubic_is_pillows(pixels, size):
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
    found = resize(to_images(pixels), size, "bicubic")
    assert (found - to_images(expected)).abs().max() < 1.5 / 255


def test_bicubic_overshoot_is_cut_off():
    edge = (torch.arange(16) < 8).float().expand(1, 3, 16, 16)
    found = resize(edge, 24, "bicubic")
    assert 0 <= found.min() <= found.max() <= 1


def test_images_of_the_right_size_are_left_alone(pixels):
    images = to_images(pixels)
    assert resize(images, 40, "bicubic") is images


def test_interpolation_belongs_to_the_preprocessing(pixels):
    images, normal = to_images(pixels), ((0.5,) * 3, (0.25,) * 3)
    torch.testing.assert_close(Preprocess(24, *normal, "bicubic")(images), resize(images, 24, "bicubic") * 4 - 2)
    torch.testing.assert_close(Preprocess(24, *normal)(images), resize(images, 24, "bilinear") * 4 - 2)
