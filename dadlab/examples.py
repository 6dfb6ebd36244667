"""Examples: one batch on its way x → Q(x) → x' → Q(x') → kept where the teacher still says y (Zhou et al., 2023, §3.3).

A pure function over tensors, the same for stores, figures and widgets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dadlab.attack import Classifier, perturb
from dadlab.discretizer import VQGAN, Discretizer, Identity
from dadlab.profile import Attack
from dadlab.views import counter_hash


@dataclass(frozen=True)
class Made:
    """A batch on its way through DAD: every stage, for stores and figures alike.

    Attributes:
        clean: x (B, 3, H, W).
        reconstructed: Q(x).
        perturbed: x'.
        images: Q(x').
        codes: (B, h, w) of Q(x'), or None where Q has no codes.
        logits: φ(Q(x')) (B, C).
        reason: (B,) position in `REASONS`.
        distance: ‖Q(x') − x‖₂ (B,).
    """

    clean: Tensor
    reconstructed: Tensor
    perturbed: Tensor
    images: Tensor
    codes: Tensor | None
    logits: Tensor
    reason: Tensor
    distance: Tensor

    @property
    def accepted(self) -> Tensor:
        return self.reason == 0


def discretize_adversarially(
    images: Tensor,
    labels: Tensor,
    teacher: nn.Module,
    discretizer: Discretizer,
    attack: Attack,
    generators: list[torch.Generator],
) -> Made:
    """One batch of DAD samples: discretize, perturb against the teacher, discretize again, judge.

    Args:
        images: x (B, 3, H, W) in [0, 1].
        labels: y (B,).
        teacher: φ.
        discretizer: Q.
        attack: how x' is made from Q(x).
        generators: one a sample.
    """
    q = discretizer if isinstance(discretizer, VQGAN | Identity) else discretizer.of(labels)
    with torch.no_grad():
        reconstructed = q(images)
    through = q.straight_through if attack.through else None
    said = _Remembers(teacher)
    perturbed = perturb(said, reconstructed, labels, attack, generators, through=through)
    starts_there = attack.steps > 0 and attack.start == 0 and not attack.through
    with torch.no_grad():
        if isinstance(discretizer, VQGAN):
            codes = discretizer.encode(perturbed)
            final = discretizer.decode(codes)
        else:
            codes, final = None, q(perturbed)
        logits = teacher(final)
        kept = logits.argmax(1) == labels
        wrong = teacher(images).argmax(1) != labels
        lost = (said.first if starts_there else teacher(reconstructed)).argmax(1) != labels
        lost |= (perturbed == reconstructed).flatten(1).all(1)  # unmoved, to the second pass through Q
        reason = torch.where(kept, 0, torch.where(wrong, 1, torch.where(lost, 2, 3)))
    distance = (final - images).flatten(1).norm(dim=1)
    return Made(images, reconstructed, perturbed, final, codes, logits, reason, distance)


def sample_generators(rows: Tensor, seed: int) -> list[torch.Generator]:
    """One generator a sample, keyed by (seed, row)."""
    keys = (counter_hash(rows, 2**20 + seed) >> 1).tolist()
    return [torch.Generator().manual_seed(key) for key in keys]


class _Remembers:
    """A classifier that keeps its first answer: an attack's first step has asked φ about Q(x) already."""

    first: Tensor

    def __init__(self, classifier: Classifier):
        self.classifier = classifier

    def __call__(self, images: Tensor) -> Tensor:
        logits = self.classifier(images)
        if not hasattr(self, "first"):
            self.first = logits.detach()
        return logits
