"""Teachers that see an image together with its discrete tokens: the Discrete ViT (Mao et al., 2022).

A backbone takes images and the codebook entries of their codes; `TokenTeacher` makes the entries with its own
discretizer, straight-through, so that an attack sees a gradient. `TokenViT` is a backbone: a ViT whose patch
embeddings are a projection of each patch's pixels and codes. Published weights of the paper are not read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dadlab.discretizer import FrozenVQGAN
from dadlab.files import fill, load_weights, save_weights
from dadlab.wrappers import Frozen, Preprocess, resize


class TokenTeacher(Frozen):
    """Classifier of images (B, 3, H, W) in [0, 1] that supplies its backbone with their codes.

    Args:
        discretizer: VQGAN that the backbone was trained with.
        backbone: called with images (B, 3, S, S) in [0, 1], which it normalises itself, and codebook entries
            (B, d, S/f, S/f); gives logits (B, C).
        size: S, the side that discretizer and backbone see.
    """

    def __init__(self, discretizer: FrozenVQGAN, backbone: nn.Module, size: int):
        super().__init__()
        self.discretizer, self.backbone, self.size = discretizer, backbone, size
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        images = resize(images, self.size)
        return self.backbone(images, self.discretizer.embed(images))


class TokenViT(nn.Module):
    """ViT over patches of pixels and codes.

    Args:
        vit: arguments of timm's `VisionTransformer`.
        code_dim: d.
        code_size: f, side in pixels that a code stands for; the patch size is a multiple of it.
        mean, std: of the pixels.
    """

    def __init__(
        self, *, vit: dict[str, Any], code_dim: int, code_size: int, mean: Sequence[float], std: Sequence[float]
    ):
        super().__init__()
        if vit["patch_size"] % code_size:
            raise ValueError(f"patch size {vit['patch_size']} must be a multiple of the codes' {code_size} pixels")
        self.preprocess = Preprocess(vit["img_size"], mean, std)
        self.vit = VisionTransformer(**vit)
        self.vit.patch_embed = _PatchAndCodes(self.vit.patch_embed, code_dim, vit["patch_size"] // code_size)

    def forward(self, images: Tensor, entries: Tensor) -> Tensor:
        return self.vit((self.preprocess(images), entries))


class _PatchAndCodes(nn.Module):
    """Pixels (B, 3, S, S) and entries (B, d, S/f, S/f) to embeddings (B, N, D), one for each patch."""

    def __init__(self, pixels: Any, code_dim: int, side: int):
        super().__init__()
        self.pixels, self.side, self.num_patches = pixels, side, pixels.num_patches
        self.project = nn.Linear(pixels.proj.out_channels + code_dim * side**2, pixels.proj.out_channels)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        images, entries = pair
        codes = F.pixel_unshuffle(entries, self.side).flatten(2).transpose(1, 2)
        return self.project(torch.cat([self.pixels(images), codes], dim=-1))


def save_token_teacher(path: Path, teacher: TokenTeacher, config: dict[str, Any]) -> None:
    """Write a `TokenTeacher` over a `TokenViT`, discretizer included.

    Args:
        path: safetensors file; `load_teacher` reads it.
        teacher: what to write.
        config: arguments of `TokenViT` under `tokens`, of the VQGAN under `vqgan`.
    """
    save_weights(path, teacher.state_dict(), config, half=False)


def load_token_teacher(path: Path) -> TokenTeacher:
    """Read what `save_token_teacher` wrote.

    Raises:
        ValueError: missing, unreadable or unfitting file.
    """
    state, config = load_weights(path)

    def build() -> TokenTeacher:
        backbone = TokenViT(**config["tokens"])
        return TokenTeacher(FrozenVQGAN(**config["vqgan"]), backbone, config["tokens"]["vit"]["img_size"])

    return fill(path, build, state).freeze()
