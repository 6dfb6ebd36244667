import pytest
import torch

from dadlab.dataset import to_bytes, to_picture, to_tensor


@pytest.mark.parametrize(("value", "byte"), [(0.0, 0), (1.0, 255), (0.5 / 255 + 1e-4, 1), (0.5 / 255 - 1e-4, 0)])
def test_bytes_are_rounded(value, byte):
    assert to_bytes(torch.tensor([value])).tolist() == [byte]


def test_a_picture_is_the_image_in_bytes():
    image = torch.rand(3, 4, 6)
    picture = to_picture(image)
    assert (picture.size, picture.mode) == ((6, 4), "RGB")
    assert torch.equal(to_tensor(picture), to_bytes(image) / 255)
