import torch
from test_under_attack import Linear
from torch import nn

from dadlab.dataset import Dataset
from dadlab.masking import masking


class Staircase(Linear):
    """The same answers, from an image rounded so that no gradient passes."""

    def forward(self, images):
        rounded = (images * 20).round() / 20
        return super().forward(rounded.detach() + 0 * images)


def toy(model: nn.Module) -> Dataset:
    pixels = torch.randint(0, 256, (60, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Dataset("toy", ("a", "b", "c", "d"), pixels, model(pixels.float() / 255).argmax(1))


def test_an_open_network_shows_no_sign():
    found = masking(Linear(), toy(Linear()), 0.04, surrogate=Linear())
    assert found.startswith("no sign of gradient masking (right at ε = 0.04: PGD ")
    assert "\n" not in found


def test_a_loss_that_is_level_but_for_rounding_is_no_sign(monkeypatch):
    losses = iter([4.0, 3.99, 4.0, 3.98])
    monkeypatch.setattr("dadlab.masking._loss", lambda *args: next(losses))
    assert masking(Linear(), toy(Linear()), 0.04, surrogate=Linear()).startswith("no sign")


def test_a_network_without_gradients_is_found_out():
    """Another network's examples beat its own, and no radius is enough."""
    found = masking(Staircase(), toy(Staircase()), 0.1, surrogate=Linear())
    assert found.startswith("gradient masking: ")
    assert "transfer beats PGD" in found
    assert "an unbounded attack leaves" in found
