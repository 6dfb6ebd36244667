"""Distances between image distributions by a trained network's batch normalization (Zhou et al., 2023, appendix D).

Running means and variances of every batch-normalization layer are estimated anew over mini-batches of a distribution,
and two distributions are as far apart as the Gaussians that these describe, a layer and a channel. The paper leaves
open how layers are put together; here it is their mean. `sliced` is a check without Gaussians or layers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import ot
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dadlab.ahead import local_device
from dadlab.dataset import Dataset
from dadlab.distance import pooled_features
from dadlab.progress import track
from dadlab.students import Student


class Norms(NamedTuple):
    """What one layer saw: running means and variances of its channels, each (C,)."""

    mean: Tensor
    variance: Tensor


@torch.inference_mode()
def norm_statistics(network: nn.Module, dataset: Dataset, *, batches: int = 1000, batch: int = 32) -> list[Norms]:
    """Every batch-normalization layer's statistics over mini-batches of a distribution, each of equal weight.

    Args:
        network: a trained classifier of images in [0, 1]; it is left as it is.
        dataset: the distribution.
        batches: how many mini-batches; 1,000 in the paper.
        batch: images in each, drawn without repetition as long as there are enough.

    Raises:
        ValueError: the network has no batch normalization.
    """
    learner = copy.deepcopy(network).to(local_device()).train()
    layers = [layer for layer in learner.modules() if isinstance(layer, _BatchNorm)]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no batch normalization: choose a ResNet")
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's cumulative average
    generator = torch.Generator().manual_seed(0)
    needed = batches * batch
    drawn = [torch.randperm(len(dataset), generator=generator) for _ in range(-(-needed // len(dataset)))]
    for rows in torch.cat(drawn)[:needed].split(batch):
        learner(dataset.images(rows).to(local_device()))
    found = [(layer.running_mean, layer.running_var) for layer in layers]
    return [Norms(m.double().cpu(), v.double().cpu()) for m, v in found if m is not None and v is not None]


def norm_w2(first: list[Norms], second: list[Norms]) -> float:
    """Wasserstein-2 distance between Gaussians with these moments, a channel, averaged over layers.

    W² = Σ_c (μ₁ − μ₂)² + (σ₁ − σ₂)², of one layer.

    Raises:
        ValueError: not of the same network.

    >>> one = Norms(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 4.0]))
    >>> norm_w2([one], [Norms(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 36.0]))])
    5.0
    """
    if [len(a.mean) for a in first] != [len(b.mean) for b in second]:
        raise ValueError("statistics of different networks cannot be compared")
    squares = [
        ((a.mean - b.mean) ** 2 + (a.variance.sqrt() - b.variance.sqrt()) ** 2).sum()
        for a, b in zip(first, second, strict=True)
    ]
    return float(torch.stack(squares).sqrt().mean())


def sliced(first: np.ndarray, second: np.ndarray) -> float:
    """Sliced Wasserstein-2 distance between two samples of features (N, D) and (M, D), by POT.

    >>> x = np.random.default_rng(0).normal(size=(50, 1))
    >>> round(sliced(x, x + 3.0), 6)
    3.0
    """
    return float(ot.sliced_wasserstein_distance(first, second, n_projections=200, seed=0))


def slopes(distances: Sequence[float], gains: Sequence[np.ndarray]) -> np.ndarray:
    """How much a gain grows a unit of distance, by least squares over shifts: (S, 1), a value a seed.

    Args:
        distances: of the shifts.
        gains: of each shift, (S,) over seeds.

    Raises:
        ValueError: fewer than two different distances.

    >>> slopes([1.0, 3.0], [np.array([0.0, 5.0]), np.array([4.0, 6.0])]).round(6).tolist()
    [[2.0], [0.5]]
    """
    if len(set(distances)) < 2:
        raise ValueError("a slope over shifts needs two of different distance")
    return np.polyfit(distances, np.stack(gains), 1)[0][:, None]


def distances(
    network: Student, here: Dataset, others: Mapping[str, Dataset], *, batches: int
) -> dict[str, dict[str, float]]:
    """How far distributions lie from `here` in a network's eyes: name → `batch norm W2` and `sliced W2 of features`."""
    statistics, features = norm_statistics(network, here, batches=batches), pooled_features(network, here)
    return {
        name: {
            "batch norm W2": norm_w2(statistics, norm_statistics(network, other, batches=batches)),
            "sliced W2 of features": sliced(features, pooled_features(network, other)),
        }
        for name, other in track(others.items(), "distances", len(others))
    }
