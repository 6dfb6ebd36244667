import hashlib

import numpy as np
import pytest
import torch

from dadlab.photos import load_photos
from dadlab.render import COLOURS, STYLES, _colour_names, _rgb, render, studio_colours

ROWS = np.arange(0, 1000, 50)
PINNED = {  # SHA-256 of twenty drawings with seed 7, first 16 digits: renderers are frozen
    "studio": "bb1266a2e7f204f4",
    "context": "7e0f75dce4526650",
    "v2": "70b551fda90139f4",
    "rendition": "b4c61a9925b33fad",
    "sketch": "77014e9d25e24193",
    "stylized": "282ed51567083e67",
}


def draw(style: str, rows: np.ndarray = ROWS, seed: int = 7) -> tuple[torch.Tensor, list[str]]:
    photos = load_photos("val").take(rows)
    return render(photos.pixels, style, seed=seed, index=photos.index)


@pytest.mark.parametrize("style", STYLES)
def test_pixels_are_pinned(style):
    images, _ = draw(style)
    assert (images.shape, images.dtype) == ((20, 3, 32, 32), torch.uint8)
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == PINNED[style]


@pytest.mark.parametrize("style", STYLES)
def test_order_and_batch_change_no_byte(style):
    images, colours = draw(style)
    backwards, colours_backwards = draw(style, ROWS[::-1])
    assert torch.equal(backwards.flip(0), images)
    assert colours_backwards[::-1] == colours
    assert torch.equal(torch.cat([draw(style, part)[0] for part in np.split(ROWS, [1, 8])]), images)


def test_chunks_leave_no_seam(monkeypatch):
    whole, colours = draw("context")
    monkeypatch.setattr("dadlab.render._CHUNK", 7)
    chunked, colours_chunked = draw("context")
    assert torch.equal(chunked, whole)
    assert colours_chunked == colours


@pytest.mark.parametrize("style", STYLES)
def test_seed_and_index_change_the_drawing(style):
    photos = load_photos("val").take(ROWS[:1])
    images = [render(photos.pixels, style, seed=s, index=np.array([i]))[0] for s, i in ((0, 0), (1, 0), (0, 1))]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_styles_differ():
    assert len({draw(style)[0].numpy().tobytes() for style in STYLES}) == len(STYLES)


def test_sketch_is_grey_up_to_grain_on_light_paper():
    images = draw("sketch")[0].float() / 255
    assert (images - images.mean(1, keepdim=True)).abs().mean() < 0.03
    assert images.median() > 0.9


@pytest.mark.parametrize("style", STYLES)
def test_colours_are_named_where_the_style_has_one(style):
    names = set(draw(style)[1])
    if style in ("sketch", "stylized"):
        assert names == {""}
    else:
        assert names <= set(COLOURS)
        assert len(names) > 3


def test_unknown_style_names_those_there_are():
    with pytest.raises(ValueError, match=r"'oil'.*studio, context, v2, rendition, sketch, stylized"):
        draw("oil")


@pytest.mark.parametrize(
    ("hsv", "rgb"),
    [
        ((0.0, 1.0, 1.0), (1, 0, 0)),
        ((1 / 3, 1.0, 1.0), (0, 1, 0)),
        ((2 / 3, 1.0, 1.0), (0, 0, 1)),
        ((1 / 6, 1.0, 0.5), (0.5, 0.5, 0)),
        ((0.4, 0.0, 0.7), (0.7, 0.7, 0.7)),
    ],
)
def test_hsv_to_rgb_by_hand(hsv, rgb):
    found = _rgb(torch.tensor(hsv, dtype=torch.float64).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(rgb, dtype=torch.float64))


@pytest.mark.parametrize(
    ("hsv", "name"),
    [
        ((0.0, 1.0, 0.2), "black"),
        ((0.5, 0.05, 0.5), "grey"),
        ((0.5, 0.05, 0.9), "white"),
        ((0.0, 1.0, 1.0), "red"),
        ((0.97, 1.0, 1.0), "red"),
        ((1 / 12, 1.0, 1.0), "orange"),
        ((1 / 6, 1.0, 1.0), "yellow"),
        ((1 / 3, 1.0, 1.0), "green"),
        ((1 / 2, 1.0, 1.0), "teal"),
        ((2 / 3, 1.0, 1.0), "blue"),
        ((3 / 4, 1.0, 1.0), "purple"),
        ((7 / 8, 1.0, 1.0), "pink"),
    ],
)
def test_colour_names_by_hand(hsv, name):
    assert _colour_names(torch.tensor(hsv).view(1, 3, 1, 1)) == [name]


def test_colours_of_studio_drawings_are_known_without_drawing():
    photos = load_photos("val").take(ROWS)
    assert studio_colours(seed=7, index=photos.index) == draw("studio")[1]
