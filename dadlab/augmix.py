"""AugMix (Hendrycks et al., 2020, Algorithm 1), replayable: a mixture belongs to a sample, a view and a copy.

Three chains of one to three operations each are mixed with Dirichlet weights, and the mixture with the image itself by
a Beta weight; α is 1. The operations are timm's, with the paper's strengths; none is a corruption of ImageNet-C, so
contrast, colour, brightness and sharpness are left out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP
from torch import Tensor

from dadlab.dataset import to_picture
from dadlab.views import uniforms

OPERATIONS = (
    "AutoContrast", "Equalize", "Posterize", "Rotate", "Solarize",
    "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
)  # fmt: skip
WIDTH, DEPTH = 3, 3
_STREAM = 2**23  # of `counter_hash`, apart from those of crops, RandAugment and Mixup


def augmix(images: Tensor, index: Tensor, view: int, copy: int, severity: float = 3.0) -> Tensor:
    """One mixture of each image.

    Args:
        images: a view of each sample (B, 3, H, W) in [0, 1].
        index: (B,) stable sample index.
        view: which view the images are.
        copy: which mixture of it.
        severity: the largest level of an operation, from 0.1 to 10; 3 as published for small images.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    drawn = uniforms(index, _STREAM + view + copy * 2**16, 1 + 2 * WIDTH + 3 * WIDTH * DEPTH)
    return torch.stack([_mixture(image, draws, severity) for image, draws in zip(images, drawn, strict=True)])


def _mixture(image: Tensor, draws: np.ndarray, severity: float) -> Tensor:
    share, parts, depths = float(draws[0]), -np.log1p(-draws[1 : 1 + WIDTH]), draws[1 + WIDTH : 1 + 2 * WIDTH]
    weights = parts / parts.sum()  # Dirichlet(1, …, 1): exponential variates over their sum
    chains = draws[1 + 2 * WIDTH :].reshape(WIDTH, DEPTH, 3)
    original, mixed = to_picture(image), np.zeros((*image.shape[1:], 3), np.float32)
    for weight, depth, chain in zip(weights.tolist(), depths, chains, strict=True):
        picture = original
        for which, level, sign in chain[: 1 + int(depth * DEPTH)]:
            picture = _apply(picture, OPERATIONS[int(which * len(OPERATIONS))], 0.1 + level * (severity - 0.1), sign)
        mixed += np.float32(weight / 255) * np.asarray(picture)
    return image.lerp(torch.from_numpy(mixed).permute(2, 0, 1), share).clamp(0, 1)


def _apply(picture: Image.Image, name: str, level: float, sign: float) -> Image.Image:
    """One operation at a level of 0.1 to 10."""
    signed = math.copysign(level, sign - 0.5) / 10
    strengths: dict[str, tuple[float, ...]] = {
        "Posterize": (4 - int(level * 4 / 10),),  # bits that stay
        "Solarize": (256 - int(level * 256 / 10),),  # inverted from here on
        "Rotate": (30 * signed,),  # degrees
        "ShearX": (0.3 * signed,),
        "ShearY": (0.3 * signed,),
        "TranslateXRel": (signed / 3,),  # of the width
        "TranslateYRel": (signed / 3,),
    }
    operation: Any = NAME_TO_OP[name]
    return operation(picture, *strengths.get(name, ()), fillcolor=(0, 0, 0), resample=Image.Resampling.BILINEAR)
