import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from dadlab.disk.encoded import Encoded, Framing
from dadlab.views import SMALL, augment, resized_crop, uniforms


class Pictures:
    """A source of PNGs in memory; row 3 may be broken."""

    fingerprint = "pictures"

    def __init__(self, pictures, broken=()):
        self.encoded = [b"no picture" if row in broken else png(picture) for row, picture in enumerate(pictures)]
        self.opened: list[int] = []

    def __len__(self):
        return len(self.encoded)

    def open(self, row):
        self.opened.append(row)
        return io.BytesIO(self.encoded[row])

    def where(self, row):
        return f"row {row}"


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "png")
    return out.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random picture."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


SHAPES = [(120, 90), (90, 120), (64, 64), (200, 70), (300, 300)]
PICTURES = [noise(*shape, seed) for seed, shape in enumerate(SHAPES)]
INDEX = torch.arange(len(SHAPES))


def encoded(framing: Framing, pictures=PICTURES, broken=()) -> Encoded:
    return Encoded(Pictures(pictures, broken), framing, torch.arange(len(pictures)))


def test_evaluation_is_torchvisions_resize_and_centre_crop():
    found = encoded(Framing(112)).images(INDEX)
    recipe = transforms.Compose(
        [
            transforms.Resize(128, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(112),
            transforms.ToTensor(),
        ]
    )
    assert torch.equal(found, torch.stack([recipe(picture) for picture in PICTURES]))
    assert found.dtype == torch.float32


def test_what_is_cropped_already_is_never_resized():
    square = noise(64, 64, 9)
    pixels = encoded(Framing(64, cropped=True), [square]).images(torch.tensor([0]))[0]
    assert torch.equal((pixels * 255).byte().permute(1, 2, 0), torch.from_numpy(np.array(square)))
    resized = encoded(Framing(64), [square]).images(torch.tensor([0]))[0]
    assert not torch.equal(resized, pixels)


def test_a_view_is_the_crop_that_its_draws_say():
    found = encoded(Framing(SMALL)).images(INDEX, 5)
    for picture, draws, image in zip(PICTURES, uniforms(INDEX, 5), found, strict=True):
        left, top, width, height, mirror = resized_crop(draws, *picture.size)
        crop = picture.crop((left, top, left + width, top + height)).resize((SMALL, SMALL), Image.Resampling.BICUBIC)
        wanted = torch.from_numpy(np.array(crop)).permute(2, 0, 1)
        assert torch.equal((image * 255).round().byte(), wanted.flip(2) if mirror else wanted)


@pytest.mark.parametrize("size", [32, 64])
def test_views_depend_on_sample_and_view_alone(size):
    images = encoded(Framing(size))
    every = images.images(INDEX, 2)
    assert torch.equal(images.images(INDEX[[3, 1]], 2), every[[3, 1]])
    assert not torch.equal(images.images(INDEX, 3), every)
    assert not torch.equal(images.images(INDEX), every)


def test_small_images_take_the_small_recipe():
    images = encoded(Framing(32))
    assert torch.equal(images.images(INDEX, 1), augment(images.images(INDEX), INDEX, 1))
    assert images.images(INDEX).shape == (5, 3, 32, 32)


def test_choosing_decodes_nothing():
    images = encoded(Framing(64))
    part = images[torch.tensor([4, 0])]
    assert (len(part), part.shape) == (2, (2, 3, 64, 64))
    assert images.source.opened == []
    assert torch.equal(part.images(torch.tensor([0])), images.images(torch.tensor([4])))
    assert images.source.opened == [4, 4]


def test_fingerprint_follows_source_rows_and_framing():
    base = encoded(Framing(64))
    others = [encoded(Framing(96)), encoded(Framing(64, cropped=True)), base[torch.tensor([1, 0])]]
    assert base.fingerprint == encoded(Framing(64)).fingerprint
    assert len({images.fingerprint for images in (base, *others)}) == 4
    assert base.source.opened == []


def test_broken_image_is_named():
    images = encoded(Framing(64), broken=(1, 3))
    with pytest.raises(ValueError, match=r"^1 unreadable image\(s\), first row 3: "):
        images.images(torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"^2 unreadable image\(s\), first row 1: "):
        images.pixels("pictures")
    assert [reason[:6] for reason in images.unreadable(INDEX)] == ["row 1:", "row 3:"]


def test_sample_is_spread_over_all_images():
    rows = Encoded(Pictures([]), Framing(64), torch.arange(1000)).sample()
    assert (len(rows), int(rows[0]), int(rows[-1])) == (64, 0, 999)
    assert encoded(Framing(64)).sample().tolist() == [0, 1, 2, 3, 4]


def test_photographs_are_turned_upright_but_not_imagenets():
    turned = noise(64, 64)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    out = io.BytesIO()
    turned.save(out, "png", exif=exif)
    source = Pictures([])
    source.encoded = [out.getvalue()]
    kept = Encoded(source, Framing(64, cropped=True, upright=False), torch.tensor([0])).images(torch.tensor([0]))
    upright = Encoded(source, Framing(64, cropped=True), torch.tensor([0])).images(torch.tensor([0]))
    assert torch.equal(upright, kept.flip(2, 3))
