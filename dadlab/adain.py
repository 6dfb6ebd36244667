"""Style transfer by adaptive instance normalization (AdaIN; Huang and Belongie, 2017), for debiased training.

A frozen encoder, AdaIN on its deepest features, and a decoder that draws them again. The layers are those of the
published network, a VGG-19 up to `relu4_1` and its mirror image; the embedded one is the same in small, trained by
`dadlab.making.adain`. The published weights, `vgg_normalised.pth` and `decoder.pth`, are made one file by

    python -m dadlab.adain vgg_normalised.pth decoder.pth adain_vgg.safetensors
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dadlab.checkpoints import read_checkpoint
from dadlab.files import fill, load_weights, save_weights
from dadlab.fingerprints import sha256
from dadlab.photos import ASSETS
from dadlab.wrappers import Frozen

VGG = ((64, 64), (128, 128), (256, 256, 256, 256), (512,))


class StyleTransfer(nn.Module):
    """Encoder and decoder.

    Args:
        stages: the widths of each stage's convolutions; stages are parted by pooling, the last has one convolution.
    """

    def __init__(self, stages: Sequence[Sequence[int]] = VGG):
        super().__init__()
        self.stages = [list(widths) for widths in stages]
        self.encoder, self.decoder = nn.Sequential(*_encoder(stages)), nn.Sequential(*_decoder(stages))

    def features(self, images: Tensor) -> list[Tensor]:
        """What follows each stage's first convolution, the deepest features last; images (B, 3, H, W) in [0, 1]."""
        found: list[Tensor] = []
        hidden, begun = images, True
        for layer in self.encoder:
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU) and begun:
                found.append(hidden)
            begun = isinstance(layer, nn.MaxPool2d) or (begun and not isinstance(layer, nn.ReLU))
        return found

    def forward(self, content: Tensor, style: Tensor, strength: float = 1.0) -> Tensor:
        """Content in the style of other images: all (B, 3, H, W) in [0, 1].

        decode((1 − s) · f + s · AdaIN(f, g)) for the features f of the content and g of the style.

        Args:
            content: what is shown.
            style: whose colours and textures it takes.
            strength: s in [0, 1]; at 0 the content is only encoded and drawn again.
        """
        deepest = self.encoder(content)
        styled = adain(deepest, self.encoder(style))
        mixed = deepest.to(styled.dtype).lerp(styled, strength)
        return self.decoder(mixed)[..., : content.shape[-2], : content.shape[-1]].clamp(0, 1)


class FrozenStyleTransfer(Frozen, StyleTransfer):
    """A trained style transfer."""


def adain(content: Tensor, style: Tensor) -> Tensor:
    """σ(g) · (f − μ(f)) / σ(f) + μ(g), with mean and deviation of each channel over positions (Eq. 8 of the paper).

    Args:
        content: f (B, C, h, w).
        style: g (B, C, h', w').
    """
    (mean, deviation), (wanted_mean, wanted_deviation) = statistics(content), statistics(style)
    return (content - mean) / deviation * wanted_deviation + wanted_mean


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, C, 1, 1) of each channel over positions, in single precision at least."""
    wide = features if features.dtype == torch.float64 else features.float()
    variance, mean = torch.var_mean(wide, (2, 3), keepdim=True)
    return mean, (variance + 1e-5).sqrt()


def load_style_transfer(name: str = "studio") -> FrozenStyleTransfer:
    """A style transfer by name or file.

    Args:
        name: `studio`, trained on drawings of photographs that no student sees; or a safetensors file.

    Raises:
        ValueError: unknown name, published weights still to be converted, or an unreadable file.
    """
    path = ASSETS / f"adain_{name}.safetensors" if name == "studio" else Path(name)
    target = path.with_suffix(".safetensors")
    remedy = f"convert the published weights once: python -m dadlab.adain vgg_normalised.pth decoder.pth {target}"
    if path.suffix in (".pth", ".pt"):
        raise ValueError(f"{name}: {remedy}")
    if path.suffix != ".safetensors":
        raise ValueError(f"unknown style transfer {name!r}: choose 'studio' or a .safetensors file")
    state, config = load_weights(path, absent=remedy)
    return fill(path, lambda: FrozenStyleTransfer(**config), state).freeze()


def convert(encoder: Path, decoder: Path, target: Path) -> str:
    """Make the published encoder and decoder one file for `load_style_transfer`; says what it wrote.

    Layers of the VGG after `relu4_1` are left out.

    Raises:
        ValueError: unreadable files, or weights of another network.
    """
    if Path(target).suffix != ".safetensors":
        raise ValueError(f"{target}: name the target .safetensors")
    net = StyleTransfer()
    known = net.encoder.state_dict()
    first = {key: value for key, value in read_checkpoint(encoder).items() if int(key.split(".")[0]) < len(net.encoder)}
    fill(encoder, lambda: net.encoder, first)
    fill(decoder, lambda: net.decoder, read_checkpoint(decoder))
    save_weights(target, net.state_dict(), {"stages": net.stages}, half=False)
    return f"{target}  sha256 {sha256(target)}  ({len(known)} + {len(net.decoder.state_dict())} tensors)"


def _encoder(stages: Sequence[Sequence[int]]) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]  # the published one's own normalisation
    for position, widths in enumerate(_chains(stages)):
        layers += [nn.MaxPool2d(2, ceil_mode=True)] if position else []
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(narrow, wide, 3), nn.ReLU()]
    return layers


def _decoder(stages: Sequence[Sequence[int]]) -> list[nn.Module]:
    """The encoder's convolutions backwards; nothing follows the last, whose three channels are the image."""
    layers: list[nn.Module] = []
    for position, widths in enumerate(reversed(_chains(stages))):
        layers += [nn.Upsample(scale_factor=2)] if position else []
        for wide, narrow in itertools.pairwise(reversed(widths)):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(wide, narrow, 3), nn.ReLU()]
    return layers[:-1]


def _chains(stages: Sequence[Sequence[int]]) -> list[list[int]]:
    """Each stage's widths with the one it begins from."""
    return [[before, *widths] for before, widths in zip([3, *(s[-1] for s in stages)], stages, strict=False)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m dadlab.adain", description="Make the published AdaIN usable.")
    for name in ("encoder", "decoder", "target"):
        parser.add_argument(name, type=Path)
    try:
        print(convert(**vars(parser.parse_args(arguments))))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
