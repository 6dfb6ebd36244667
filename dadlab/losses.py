"""Distillation losses: pure functions of logits, in log space.

Equation numbers are those of *Distilling Out-of-Distribution Robustness from Vision-Language Foundation Models*.
"""

from __future__ import annotations

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
