"""Discretizers Q: images in [0, 1] to images in [0, 1] through a discrete code (Esser et al., 2021).

`VQGAN` is composed of taming-transformers' own encoder, decoder and quantizer, so published checkpoints fit; its
`VQModel` wrapper is left out because it needs a long-gone Lightning module. `Identity` is the pixel-space ablation,
`dadlab.diffusion` has those without a code.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.vqvae.quantize import VectorQuantizer2
from torch import Tensor, nn

from dadlab.diffusion_name import names_diffusion
from dadlab.files import fill, load_weights
from dadlab.photos import ASSETS
from dadlab.wrappers import Frozen

if TYPE_CHECKING:
    from dadlab.diffusion import Diffusion

_DISTANCES_AT_ONCE = 2**27  # of an accelerator: half a GB
_DISTANCES_ON_CPU = 2**20  # 4 MB: twice as many, and the allocator maps and clears them anew every time


class Identity(nn.Module):
    """Q(x) = x: adversarial examples stay in pixel space."""

    def forward(self, images: Tensor) -> Tensor:
        return images

    def straight_through(self, images: Tensor) -> Tensor:
        return images


class VQGAN(nn.Module):
    """Vector-quantised autoencoder.

    Args:
        ddconfig: taming's encoder and decoder configuration (`ch`, `ch_mult`, `resolution`, `z_channels`, …).
        n_embed: codebook size K.
        embed_dim: code dimension d.
    """

    def __init__(self, *, ddconfig: dict[str, Any], n_embed: int, embed_dim: int):
        super().__init__()
        if n_embed > 2**16:
            raise ValueError(f"codebook of {n_embed} entries: codes are stored in 16 bits, 65,536 at most")
        with contextlib.redirect_stdout(io.StringIO()):  # taming's constructors announce themselves
            self.encoder = Encoder(**ddconfig)
            self.decoder = Decoder(**ddconfig)
            self.quantize = VectorQuantizer2(n_embed, embed_dim, beta=0.25, legacy=False)
        self.side = 2 ** (len(ddconfig["ch_mult"]) - 1)  # pixels that a code stands for
        self.quant_conv = nn.Conv2d(ddconfig["z_channels"], embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)

    def latents(self, images: Tensor) -> Tensor:
        """Continuous latents (B, d, h, w) of images in [0, 1], before quantisation.

        Raises:
            ValueError: images that would come back in another size.
        """
        if any(pixels % self.side for pixels in images.shape[-2:]):
            size = " × ".join(map(str, images.shape[-2:]))
            raise ValueError(f"images of {size} pixels: this discretizer wants sides that are multiples of {self.side}")
        return self.quant_conv(self.encoder(images * 2 - 1))

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to integer codes (B, h, w)."""
        return nearest_code(self.latents(images), self.quantize.embedding.weight)

    def embed(self, images: Tensor) -> Tensor:
        """Codebook entries (B, d, h, w) of images, with a gradient that skips the search (Bengio et al., 2013)."""
        latents = self.latents(images)
        return _straight_through(latents, self._entries(nearest_code(latents, self.quantize.embedding.weight)))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) to images (B, 3, H, W) in [0, 1]."""
        batch, height, width = codes.shape
        entries = self.quantize.get_codebook_entry(codes.long().flatten(), (batch, height, width, self.quantize.e_dim))
        return self._pixels(entries).clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Q(x) = decode(encode(x))."""
        return self.decode(self.encode(images))

    def straight_through(self, images: Tensor) -> Tensor:
        """Q(x) whose gradient skips the codebook search, as in training (Bengio et al., 2013)."""
        return self.reconstruct(images)[0].clamp(0, 1)

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Training pass: unclamped reconstruction, codebook and commitment loss, codes."""
        latents = self.latents(images)
        codes = nearest_code(latents.detach(), self.quantize.embedding.weight.detach())
        entries = self._entries(codes)
        loss = F.mse_loss(entries, latents.detach()) + self.quantize.beta * F.mse_loss(latents, entries.detach())
        return self._pixels(_straight_through(latents, entries)), loss, codes

    def _entries(self, codes: Tensor) -> Tensor:
        return self.quantize.embedding(codes).permute(0, 3, 1, 2)

    def _pixels(self, entries: Tensor) -> Tensor:
        return (self.decoder(self.post_quant_conv(entries)) + 1) / 2


def _straight_through(latents: Tensor, entries: Tensor) -> Tensor:
    return latents + (entries - latents).detach()


@torch.no_grad()
def nearest_code(latents: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codebook entry for every latent, a slice of the distance matrix at a time.

    Distances are single-precision whatever precision models run in: half of it confuses one code in ten.

    Args:
        latents: (B, d, h, w).
        codebook: (K, d).

    Returns:
        (B, h, w) int64.
    """
    batch, dim, height, width = latents.shape
    flat = latents.permute(0, 2, 3, 1).reshape(-1, dim).float()
    codebook = codebook.float()
    half_norm = codebook.square().sum(1) / 2
    at_once = _DISTANCES_ON_CPU if flat.device.type == "cpu" else _DISTANCES_AT_ONCE
    rows = max(1, at_once // len(codebook))
    with _single_precision(flat.device.type):
        codes = [_first_least(torch.addmm(half_norm, part, codebook.T, alpha=-1)) for part in flat.split(rows)]
    return torch.cat(codes).view(batch, height, width)


def _single_precision(device: str) -> contextlib.AbstractContextManager[object]:
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else contextlib.nullcontext()


def _first_least(rows: Tensor) -> Tensor:
    """argmin of every row; on a CPU by NumPy, which takes a fourth of torch's time and counts equals alike."""
    return torch.from_numpy(rows.numpy().argmin(1)) if rows.device.type == "cpu" else rows.argmin(1)


class FrozenVQGAN(Frozen, VQGAN):
    """A trained VQGAN as a fixed discretizer."""


def load_vqgan(weights: Path) -> FrozenVQGAN:
    """A frozen VQGAN from a file written by `dadlab.making.discretizer` or `dadlab.checkpoints`.

    Raises:
        ValueError: missing or unreadable weights, or published ones that are still to be converted.
    """
    target = Path(weights).with_suffix(".converted.safetensors")
    absent = f"take the published model.ckpt and {_converted('model.ckpt', weights)}"
    state, config = load_weights(weights, _converted(weights, target), absent)
    return fill(weights, lambda: FrozenVQGAN(**config), state).freeze()


Discretizer: TypeAlias = "FrozenVQGAN | Identity | Diffusion"


_CHOICES = "'studio', 'broad', 'identity', 'diffusion', 'diffusion-text', 'diffusers:MODEL', 'diffusers-text:MODEL'"


def load_discretizer(name: str = "studio", classes: Sequence[str] = ()) -> Discretizer:
    """A discretizer by name or file.

    Args:
        name: `studio` (trained on the students' style alone), `broad` (on all the teacher's styles), `identity`, a
            safetensors file written by `dadlab.making.discretizer` or, from a published checkpoint, by
            `dadlab.checkpoints`; or a diffusion model: `diffusion`, `diffusers:MODEL` and the others of
            `dadlab.diffusion.load_diffusion`.
        classes: names of the labels; a diffusion model's prompts may want them.

    Raises:
        ValueError: unknown name, a checkpoint still to be converted, an unreadable file, or diffusers is missing.
    """
    if name == "identity":
        return Identity()
    if name in ("studio", "broad"):
        return load_vqgan(ASSETS / f"vqgan_{name}.safetensors")
    if names_diffusion(name):
        return _diffusion(name, classes)
    if Path(name).suffix in (".ckpt", ".pt", ".pth", ".bin"):
        raise ValueError(f"{name}: {_converted(name, Path(name).with_suffix('.safetensors'))}")
    if Path(name).suffix != ".safetensors":
        raise ValueError(f"unknown discretizer {name!r}: choose {_CHOICES}, or a .safetensors file")
    return load_vqgan(Path(name))


def _converted(source: str | Path, target: Path) -> str:
    return f"convert it once: python -m dadlab.checkpoints convert {source} {target}"


def _diffusion(name: str, classes: Sequence[str]) -> Diffusion:
    try:
        from dadlab.diffusion import load_diffusion
    except ImportError as error:
        raise ValueError(f"{name}: needs diffusers (pip install 'dadlab[diffusion]'): {error}") from None
    return load_diffusion(name, classes)


@torch.no_grad()
def codebook_use(codes: Tensor, size: int) -> tuple[float, float]:
    """Share of the codebook that occurs in `codes`, and its perplexity exp(H)."""
    counts = torch.bincount(codes.flatten().long(), minlength=size).double()
    share = counts / counts.sum()
    return float((counts > 0).double().mean()), float(torch.special.entr(share).sum().exp())
