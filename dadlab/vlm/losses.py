"""Alignment losses of the second paper: a student's image features against a CLIP teacher's image and text features.

Equation numbers are those of *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et
al., ICCV 2023). S and T are the student's and the teacher's features of the same B images, t the teacher's features of
C label texts. Features may have any length: they are normalised here. The paper prints no temperature; its released
code uses `TAU` throughout, with captions at 1. Its objective is the plain sum of the terms in use.

Which samples take part is the caller's choice: `keep_*` make the masks I(x), `proximity_loss` takes one, and the
paper's ablation of filtering L_im-cst (Table 9) is `contrast_loss(student[keep], teacher[keep], ...)`. Every loss of an
empty batch is 0 with a gradient path.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dadlab.losses import kl_divergence

TAU = 0.07


def cosine_logits(features: Tensor, text: Tensor, *, tau: float) -> Tensor:
    """cos(features, text) / τ: (B, D) and (C, D) to (B, C).

    Raises:
        ValueError: shapes do not fit, or τ is not positive.

    >>> cosine_logits(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0]]), tau=0.5)
    tensor([[2., 0.]])
    """
    if features.ndim != 2 or text.ndim != 2 or features.shape[1] != text.shape[1]:
        raise ValueError(f"features must be (B, D) and (C, D), got {tuple(features.shape)} and {tuple(text.shape)}")
    if tau <= 0:
        raise ValueError(f"tau must be positive, got {tau}")
    return F.normalize(features, dim=1) @ F.normalize(text, dim=1).T / tau


def cls_loss(student: Tensor, text: Tensor, labels: Tensor, *, tau: float) -> Tensor:
    """L_cls: cross-entropy of softmax over labels of cos(S, t) / τ (Eq. 1).

    Args:
        student: S (B, D).
        text: t (C, D), of all training classes.
        labels: y (B,) int64.
        tau: τ.

    >>> s, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    >>> round(float(cls_loss(s, t, torch.tensor([0]), tau=TAU)), 4)  # log 2: as far from either
    0.6931
    """
    return _cross_entropy(cosine_logits(student, text, tau=tau), labels)


def mse_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_mse: ‖S − T‖² of unit-length features, summed over dimensions, averaged over the batch (Eq. 2).

    Args:
        student: S (B, D).
        teacher: T (B, D).

    >>> mse_loss(torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor(2.)
    """
    _check_pairs(student, teacher)
    return _mean((F.normalize(student, dim=1) - F.normalize(teacher, dim=1)).square().sum(1))


