import sys

import pytest
import torch
from torch import nn

from dadlab.adain import VGG, StyleTransfer, adain, convert, load_style_transfer, main, statistics
from dadlab.files import save_weights

# What the published files hold: layers and widths of VGG-19's convolutions, and of the decoder.
ENCODER = {0: (3, 3, 1), 2: (64, 3, 3), 5: (64, 64, 3), 9: (128, 64, 3), 12: (128, 128, 3), 16: (256, 128, 3),
           19: (256, 256, 3), 22: (256, 256, 3), 25: (256, 256, 3), 29: (512, 256, 3)}  # fmt: skip
DECODER = {1: (256, 512, 3), 5: (256, 256, 3), 8: (256, 256, 3), 11: (256, 256, 3), 14: (128, 256, 3),
           18: (128, 128, 3), 21: (64, 128, 3), 25: (64, 64, 3), 28: (3, 64, 3)}  # fmt: skip


def published(layers):
    state = {}
    for place, (out, into, side) in layers.items():
        state[f"{place}.weight"] = torch.randn(out, into, side, side) * 0.02
        state[f"{place}.bias"] = torch.zeros(out)
    return state


@pytest.fixture
def files(tmp_path):
    """Random weights in the format of the published ones; the VGG goes on after relu4_1."""
    torch.manual_seed(0)
    torch.save(published(ENCODER | {32: (512, 512, 3)}), tmp_path / "vgg_normalised.pth")
    torch.save(published(DECODER), tmp_path / "decoder.pth")
    return [tmp_path / name for name in ("vgg_normalised.pth", "decoder.pth", "adain_vgg.safetensors")]


def test_published_weights_become_one_file(files, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["adain", *map(str, files)])
    main()
    assert "sha256" in capsys.readouterr().out
    net = load_style_transfer(str(files[2]))
    assert net.stages == [list(widths) for widths in VGG]
    state = torch.load(files[0], weights_only=True)
    assert torch.equal(net.encoder[29].weight, state["29.weight"])
    content, style = torch.rand(2, 1, 3, 64, 64)
    assert [part.shape[1:] for part in net.features(content)] == [
        (64, 64, 64),
        (128, 32, 32),
        (256, 16, 16),
        (512, 8, 8),
    ]
    assert net(content, style).shape == content.shape
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_features_end_at_relu4_1(files):
    """By hand: the first 31 layers of the VGG, as their authors cut it."""
    torch.manual_seed(0)
    net = StyleTransfer()
    kinds = [type(layer).__name__ for layer in net.encoder]
    assert len(kinds) == 31
    assert [place for place, kind in enumerate(kinds) if kind == "Conv2d"] == list(ENCODER)
    assert [place for place, layer in enumerate(net.decoder) if isinstance(layer, nn.Conv2d)] == list(DECODER)
    assert kinds.count("MaxPool2d") == sum(isinstance(layer, nn.Upsample) for layer in net.decoder) == 3


def test_adain_by_hand():
    content = torch.tensor([[[[0.0, 2.0]], [[1.0, 3.0]]]])  # (1, 2, 1, 2): means 1 and 2, deviation √2
    style = torch.tensor([[[[5.0, 5.0]], [[8.0, 0.0]]]])  # what is large in the content stays so
    expected = torch.tensor([[[[5.0, 5.0]], [[0.0, 8.0]]]])
    torch.testing.assert_close(adain(content, style), expected, atol=4e-3, rtol=0)


def test_adain_keeps_content_and_takes_statistics():
    content, style = torch.randn(2, 4, 8, 8), 3 * torch.randn(2, 4, 6, 6) + 1
    found = adain(content, style)
    for mine, theirs in zip(statistics(found), statistics(style), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(adain(content, content), content)


def test_strength_goes_from_the_content_to_the_style():
    torch.manual_seed(0)
    net = StyleTransfer([[4, 4], [8]])
    net.decoder[-1].bias.data.fill_(0.5)  # in the middle of the range, so that nothing is cut off
    content, style = torch.rand(2, 3, 3, 17, 17)  # of a size that pooling does not divide
    redrawn = net.decoder(net.encoder(content))[..., :17, :17].clamp(0, 1)
    torch.testing.assert_close(net(content, style, 0.0), redrawn)
    assert not torch.allclose(net(content, style, 1.0), redrawn)
    torch.testing.assert_close(net(content, content, 1.0), redrawn, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("vgg_normalised.pth", "convert the published weights once: python -m dadlab.adain"),
        ("studoi", "unknown style transfer 'studoi': choose 'studio' or"),
        ("none.safetensors", "none.safetensors: weights not found"),
    ],
)
def test_other_names_are_refused(name, names):
    with pytest.raises(ValueError, match=names):
        load_style_transfer(name)


def test_weights_of_something_else_are_refused(files, tmp_path):
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"embed_dim": 3})
    with pytest.raises(ValueError, match="weights of another kind"):
        load_style_transfer(str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match=r"decoder\.pth: weights of another kind"):
        convert(files[1], files[1], files[2])
    with pytest.raises(ValueError, match=r"name the target \.safetensors"):
        convert(files[0], files[1], tmp_path / "x.pth")
    with pytest.raises(SystemExit, match="weights not found"):
        main([str(tmp_path / "no.pth"), str(files[1]), str(files[2])])


def test_the_committed_transfer_keeps_shape_and_takes_colour(photos40):
    """Content is recognisable, and mean colour moves towards the style's."""
    net, rows = load_style_transfer(), torch.arange(20)
    content, style = photos40.images(rows), photos40.images(rows + 20)
    redrawn, moved = net(content, style, 0.0), net(content, style, 1.0)
    assert float((redrawn - content).square().mean().sqrt()) < 0.15
    before = (content.mean((2, 3)) - style.mean((2, 3))).abs().mean()
    assert float((moved.mean((2, 3)) - style.mean((2, 3))).abs().mean()) < 0.6 * float(before)


def test_what_is_drawn_stays_in_range():
    net = StyleTransfer([[4], [4]])
    for bias, edge in ((9.0, 1.0), (-9.0, 0.0)):
        net.decoder[-1].bias.data.fill_(bias)
        assert (net(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)) == edge).all()


def test_statistics_are_taken_in_single_precision():
    features = 100 + torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    for found, expected in zip(statistics(features), statistics(features.double()), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)
