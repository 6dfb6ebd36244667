"""AugReg's augmentation, replayable: RandAugment and Mixup as functions of (sample index, view number).

Operations and their strengths are timm's RandAugment (Cubuk et al., 2020) without its ceiling of 10; each layer acts on
half of the images, as timm's does, where the paper's acts on all. Signs and choices are drawn by `counter_hash`.
Mixup's partners are fixed for a view: its samples are paired off at random, and each of a pair is mixed with the other
by a weight of its own. So a mixture belongs to a sample and a view like any crop does: the teacher's answer to that
very mixture can be cached, whatever batch and process the sample falls into. What is given up: a sample meets at most
as many partners as there are views.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import beta
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP
from torch import Tensor

from dadlab.dataset import Dataset, to_picture, to_tensor
from dadlab.fingerprints import fingerprint
from dadlab.profile import AUGREG, AugReg, nearest
from dadlab.views import counter_hash

_SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
OPERATIONS = (
    "AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast", "Brightness",
    "Sharpness", *_SIGNED,
)  # fmt: skip
_DRAWS, _WEIGHTS = 2**21, 2**22  # streams of `counter_hash`, apart from those of the crops


@dataclass(frozen=True)
class AugRegViews:
    """A dataset whose views go through RandAugment and Mixup after its own crops; view −1 stays clean.

    Attributes:
        base: the dataset.
        recipe: what is done to its views.
    """

    base: Dataset
    recipe: AugReg

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.base.classes

    @property
    def labels(self) -> Tensor:
        return self.base.labels

    @functools.cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.base.fingerprint, self.recipe.layers, self.recipe.magnitude, self.recipe.mixup)

    def __len__(self) -> int:
        return len(self.base)

    def images(self, index: Tensor, view: int = -1) -> Tensor:
        """Images (B, 3, H, W) in [0, 1]; a sample and its partner in the same batch are drawn once."""
        if view < 0:
            return self.base.images(index, view)
        if not self.recipe.mixup:
            return self._augmented(index, view)
        other, weight = partners(len(self), view)[index], weights(index, view, self.recipe.mixup)
        needed, place = torch.cat([index, other]).unique(return_inverse=True)
        own, others = self._augmented(needed, view)[place].split(len(index))
        return others.lerp(own, weight[:, None, None, None])

    def targets(self, index: Tensor, view: int) -> Tensor:
        """What the cross-entropy asks for: labels (B,) int64, or with Mixup each class's share (B, C)."""
        if view < 0 or not self.recipe.mixup:
            return self.labels[index]
        weight, rows = weights(index, view, self.recipe.mixup), torch.arange(len(index))
        shares = torch.zeros(len(index), len(self.classes))
        shares[rows, self.labels[index]] += weight
        shares[rows, self.labels[partners(len(self), view)[index]]] += 1 - weight
        return shares

    def _augmented(self, index: Tensor, view: int) -> Tensor:
        images = self.base.images(index, view)
        drawn = (counter_hash(index, _DRAWS + view + layer * 2**16) for layer in range(self.recipe.layers))
        for image, *draws in zip(images, *drawn, strict=True):
            chosen = [int(bits) for bits in draws if int(bits) & 1]  # timm applies each layer with probability ½
            if chosen:
                image.copy_(_randaugment(image, chosen, self.recipe.magnitude))
        return images


def augreg_views(dataset: Dataset, name: str) -> Dataset | AugRegViews:
    """The dataset with the named recipe on its views; itself for `none`."""
    recipe = nearest(name, AUGREG, "augreg")
    return AugRegViews(dataset, recipe) if recipe.layers else dataset


@functools.lru_cache(maxsize=4)
def partners(count: int, view: int) -> Tensor:
    """Mixup's partner of every sample in a view (N,): who is whose partner goes both ways; an odd one mixes alone."""
    table = torch.arange(count)
    pairs = pairing(count, view)
    table[pairs[:, 0]], table[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return table


def pairing(count: int, view: int) -> Tensor:
    """A view's pairs (N // 2, 2): every sample once, but for one of an odd number."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_WEIGHTS + view))
    return order[: count // 2 * 2].view(-1, 2)


def weights(index: Tensor, view: int, alpha: float) -> Tensor:
    """Each sample's own share of its mixture (B,), drawn from Beta(α, α)."""
    uniform = (counter_hash(index, _WEIGHTS + view) >> np.uint64(11)).astype(np.float64) / 2**53
    return torch.from_numpy(beta.ppf(uniform, alpha, alpha).astype(np.float32))


def _randaugment(image: Tensor, draws: list[int], magnitude: int) -> Tensor:
    """One image (3, H, W) in [0, 1] after one operation a draw."""
    picture = to_picture(image)
    for bits in draws:
        name = OPERATIONS[(bits >> 8) % len(OPERATIONS)]
        operation: Any = NAME_TO_OP[name]
        arguments = _arguments(name, magnitude, bits >> 1 & 1)
        picture = operation(picture, *arguments, fillcolor=(128,) * 3, resample=Image.Resampling.BICUBIC)
    return to_tensor(picture)


def _arguments(name: str, magnitude: int, negative: int) -> tuple[float, ...]:
    """timm's argument at a magnitude, with our sign in place of its random one; Posterize keeps at least one bit."""
    level: Any = LEVEL_TO_ARG[name]
    found: tuple[float, ...] = level(magnitude, {}) if level else ()
    if name == "Posterize":
        return (max(1, found[0]),)  # below magnitude 2.5 timm says 0, which is black and which Pillow refuses
    return tuple(math.copysign(value, -1 if negative else 1) for value in found) if name in _SIGNED else found
