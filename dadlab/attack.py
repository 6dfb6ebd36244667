"""The attack: gradient ascent on a frozen classifier's loss, inside an ε-ball, inside [0, 1].

One loop serves FGSM, PGD and the paper's single step: gradient → step → project → clip. Images are never normalised
here; that belongs to the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dadlab.profile import Attack

Classifier = Callable[[Tensor], Tensor]


def described(attack: Attack) -> dict[str, Any]:
    """An attack as fingerprints and manifests see it: its settings, and how `perturb` carries them out today.

    `perturb` once clipped inside the loss; the entry about it keeps examples of that time from being taken for today's.
    Attacks without steps did not change.
    """
    return dataclasses.asdict(attack) | ({"clipped": "after every step"} if attack.steps else {})


def perturb(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    generators: Sequence[torch.Generator],
    *,
    through: Classifier | None = None,
) -> Tensor:
    """Adversarial examples x' = argmax l(φ(x'), y) over ‖x' − x‖ ≤ ε, before discretization.

    Args:
        classifier: φ, images (B, 3, H, W) in [0, 1] to logits (B, C).
        images: (B, 3, H, W) in [0, 1]; the paper starts at Q(x).
        labels: (B,) int64, true classes, or each class's share (B, C).
        attack: norm, radius, steps.
        generators: one a sample, for the random start; so a batch can be cut anywhere without changing a sample.
        through: differentiable discretizer the gradient passes, if `attack.through`.

    Returns:
        (B, 3, H, W) in [0, 1], detached.
    """
    target = (lambda x: classifier(through(x))) if attack.through and through is not None else classifier
    perturbed = (images + random_start(images, attack, generators)).clamp(0, 1)
    for _ in range(attack.steps):
        perturbed.requires_grad_(True)
        loss = F.cross_entropy(target(perturbed), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, perturbed)
        step = attack.step_size * direction(gradient, attack.norm)
        perturbed = (images + project(perturbed.detach() - images + step, attack)).clamp(0, 1)
    return perturbed.detach()


def direction(gradient: Tensor, norm: str) -> Tensor:
    """Steepest ascent of unit length in the given norm."""
    return gradient.sign() if norm == "linf" else gradient / _l2(gradient).clamp_min(1e-12)


def project(offset: Tensor, attack: Attack) -> Tensor:
    """Nearest point of the ε-ball."""
    if attack.norm == "linf":
        return offset.clamp(-attack.epsilon, attack.epsilon)
    return offset * (attack.epsilon / _l2(offset).clamp_min(1e-12)).clamp_max(1)


def random_start(images: Tensor, attack: Attack, generators: Sequence[torch.Generator]) -> Tensor:
    """Offset to start from: zero, or with probability `attack.start` random of norm ε (`l2`) or in the box (`linf`)."""
    if attack.start == 0 or not len(images):
        return torch.zeros_like(images)
    offsets = []
    for image, generator in zip(images, generators, strict=True):
        chosen = torch.rand((), generator=generator) < attack.start
        if attack.norm == "linf":
            noise = torch.rand(image.shape, generator=generator) * 2 - 1
        else:
            noise = torch.randn(image.shape, generator=generator)
            noise = noise / noise.norm()
        offsets.append(attack.epsilon * noise if chosen else torch.zeros_like(noise))
    return torch.stack(offsets).to(images)


def _l2(offset: Tensor) -> Tensor:
    return offset.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
