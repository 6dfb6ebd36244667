"""Three kinds of adversarial example of the same photographs, for the eye (Zhou et al., 2023, Figure 3).

DAD's come from the teacher and are discretized, DAT's from a student and are discretized, and pixel-space ones are
the student's without a discretizer. Examples are chosen by a rule, not by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab.discretizer import Discretizer, Identity
from dadlab.examples import discretize_adversarially, sample_generators
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
def fooled(base: nn.Module, images: Tensor, labels: Tensor, kinds: Mapping[str, Tensor]) -> Tensor:
    """In how many kinds a base model takes each photograph (B,) for something else; −1 of those it does not know."""
    times = torch.stack([base(found).argmax(1) != labels for found in kinds.values()]).sum(0)
    return torch.where(base(images).argmax(1) == labels, times, -1)


def chosen(times: Tensor, count: int) -> Tensor:
    """The first (≤ `count`,) photographs of those that a base model knows, the most often fooled ones first."""
    order = torch.argsort(-times, stable=True)[:count]
    return order[times[order] >= 0]


def likeness(changes: Tensor) -> np.ndarray:
    """Mean cosine between the changes (B, 3, H, W) of two photographs, as values (B,) of single ones for an interval.

    It has no scale: changes as long as one likes are alike (1) if they are the same of every photograph, and diverse
    (0) if they have nothing in common. A photograph's value is 2 · its own mean cosine to the others − the mean of all:
    the jackknife's pseudo-value of a mean over pairs, so that the values vary as much as that mean does.

    Raises:
        ValueError: fewer than two photographs.
    """
    if len(changes) < 2:
        raise ValueError(f"likeness is of pairs of changes, got {len(changes)}")
    one_long = F.normalize(changes.flatten(1).double(), dim=1)
    cosines = one_long @ one_long.T
    own = (cosines.sum(1) - cosines.diagonal()) / (len(cosines) - 1)
    return (2 * own - own.mean()).cpu().numpy()


def strength(changes: Tensor) -> np.ndarray:
    """Root mean square change a pixel value of each photograph (B,), in 1/255."""
    return 255 * changes.flatten(1).double().square().mean(1).sqrt().cpu().numpy()
