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


class Another(Linear):
    """A network of other weights, whose examples mean little to `Linear`."""

    def __init__(self):
        super().__init__()
        self.weight = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3))


def test_another_networks_examples_are_shown_to_this_one():
    """They would fool their own network."""
    data = toy(Linear())
    shares = [float(part.split()[1]) for part in masking(Linear(), data, 0.1, surrogate=Another()).split(", ")[1:3]]
    assert shares[1] > shares[0] + 2


def test_a_loss_that_falls_and_an_attack_without_bounds_that_fails_are_signs(monkeypatch):
    losses = iter([4.0, 3.9, 4.0, 3.98])
    monkeypatch.setattr("dadlab.masking._loss", lambda *args: next(losses))
    monkeypatch.setattr("dadlab.masking._right", lambda *args: 0.03)
    found = masking(Linear(), toy(Linear()), 0.04, surrogate=Linear())
    assert "the loss does not rise with ε; an unbounded attack leaves 3.0 % right" in found


def test_the_unbounded_attack_may_draw_any_image(monkeypatch):
    asked = []
    monkeypatch.setattr("dadlab.masking.pgd", lambda *given, steps=10: asked.append((given[3], steps)) or given[1])
    masking(Linear(), toy(Linear()), 0.04, surrogate=Linear())
    assert asked[-1] == (1.0, 100)
    assert [radius for radius, _ in asked] == [0.04, 0.04, 0.01, 0.02, 0.04, 0.08, 1.0]
