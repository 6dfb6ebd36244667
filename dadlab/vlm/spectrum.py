"""How spread out text features are: eigenvalue spectra, effective rank, cosines, names that are easily confused.

From the analysis of *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV
2023, §5.2): Fig. 4 shows the ten largest values of a mean-centred SVD, Table 6 the mean pairwise cosine. The paper does
not say whether Fig. 4 shows σ or σ²; squaring what `singular_values` gives yields the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Pair(NamedTuple):
    """Two names and the cosine between their features."""

    first: str
    second: str
    cosine: float


def singular_values(features: Tensor) -> Tensor:
    """σ of the mean-centred features, largest first: (N, D) to (min(N, D),).

    >>> singular_values(torch.tensor([[3.0, 5.0], [-3.0, 5.0]]))  # along one axis; the mean does not count
    tensor([4.2426, 0.0000])
    """
    _check(features)
    return torch.linalg.svdvals(features - features.mean(0))


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of values scaled to sum to 1 (Roy & Vetterli, 2007): how many directions truly count.

    Args:
        values: σ or σ² (K,), not negative.

    Raises:
        ValueError: a negative value, or none above 0.

    >>> effective_rank(torch.tensor([2.0, 2.0, 2.0, 0.0])), effective_rank(torch.tensor([7.0, 0.0]))
    (3.0, 1.0)
    """
    if not len(values) or values.min() < 0 or values.sum() == 0:
        raise ValueError("values must not be negative, and one at least must be above 0")
    share = values.double() / values.double().sum()
    return round(float(torch.special.entr(share).sum().exp()), 12)


def rank_by_label(features: Tensor) -> Tensor:
    """Values (N,) of single labels whose mean is the effective rank by σ² of features (N, D): for its interval.

    θ + (N − 1)(mean of θ₋ − θ₋ᵢ), θ₋ᵢ the rank without label i: the jackknife's pseudo-values (Tukey, 1958) about θ
    itself, so that their mean's standard error is the jackknife's.

    Raises:
        ValueError: fewer than 3 labels, or labels of which all but one have the same feature.

    >>> rank_by_label(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).mean()
    tensor(2.)
    """
    _check(features, 3)
    every = torch.arange(len(features), device=features.device)
    without = torch.tensor([effective_rank(singular_values(features[every != k]).square()) for k in every.tolist()])
    whole = effective_rank(singular_values(features).square())
    return whole + (len(features) - 1) * (without.mean() - without)


def pairwise_cosines(features: Tensor) -> Tensor:
    """Cosines of all pairs of rows i < j: (N, D) to (N (N − 1) / 2,), in the order (0, 1), (0, 2), …

    Their mean is Table 6's separation; lower means further apart.
    """
    _check(features)
    first, second = torch.triu_indices(len(features), len(features), offset=1, device=features.device)
    unit = F.normalize(features, dim=1)
    return (unit @ unit.T)[first, second]


def spread(features: Tensor) -> dict[str, float]:
    """How spread out features (N, D) are: effective rank by σ and by σ², Σσ², mean pairwise cosine.

    >>> spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    {'effective rank, σ': 1.0, 'effective rank, σ²': 1.0, 'Σσ²': 2.0, 'mean cosine': -1.0}
    """
    sigma = singular_values(features)
    return {
        "effective rank, σ": round(effective_rank(sigma), 2),
        "effective rank, σ²": round(effective_rank(sigma.square()), 2),
        "Σσ²": round(float(sigma.square().sum()), 3),
        "mean cosine": round(float(pairwise_cosines(features).mean()), 4),
    }


def nearest_pairs(features: Tensor, names: Sequence[str], count: int = 10) -> list[Pair]:
    """The pairs of names that are confused most easily: highest cosine first, at most `count`.

    Raises:
        ValueError: not one name a row.
    """
    if len(names) != len(features):
        raise ValueError(f"{len(features)} rows of features need as many names, got {len(names)}")
    cosines = pairwise_cosines(features)
    first, second = torch.triu_indices(len(names), len(names), offset=1).tolist()
    best = cosines.sort(descending=True, stable=True).indices[:count].tolist()
    return [Pair(names[first[i]], names[second[i]], float(cosines[i])) for i in best]


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean feature of each class (C, D), as Fig. 4 takes captions.

    Args:
        features: (N, D).
        labels: (N,) int64 below C.
        classes: C.

    Raises:
        ValueError: a class without a sample; names it.

    >>> class_means(torch.tensor([[1.0], [3.0], [8.0]]), torch.tensor([1, 1, 0]), 2)
    tensor([[8.],
            [2.]])
    """
    counts = torch.bincount(labels, minlength=classes)
    if len(counts) > classes or not counts.all():
        empty = (counts[:classes] == 0).nonzero()[:, 0].tolist()
        raise ValueError(f"{classes} classes: without samples {empty}, largest label {len(counts) - 1}")
    sums = torch.zeros(classes, features.shape[1], dtype=features.dtype, device=features.device)
    return sums.index_add_(0, labels, features) / counts[:, None]


def _check(features: Tensor, least: int = 2) -> None:
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"features must be (N, D) of at least {least} rows, got {tuple(features.shape)}")
