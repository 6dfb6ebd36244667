"""The pyramid's perturbation: one for every scale, summed (Herrmann et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dadlab.attack import Classifier, direction, project
from dadlab.profile import Attack

PYRAMID = Attack(norm="linf", epsilon=3 / 255, step_size=0.5 / 255, steps=5)
GRIDS = {7: 20.0, 14: 10.0, 0: 1.0}  # cells a side (0: pixels) and m_s


def perturb_pyramid(classifier: Classifier, images: Tensor, labels: Tensor, draws: Tensor) -> Tensor:
    """xᵃ = clip(x + Σ m_s · δ_s) over scales s, each |δ_s| ≤ ε and constant in a cell of its grid (Eq. 4).

    Grids are 7 and 14 cells a side, and pixels, with m = 20, 10 and 1: 32, 16 and 1 pixels of 224, as published.

    Args:
        classifier: images (B, 3, S, S) in [0, 1] to logits (B, C).
        images: x (B, 3, S, S).
        labels: (B,) int64, or shares (B, C), of which the largest counts.
        draws: (B,) in [0, 1), which of the other classes each sample goes towards.

    Returns:
        (B, 3, S, S) in [0, 1], detached.
    """
    true = labels if labels.ndim == 1 else labels.argmax(1)
    offsets = [images.new_zeros(len(images), 3, *(cells or images.shape[-1],) * 2) for cells in GRIDS]
    for _ in range(PYRAMID.steps):
        logits = classifier(_summed(images, [offset.requires_grad_(True) for offset in offsets]))
        classes = logits.shape[1]
        wrong = (true + 1 + (draws * (classes - 1)).long()) % classes
        gradients = torch.autograd.grad(-F.cross_entropy(logits, wrong, reduction="sum"), offsets)
        offsets = [
            project(offset.detach() + PYRAMID.step_size * direction(gradient, PYRAMID.norm), PYRAMID)
            for offset, gradient in zip(offsets, gradients, strict=True)
        ]
    return _summed(images, offsets)


def _summed(images: Tensor, offsets: Sequence[Tensor]) -> Tensor:
    size = images.shape[-2:]
    scaled = (m * F.interpolate(offset, size) for m, offset in zip(GRIDS.values(), offsets, strict=True))
    return (images + torch.stack(list(scaled)).sum(0)).clamp(0, 1)
