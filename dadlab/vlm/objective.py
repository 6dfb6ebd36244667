"""The second paper's objective: the plain sum of a run's losses (Li et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dadlab.vlm.losses import (
    caption_loss,
    cls_loss,
    contrast_loss,
    cosine_logits,
    log_mse_loss,
    mse_loss,
    proximity_loss,
)
from dadlab.vlm.run import AlignRun


@dataclass(frozen=True)
class Batch:
    """What the objective sees: labels (B,), T (B, D), captions (B, D) if L_cap reads them, label texts (C, D)."""

    labels: Tensor
    teacher: Tensor
    captions: Tensor
    text: Tensor


def objective(run: AlignRun, student: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The plain sum of the run's terms, and the fraction of the batch at which I(x) is 0, both scalars.

    The fraction is given even where no term of the run filters by I(x).

    Args:
        run: its losses, filter and τ.
        student: S (B, D).
        batch: what the terms compare S with.
    """
    keep = run.keeps(cosine_logits(batch.teacher, batch.text.detach(), tau=run.tau), batch.labels)
    chosen = keep if run.keep_contrast else torch.ones_like(keep)
    terms: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: cls_loss(student, batch.text, batch.labels, tau=run.tau),
        "mse": lambda: mse_loss(student, batch.teacher),
        "log_mse": lambda: log_mse_loss(student, batch.teacher),
        "cst": lambda: contrast_loss(student[chosen], batch.teacher[chosen], tau=run.tau),
        "cst_single": lambda: contrast_loss(student[chosen], batch.teacher[chosen], tau=run.tau, bidirectional=False),
        "vlprox": lambda: proximity_loss(student, batch.teacher, batch.text, keep, tau=run.tau, k=run.k),
        "cap": lambda: caption_loss(student, batch.captions, batch.labels),
    }
    return torch.stack([terms[name]() for name in run.terms]).sum(), (~keep).float().mean()
