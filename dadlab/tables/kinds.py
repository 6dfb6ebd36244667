"""Three kinds of adversarial example of the same photographs, for the eye (Zhou et al., 2023, Figure 3).

DAD's come from the teacher and are discretized, DAT's from a student and are discretized, and pixel-space ones are
the student's without a discretizer. Examples are chosen by a rule, not by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dadlab.discretizer import Discretizer, Identity
from dadlab.generate import discretize_adversarially, sample_generators
from dadlab.profile import Attack

KINDS = ("DAD (teacher)", "DAT (student)", "pixel space")


def three_kinds(
    images: Tensor,
    labels: Tensor,
    *,
    teacher: nn.Module,
    student: nn.Module,
    discretizer: Discretizer,
    attack: Attack,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Kind → adversarial examples (B, 3, H, W) of the photographs x.

    Args:
        images: x (B, 3, H, W) in [0, 1].
        labels: y (B,).
        teacher, student: classifiers that are attacked.
        discretizer: Q of the first two kinds.
        attack: of all three.
        seed: of random starts.
    """
    generators = sample_generators(torch.arange(len(labels)), seed)
    made = zip(KINDS, ((teacher, discretizer), (student, discretizer), (student, Identity())), strict=True)
    return {kind: discretize_adversarially(images, labels, *how, attack, generators).images for kind, how in made}


@torch.no_grad()
def chosen(base: nn.Module, images: Tensor, labels: Tensor, kinds: Mapping[str, Tensor], count: int) -> Tensor:
    """The first (≤ `count`,) photographs that a base model gets right, and of every kind takes for something else.

    Where fewer satisfy that, those follow that it gets right and takes for something else in most kinds.
    """
    right = base(images).argmax(1) == labels
    fooled = torch.stack([base(found).argmax(1) != labels for found in kinds.values()]).sum(0)
    order = torch.argsort(-torch.where(right, fooled, -1), stable=True)
    return order[:count][right[order[:count]]]
