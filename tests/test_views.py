import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dadlab.disk.encoded import Framing, frame
from dadlab.views import DRAWS, SMALL, augment, counter_hash, resized_crop, square_views, uniforms

IMAGES = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
INDEX = torch.arange(100, 164)


def test_a_view_can_be_drawn_again():
    torch.manual_seed(1)
    first = augment(IMAGES, INDEX, 3)
    torch.manual_seed(2)
    assert torch.equal(augment(IMAGES, INDEX, 3), first)


@pytest.mark.parametrize("cut", [1, 5, 64])
def test_any_cut_of_the_batch_gives_the_same_view(cut):
    parts = [augment(images, index, 2) for images, index in zip(IMAGES.split(cut), INDEX.split(cut), strict=True)]
    assert torch.equal(torch.cat(parts), augment(IMAGES, INDEX, 2))


def test_views_and_samples_differ():
    same = IMAGES[:1].expand(64, -1, -1, -1)
    assert not torch.equal(augment(IMAGES, INDEX, 0), augment(IMAGES, INDEX, 1))
    assert len({image.numpy().tobytes() for image in augment(same, INDEX, 0)}) > 20  # of 2 mirrors × 5 × 5 crops


def test_view_minus_one_leaves_the_images():
    assert torch.equal(augment(IMAGES, INDEX, -1), IMAGES)


def test_image_range_and_shape_are_kept():
    found = augment(IMAGES, INDEX, 5)
    assert found.shape == IMAGES.shape
    assert found.min() >= IMAGES.min()
    assert found.max() <= IMAGES.max()


def test_without_shift_only_mirrors_happen_about_half_of_the_time():
    found = augment(IMAGES, INDEX, 0, pad=0)
    kept = (found == IMAGES).flatten(1).all(1)
    mirrored = (found == IMAGES.flip(3)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert 16 < int(mirrored.sum()) < 48


def test_every_view_is_a_crop_of_the_reflected_image():
    padded = F.pad(IMAGES, (2, 2, 2, 2), mode="reflect")
    offsets = set()
    for k, found in enumerate(augment(IMAGES, INDEX, 4, pad=2)):
        crops = {(top, left): padded[k, :, top : top + 16, left : left + 16] for top in range(5) for left in range(5)}
        fits = [at for at, crop in crops.items() if torch.equal(found, crop) or torch.equal(found, crop.flip(2))]
        assert len(fits) == 1
        offsets.add(fits[0])
    assert {top for top, _ in offsets} == {left for _, left in offsets} == set(range(5))


def test_largest_shift_is_an_eighth_of_the_width():
    assert torch.equal(augment(IMAGES, INDEX, 1), augment(IMAGES, INDEX, 1, pad=2))


def test_hash_is_the_same_on_every_machine():
    assert counter_hash(torch.tensor([0, 1, 2]), 0).tolist() == [
        16294208416658607535,
        10451216379200822465,
        10905525725756348110,
    ]


def test_hash_does_not_collide_over_samples_and_streams():
    found = np.concatenate([counter_hash(torch.arange(1000), stream) for stream in range(20)])
    assert len(np.unique(found)) == 20_000


@pytest.mark.parametrize("bit", [0, 20, 40, 63])
def test_hash_bits_are_fair(bit):
    bits = counter_hash(torch.arange(10_000), 3) >> np.uint64(bit) & np.uint64(1)
    assert abs(float(bits.mean()) - 0.5) < 0.025  # five standard deviations


# resized crops


def crops(count: int, width: int, height: int, view: int = 0) -> list[tuple[int, int, int, int, bool]]:
    return [resized_crop(draws, width, height) for draws in uniforms(torch.arange(count), view)]


def test_draws_are_a_function_of_sample_and_view_alone():
    every = uniforms(torch.arange(10), 3)
    assert np.array_equal(uniforms(torch.tensor([7, 2]), 3), every[[7, 2]])
    assert not np.isclose(uniforms(torch.arange(10), 4), every).any()
    assert every[0, :3] == pytest.approx(
        [0.12713651943496462, 0.08310033252126015, 0.9008119827343375], rel=1e-12
    )  # on every machine


def test_draws_are_uniform_and_independent():
    draws = uniforms(torch.arange(4000), 0)
    assert draws.shape == (4000, DRAWS)
    assert 0 <= draws.min() < draws.max() < 1
    assert draws.mean(0) == pytest.approx(np.full(DRAWS, 0.5), abs=0.025)  # five standard deviations
    assert np.abs(np.corrcoef(draws.T) - np.eye(DRAWS)).max() < 0.09


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (224, 224), (40, 900), (900, 40), (1, 1)])
def test_crops_lie_inside_and_keep_area_and_ratio(width, height):
    for left, top, w, h, _ in crops(300, width, height):
        assert 0 <= left <= left + w <= width
        assert 0 <= top <= top + h <= height
        if min(width, height) >= 224:
            assert 0.075 < w * h / (width * height) <= 1
            assert 0.74 < w / h < 1.35


def test_crops_cover_the_whole_range_and_half_are_mirrored():
    found = crops(2000, 500, 500)
    areas = np.array([w * h / 500**2 for _, _, w, h, _ in found])
    assert areas.min() < 0.1
    assert areas.max() > 0.95
    assert np.median(areas) == pytest.approx(0.54, abs=0.1)
    assert np.mean([mirror for *_, mirror in found]) == pytest.approx(0.5, abs=0.06)
    assert {left == 0 for left, *_ in found} == {True, False}


def test_crop_of_a_strip_is_its_centre():
    assert crops(1, 900, 30)[0][:4] == (430, 0, 40, 30)
    assert crops(1, 30, 900)[0][:4] == (0, 430, 30, 40)


@pytest.mark.parametrize(("side", "shifted"), [(SMALL - 2, True), (SMALL, False)])
def test_large_squares_are_cropped_and_resized(side, shifted):
    images, index = torch.rand(6, 3, side, side), torch.arange(6)
    found = square_views(images, index, 3)
    assert found.shape == images.shape
    assert torch.equal(found, augment(images, index, 3)) == shifted
    assert torch.equal(found[4:], square_views(images[4:], index[4:], 3))
    assert torch.equal(square_views(images, index, -1), images)


def test_a_crop_of_a_square_matches_that_of_its_file():
    """The same draws cut the same place out of pixels and out of a picture."""
    smooth = F.interpolate(torch.rand(1, 3, 5, 5), (SMALL, SMALL), mode="bilinear")
    pixels = (200 * smooth + 20).round().to(torch.uint8)  # far from black and white, where Pillow cuts twice
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    cut = frame(picture, Framing(SMALL), uniforms(torch.tensor([7]), 2)[0])
    expected = torch.from_numpy(np.array(cut)).permute(2, 0, 1) / 255
    found = square_views(pixels / 255, torch.tensor([7]), 2)[0]
    torch.testing.assert_close(found, expected, atol=1.6 / 255, rtol=0)
