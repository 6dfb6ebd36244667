"""How far a test shift lies from the training distribution.

Wasserstein-2 distance between Gaussians fitted to the features of a network that has seen no shift, such as the frozen
plain ResNet of `dadlab.making.baseline`: a small stand-in for the batch-norm statistics of the paper's appendix D.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import linalg

from dadlab.dataset import Dataset
from dadlab.students import Student


def gaussian_w2(first: np.ndarray, second: np.ndarray) -> float:
    """Wasserstein-2 distance between Gaussians fitted to two samples (Dowson & Landau, 1982).

    W² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)

    Args:
        first: (N, D).
        second: (M, D).

    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> round(gaussian_w2(x, x + [3.0, 0.0, 4.0]), 6)
    5.0
    """
    shift = first.mean(0) - second.mean(0)
    a, b = (np.atleast_2d(np.cov(sample, rowvar=False)) for sample in (first, second))
    cross = linalg.sqrtm(a @ b).real
    return float(np.sqrt(max(0.0, shift @ shift + np.trace(a + b - 2 * cross))))


@torch.inference_mode()
def pooled_features(student: Student, dataset: Dataset, limit: int = 2000) -> np.ndarray:
    """Penultimate features (N, D) of a `Student` on the first `limit` samples."""
    rows = torch.arange(min(limit, len(dataset)))
    return np.concatenate([features_of(student, dataset.images(part)) for part in rows.split(256)])


@torch.inference_mode()
def features_of(student: Student, images: torch.Tensor) -> np.ndarray:
    """Penultimate features (N, D) of a `Student` on images (N, 3, H, W)."""
    return student.net.forward_features(student.preprocess(images)).mean((2, 3)).double().numpy()