def log_mse_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The alternative L_mse, which also matches lengths: log(1 + ‖S − T‖² / 10), features as they are.

    Only the released code has it, with this 10. The logarithm is taken after averaging over the batch.

    Args:
        student: S (B, D).
        teacher: T (B, D).

    >>> round(float(log_mse_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]]))), 4)  # log 2
    0.6931
    """
    _check_pairs(student, teacher)
    return (_mean((student - teacher).square().sum(1)) / 10).log1p()


def contrast_loss(student: Tensor, teacher: Tensor, *, tau: float, bidirectional: bool = True) -> Tensor:
    """L_im-cst: each student feature finds its own teacher feature among the batch's (Eq. 3).

    −log softmax over j of cos(S_i, T_j) / τ at j = i, averaged over i; in-batch negatives, those of the same class
    included. On unit vectors Eq. 3's exp(−‖S − T‖² / τ) is this at half its τ; Eq. 3 omits the −log.

    Args:
        student: S (B, D).
        teacher: T (B, D).
        tau: τ of the cosine, as in the released code.
        bidirectional: average with the same from teacher to student, the released code's choice for its results;
            otherwise Eq. 3's single direction.

    >>> round(float(contrast_loss(torch.eye(2), torch.ones(2, 2), tau=TAU)), 4)  # log 2: the teacher tells nothing
    0.6931
    """
    _check_pairs(student, teacher)
    logits = cosine_logits(student, teacher, tau=tau)
    own = torch.arange(len(logits), device=logits.device)
    forward = _cross_entropy(logits, own)
    return (forward + _cross_entropy(logits.T, own)) / 2 if bidirectional else forward


def proximity_loss(student: Tensor, teacher: Tensor, text: Tensor, keep: Tensor, *, tau: float, k: int = 256) -> Tensor:
    """L_vlprox: KL(P_T ‖ P_S) over the k labels nearest the teacher's feature, where I(x) holds (Eq. 6).

    Both distributions are softmax of cos / τ renormalised over these k labels. The mean is over the samples kept, as
    in the released code; without any the loss is 0. No τ² factor. P_T is a target: texts that are learnt get no
    gradient from it.

    Args:
        student: S (B, D).
        teacher: T (B, D).
        text: t (C, D).
        keep: I(x) (B,) bool; all true for no filter.
        tau: τ of both distributions.
        k: labels, at most C of them.

    Raises:
        ValueError: shapes do not fit, or k is below 1.

    >>> proximity_loss(torch.eye(2), torch.eye(2).flip(0), torch.eye(2), torch.tensor([False, False]), tau=TAU)
    tensor(0.)
    """
    _check_pairs(student, teacher)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if keep.shape != student.shape[:1] or keep.dtype != torch.bool:
        raise ValueError(f"keep must be ({len(student)},) bool, got {tuple(keep.shape)} {keep.dtype}")
    teacher_top, nearest = cosine_logits(teacher, text.detach(), tau=tau).topk(min(k, len(text)), dim=1)
    student_top = cosine_logits(student, text, tau=tau).gather(1, nearest)
    each = kl_divergence(student_top, teacher_top, temperature=1.0, reduction="none")
    return (each * keep).sum() / keep.sum().clamp(min=1)


def caption_loss(student: Tensor, captions: Tensor, labels: Tensor) -> Tensor:
    """L_cap: each image finds its own caption among captions of other classes (Eq. 8), images to captions only.

    −log softmax over j of cos(S_i, caption_j) at j = i, averaged over i. As in the released code there is no
    temperature, and the own caption is in the denominator too.

    Args:
        student: S (B, D).
        captions: the teacher's text features of each image's caption (B, D).
        labels: y (B,): captions of the image's own class are no negatives.

    >>> caption_loss(torch.eye(2), torch.eye(2), torch.tensor([3, 3]))  # no caption of another class
    tensor(0.)
    """
    _check_pairs(student, captions)
    same_class = labels[:, None] == labels
    own = torch.arange(len(labels), device=labels.device)
    same_class[own, own] = False
    logits = cosine_logits(student, captions, tau=1.0).masked_fill(same_class, -torch.inf)
    return _cross_entropy(logits, own)


def keep_correct(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """I(x) = 1 where the teacher's nearest label is right: (B, C) and (B,) to (B,) bool. The paper's choice (Eq. 6)."""
    return teacher_logits.argmax(1) == labels


def keep_above(teacher_logits: Tensor, labels: Tensor, *, threshold: float) -> Tensor:
    """I(x) = 1 where the teacher gives the label at least this probability: (B, C) and (B,) to (B,) bool.

    Raises:
        ValueError: the threshold is outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {threshold}")
    return _label_probability(teacher_logits, labels) >= threshold


def keep_percentile(teacher_logits: Tensor, labels: Tensor, *, percentile: float) -> Tensor:
    """I(x) = 1 from this percentile of the label's probability upwards: (B, C) and (B,) to (B,) bool.

    25 leaves out about the quarter that the teacher finds least likely: of the batch, or of the whole training set
    where its logits are given.

    Raises:
        ValueError: the percentile is outside [0, 100].
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must be in [0, 100], got {percentile}")
    found = _label_probability(teacher_logits, labels)
    return found >= found.quantile(percentile / 100, interpolation="nearest") if len(found) else found.bool()


def _label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, labels[:, None])[:, 0]


def _check_pairs(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape or student.ndim != 2:
        raise ValueError(f"features must both be (B, D), got {tuple(student.shape)} and {tuple(teacher.shape)}")


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return _mean(F.cross_entropy(logits, labels, reduction="none")) if len(logits) else logits.sum()


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(1, len(values))
