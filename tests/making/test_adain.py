import pytest
import torch

from dadlab.adain import load_style_transfer
from dadlab.making import adain as module
from dadlab.making.adain import train_style_transfer, transfer_losses

SIZES = {"stages": [[4], [8]], "encoder_steps": 2, "steps": 4, "batch": 4}


class Stopped(Exception):
    """A kill."""


@pytest.fixture
def images(photos40):
    return photos40.pixels, photos40.labels


def test_a_stopped_training_ends_the_same(images, tmp_path, monkeypatch):
    calm = train_style_transfer(*images, tmp_path / "calm.safetensors", **SIZES, log=lambda line: None)
    saved = module.save_training

    def save_and_stop(*args):
        saved(*args)
        raise Stopped

    out = tmp_path / "stopped.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_training", save_and_stop)
        with pytest.raises(Stopped):
            train_style_transfer(*images, out, **SIZES, log=lambda line: None)
    train_style_transfer(*images, out, **SIZES, log=lambda line: pytest.fail("trained again"))
    one, other = (load_style_transfer(str(path)).state_dict() for path in (tmp_path / "calm.safetensors", out))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert [path.name for path in tmp_path.glob("*.ckpt")] == []
    assert not any(parameter.requires_grad for parameter in calm.encoder.parameters())


class Repeats(torch.nn.Module):
    """A perfect network: its features are the pixels, its decoder changes nothing."""

    def features(self, images):
        return [images]

    def encoder(self, images):
        return images

    def decoder(self, features):
        return features


def test_a_perfect_drawing_has_no_loss():
    content, style = torch.rand(2, 3, 3, 8, 8)
    found = transfer_losses(Repeats(), content, style, [1.0])
    assert [value.item() for value in found] == pytest.approx([0, 0], abs=1e-6)


def test_losses_by_hand():
    """A decoder that adds 1: features are off by 1, means by 1, deviations not at all."""
    net = Repeats()
    net.decoder = lambda features: features + 1
    content, style = torch.rand(2, 3, 3, 8, 8)
    found = transfer_losses(net, content, style, [2.0])
    assert [value.item() for value in found] == pytest.approx([0.5, 0.5], rel=1e-4)


def test_style_is_that_of_the_second_images():
    """A decoder that draws just those has the wanted style, and not the content."""
    net = Repeats()
    content, style = torch.rand(2, 3, 3, 8, 8)
    net.decoder = lambda features: style
    shape, look = transfer_losses(net, content, 0.5 * style, [1.0]), transfer_losses(net, content, style, [1.0])
    assert look[1].item() == pytest.approx(0, abs=1e-6)
    assert look[0] > 0.01
    assert shape[1] > 0.01


def test_style_weighs_ten_times_as_much(images, tmp_path, monkeypatch):
    assert module.STYLE_WEIGHT == 10
    trained = []
    for weight in (10.0, 0.0):
        monkeypatch.setattr(module, "STYLE_WEIGHT", weight)
        net = train_style_transfer(*images, tmp_path / "net.safetensors", **SIZES, log=lambda line: None)
        trained.append(net.decoder[-1].weight)
    assert not torch.equal(*trained)
