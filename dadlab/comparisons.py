"""What the first paper compares DAD with: other augmentations, and other distillations; and DAD with one of them.

Weights and temperatures that a method's own paper sets are said in the registry (`dadlab.methods`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab.auxiliary import routed
from dadlab.batch import Batch, Tools
from dadlab.losses import ard_loss, dad_loss, dist_loss, jensen_shannon, kd_loss, rslad_loss

JENSEN_SHANNON = 12.0  # AugMix's λ
SHAPE_SHARE = 0.8  # debiased training's γ
STYLE_STRENGTH = 0.5  # and how far AdaIN moves an image to another's style


def dad_augmentation(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """DAD samples as augmentation alone (Table 6): cross-entropy on clean and on discretized images.

    l₁(θ(x), y) + l₁(θ(Q(x')), y): Eq. 5, the samples being the teacher's; all divergences are gone. The paper gives no
    weights; as in Eq. 5 they are 1.
    """
    clean, adversarial = batch.both(student)
    return F.cross_entropy(clean, batch.labels) + F.cross_entropy(adversarial, batch.second_labels)


def dist(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """DIST (Huang et al., 2022): `dist_loss` on clean images.

    The intra-class relation is taken over the part of a batch that a pass sees, as its code does.
    """
    return dist_loss(student(batch.images).float(), batch.teacher, batch.labels, **tools.weights)


def ard(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """ARD (Goldblum et al., 2020) on DAD samples: `ard_loss`."""
    clean, adversarial = batch.both(student)
    return ard_loss(clean, batch.labels, adversarial, batch.second_teacher, **tools.weights)


def rslad(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """RSLAD (Zi et al., 2021) on DAD samples: `rslad_loss`."""
    clean, adversarial = batch.both(student)
    return rslad_loss(clean, batch.teacher, adversarial, batch.second_teacher, **tools.weights)


def augmix(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """AugMix (Hendrycks et al., 2020, Eqs. 1 and 2): cross-entropy on the clean view, and agreement with two mixtures.

    l₁(θ(x), y) + λ · JS(θ(x), θ(x₁), θ(x₂)), λ = 12 as published.
    """
    clean, first, second = student(torch.cat([batch.images, batch.mixtures])).float().chunk(3)
    return F.cross_entropy(clean, batch.labels) + JENSEN_SHANNON * jensen_shannon(clean, first, second)


def kd_augmix(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """KD + AugMix, in neither paper: Eq. 7 and AugMix's agreement, each as published; the control of `dad_augmix`."""
    clean, first, second = student(torch.cat([batch.images, batch.mixtures])).float().chunk(3)
    distilled = kd_loss(clean, batch.teacher, batch.labels, **tools.weights)
    return distilled + JENSEN_SHANNON * jensen_shannon(clean, first, second)


def dad_augmix(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """DAD + AugMix, in neither paper: Eq. 9 and AugMix's agreement, λ · JS(θ(x), θ(x₁), θ(x₂)), each as published."""
    logits = student(torch.cat([batch.images, batch.mixtures, batch.second_images])).float()
    shown, adversarial = logits.split([3 * len(batch.images), len(batch.second_images)])
    clean, first, second = shown.chunk(3)
    distilled = dad_loss(clean, batch.teacher, batch.labels, adversarial, batch.second_teacher, **tools.weights)
    return distilled + JENSEN_SHANNON * jensen_shannon(clean, first, second)


def debiased(student: nn.Module, batch: Batch, tools: Tools) -> Tensor:
    """Shape–texture debiased training (Li et al., 2021, Eq. 1).

    l₁(θ(x), y) + l₁(θ(x̃), γ · y + (1 − γ) · y'): x̃ has the shape of x and the texture of another image of the batch,
    whose label is y'; γ = 0.8 and AdaIN at half strength, as published. Where the student has batch norms x̃ passes an
    auxiliary set of them, as AdvProp's examples do (its published commands all ask for it). Some of those commands also
    make x̃ at a smaller size; here it has the size of x.
    """
    assert tools.transfer is not None
    with torch.no_grad():
        conflicting = tools.transfer(batch.images, batch.second_images, STYLE_STRENGTH).to(batch.images.dtype)
    with routed(tools.network, len(batch.images)):
        clean, mixed = student(torch.cat([batch.images, conflicting])).float().chunk(2)
    shape, texture = (_shares(labels, clean.shape[1]) for labels in (batch.labels, batch.second_labels))
    return F.cross_entropy(clean, batch.labels) + F.cross_entropy(mixed, texture.lerp(shape, SHAPE_SHARE))


def _shares(labels: Tensor, classes: int) -> Tensor:
    """Each class's share (B, C) of labels (B,), or of labels that are shares already."""
    return labels if labels.ndim == 2 else F.one_hot(labels, classes).float()
