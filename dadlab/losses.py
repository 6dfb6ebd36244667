"""Distillation losses: pure functions of logits, in log space.

Equation numbers are those of *Distilling Out-of-Distribution Robustness from Vision-Language Foundation Models*.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_divergence(student: Tensor, teacher: Tensor, *, temperature: float, reduction: str = "mean") -> Tensor:
    """Softened divergence of the student from the teacher.

    T² · KL(softmax(φ/T) ‖ softmax(θ/T)): the l₂ of Eqs. 6–9 with the T² factor of Hinton et al. (2015).

    Args:
        student: logits θ (B, C).
        teacher: logits φ (B, C).
        temperature: T > 0.
        reduction: `mean` for a scalar (0 for an empty batch), `none` for (B,).

    Raises:
        ValueError: shapes differ, T is not positive, or reduction is unknown.

    >>> import torch
    >>> float(kl_divergence(torch.zeros(1, 2), torch.zeros(1, 2), temperature=4.0))
    0.0
    """
    if student.shape != teacher.shape or student.ndim != 2:
        raise ValueError(
            f"logits must both be (B, C), got student {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction {reduction!r}: choose 'mean' or 'none'")
    log_q, log_p = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
    divergence = temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    return divergence if reduction == "none" else divergence.sum() / max(1, len(divergence))


def kd_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float = 4.0, alpha: float = 0.5
) -> Tensor:
    """Knowledge distillation on clean images.

    l₁(θ(x), y) + a · l₂(θ(x), φ(x)): Eq. 7 with the weight and temperature of appendix C.

    Args:
        student: logits θ(x) (B, C).
        teacher: logits φ(x) (B, C).
        labels: y (B,) int64, or each class's share (B, C).
        temperature: T.
        alpha: a.

    >>> import torch
    >>> x = torch.zeros(1, 2)
    >>> round(float(kd_loss(x, x, torch.tensor([0]))), 4)  # log 2: the teacher adds nothing
    0.6931
    """
    return F.cross_entropy(student, labels) + alpha * kl_divergence(student, teacher, temperature=temperature)


def dad_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    student_adversarial: Tensor,
    teacher_adversarial: Tensor,
    *,
    temperature: float = 4.0,
    alpha: float = 0.5,
) -> Tensor:
    """Discrete adversarial distillation.

    l₁(θ(x), y) + a · l₂(θ(x), φ(x)) + a · l₂(θ(Q(x')), φ(Q(x'))): Eq. 9. No label is used on Q(x'). The adversarial
    batch may have another length than the clean one; an empty one leaves `kd_loss`.

    Args:
        student: θ(x) (B, C).
        teacher: φ(x) (B, C).
        labels: y (B,) int64, or each class's share (B, C).
        student_adversarial: θ(Q(x')) (M, C).
        teacher_adversarial: φ(Q(x')) (M, C).
        temperature: T.
        alpha: a, on both divergences.

    >>> import torch
    >>> x, none = torch.zeros(1, 2), torch.zeros(0, 2)
    >>> round(float(dad_loss(x, x, torch.tensor([0]), none, none)), 4)
    0.6931
    """
    clean = kd_loss(student, teacher, labels, temperature=temperature, alpha=alpha)
    return clean + alpha * kl_divergence(student_adversarial, teacher_adversarial, temperature=temperature)


def ard_loss(
    student: Tensor,
    labels: Tensor,
    student_adversarial: Tensor,
    teacher_source: Tensor,
    *,
    temperature: float = 4.0,
    alpha: float = 0.5,
) -> Tensor:
    """Adversarially robust distillation (Goldblum et al., 2020) on discretized samples, as the paper words it (§4.2).

    l₁(θ(x), y) + a · l₂(θ(Q(x')), φ(x)): Eq. 7 with the student's answer to the augmented sample, the teacher's to the
    normal one. ARD itself weighs the terms 1 − α and α; weight and temperature here are those of Eq. 7.

    Args:
        student: θ(x) (B, C).
        labels: y (B,) int64, or each class's share (B, C).
        student_adversarial: θ(Q(x')) (M, C).
        teacher_source: φ (M, C) of the clean views that those samples were made from.
        temperature: T.
        alpha: a.

    >>> import torch
    >>> x = torch.zeros(1, 2)
    >>> round(float(ard_loss(x, torch.tensor([0]), x, x)), 4)
    0.6931
    """
    robust = kl_divergence(student_adversarial, teacher_source, temperature=temperature)
    return F.cross_entropy(student, labels) + alpha * robust


def rslad_loss(
    student: Tensor,
    teacher: Tensor,
    student_adversarial: Tensor,
    teacher_source: Tensor,
    *,
    temperature: float = 1.0,
    alpha: float = 5 / 6,
) -> Tensor:
    """Robust soft label adversarial distillation (Zi et al., 2021, Eq. 5) on discretized samples: no label at all.

    (1 − α) · l₂(θ(x), φ(x)) + α · l₂(θ(Q(x')), φ(x)) with RSLAD's own weight and temperature.

    Args:
        student: θ(x) (B, C).
        teacher: φ(x) (B, C).
        student_adversarial: θ(Q(x')) (M, C).
        teacher_source: φ (M, C) of the clean views that those samples were made from.
        temperature: T.
        alpha: α in [0, 1].

    >>> import torch
    >>> x = torch.zeros(1, 2)
    >>> float(rslad_loss(x, x, x, x))
    0.0
    """
    natural = kl_divergence(student, teacher, temperature=temperature)
    robust = kl_divergence(student_adversarial, teacher_source, temperature=temperature)
    return (1 - alpha) * natural + alpha * robust


def dist_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float = 1.0, alpha: float = 2.0
) -> Tensor:
    """Distillation of relations from a stronger teacher, DIST (Huang et al., 2022, Eqs. 7–10).

    l₁(θ(x), y) + β · T² · (1 − mean ρ of rows) + γ · T² · (1 − mean ρ of columns): Pearson's correlation ρ of the
    probabilities softmax(·/T), over classes for each sample (inter-class) and over samples for each class
    (intra-class); β = γ = 2 and T = 1 as published. A constant row or column has a ρ of 0.

    Args:
        student: logits θ(x) (B, C).
        teacher: logits φ(x) (B, C).
        labels: y (B,) int64, or each class's share (B, C).
        temperature: T.
        alpha: β and γ.

    >>> import torch
    >>> x = torch.eye(2)
    >>> round(float(dist_loss(x, x, torch.tensor([0, 1]))), 4)  # all relations kept: cross-entropy alone
    0.3133
    """
    p, q = ((logits / temperature).softmax(1) for logits in (student, teacher))
    inter, intra = (1 - _pearson(p, q, dim).mean() for dim in (1, 0))
    return F.cross_entropy(student, labels) + alpha * temperature**2 * (inter + intra)


def _pearson(first: Tensor, second: Tensor, dim: int) -> Tensor:
    first, second = first - first.mean(dim, keepdim=True), second - second.mean(dim, keepdim=True)
    return F.cosine_similarity(first, second, dim=dim)


def jensen_shannon(*logits: Tensor) -> Tensor:
    """Mean Jensen–Shannon divergence of several predictions (Hendrycks et al., 2020, Eq. 2).

    (1/K) Σₖ KL(pₖ ‖ M) with the mixture M = (1/K) Σₖ pₖ; between 0 and log K.

    Args:
        logits: K times (B, C).

    >>> import torch
    >>> x = torch.tensor([[0.0, 0.0]])
    >>> float(jensen_shannon(x, x, x))
    0.0
    """
    logs = torch.stack(logits).log_softmax(-1)  # (K, B, C)
    mixture = (logs.logsumexp(0) - math.log(len(logits))).expand_as(logs)
    return F.kl_div(mixture, logs, reduction="none", log_target=True).sum(-1).mean()
