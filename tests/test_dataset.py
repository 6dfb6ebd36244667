import pytest
import torch

from dadlab.dataset import to_bytes


@pytest.mark.parametrize(("value", "byte"), [(0.0, 0), (1.0, 255), (0.5 / 255 + 1e-4, 1), (0.5 / 255 - 1e-4, 0)])
def test_bytes_are_rounded(value, byte):
    assert to_bytes(torch.tensor([value])).tolist() == [byte]
