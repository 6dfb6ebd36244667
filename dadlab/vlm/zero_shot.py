"""Scores of an open-vocabulary classifier: among the labels of a split only, mean over classes, with few shots kept.

As in *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV 2023): ID
images are scored among the ID labels, OOD images among the OOD labels; so pass the text features of the split's own
labels. `retrieval_scores` is the 5-shot classifier of its Table 10.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dadlab.dataset import Dataset
from dadlab.progress import track

ALPHA, BETA, VIEWS = 1.0, 5.5, 10
Encoder = Callable[[Tensor], Tensor]


@torch.inference_mode()
def image_features(encode: Encoder, dataset: Dataset, *, view: int = -1, batch: int = 256) -> Tensor:
    """Unit-length features (N, D) of a dataset's images, clean or in one replayable view.

    Args:
        encode: images (B, 3, H, W) in [0, 1] to features (B, D), such as `ClipTeacher.features`.
        dataset: N images.
        view: as in `Dataset.images`.
        batch: images a forward pass.
    """
    parts = torch.arange(len(dataset)).split(batch)
    found = [encode(dataset.images(rows, view)) for rows in track(parts, f"features of {dataset.name}")]
    return F.normalize(torch.cat(found), dim=1)


def memory_features(encode: Encoder, shots: Dataset) -> Tensor:
    """F: unit-length features (M, D) of M few-shot images, each the mean direction of `VIEWS` replayable views."""
    return F.normalize(torch.stack([image_features(encode, shots, view=v) for v in range(VIEWS)]).mean(0), dim=1)


def retrieval_scores(
    features: Tensor, text: Tensor, memory: Tensor, labels: Tensor, *, alpha: float = ALPHA, beta: float = BETA
) -> Tensor:
    """cos(S, t_y) + α Σ_m exp(−β (1 − S·F_m)) over the shots m of label y: scores (B, C).

    Args:
        features: S (B, D).
        text: t (C, D).
        memory: F (M, D), from `memory_features`.
        labels: of the shots (M,) int64 below C.
        alpha, beta: α and β as published.

    Raises:
        ValueError: shapes do not fit.

    >>> s = torch.tensor([[1.0, 0.0]])
    >>> retrieval_scores(s, torch.tensor([[0.0, 1.0], [0.0, -1.0]]), s, torch.tensor([1]))
    tensor([[0., 1.]])
    """
    if memory.shape != (len(labels), features.shape[1]) or text.shape[1:] != features.shape[1:]:
        found = ", ".join(str(tuple(part.shape)) for part in (features, text, memory, labels))
        raise ValueError(f"features, text, memory and labels must be (B, D), (C, D), (M, D) and (M,), got {found}")
    features, text, memory = (F.normalize(part, dim=1) for part in (features, text, memory))
    near = (beta * (features @ memory.T - 1)).exp()  # (B, M)
    return features @ text.T + alpha * near @ F.one_hot(labels, len(text)).to(near)


def correct_by_scores(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the highest score is the label's: (B, C) and (B,) to (B,) bool."""
    return scores.argmax(1) == labels


def class_balanced(correct: Tensor, labels: Tensor) -> Tensor:
    """Weigh correctness, so that its plain mean is the mean over classes that occur: × N / (classes × images of one).

    Args:
        correct: (N,) bool.
        labels: (N,) int64.

    Returns:
        (N,) float32; the same as went in where all classes have equally many images.

    Raises:
        ValueError: no samples, or not one label a sample.

    >>> class_balanced(torch.tensor([True, True, True, False]), torch.tensor([0, 0, 0, 7])).mean()
    tensor(0.5000)
    """
    if correct.shape != labels.shape or not len(labels):
        raise ValueError(f"correctness and labels must both be (N,), N > 0, got {correct.shape} and {labels.shape}")
    _, position, count = labels.unique(return_inverse=True, return_counts=True)
    return correct.float() * (len(labels) / (len(count) * count.double()))[position].float()
