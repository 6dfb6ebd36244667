"""Estimates: a mean with its interval, and paired differences.

Intervals resample seeds and images together (a two-way bootstrap), since both vary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

BOOTSTRAP_BLOCK = 4000  # resamples held at a time


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, 95 % unless told, in percentage points unless told."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    draws: int = 4000,
    seed: int = 0,
    level: float = 0.95,
    scale: float = 100.0,
) -> Estimate:
    """Paired difference of top-1, first minus second, in points.

    Args:
        first, second: correctness (S, N) of S seeds on the same N images; or any other value an image.
        draws: bootstrap resamples of seeds and images together.
        seed: of the bootstrap.
        level: of the interval.
        scale: what a single image's value is multiplied by.

    Raises:
        ValueError: shapes differ.

    >>> str(difference(np.ones((5, 100)), np.zeros((5, 100))))
    '+100.0 [+100.0, +100.0]'
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"correctness must both be (seeds, images), got {first.shape} and {second.shape}")
    return _bootstrap(scale * (first.astype(float) - second.astype(float)), draws, seed, level)


def accuracy(found: np.ndarray, *, draws: int = 4000, seed: int = 0, scale: float = 100.0) -> Estimate:
    """Top-1 in percent over seeds and images, from correctness (S, N); or the mean of any other value."""
    return _bootstrap(scale * np.atleast_2d(found).astype(float), draws, seed)


def _bootstrap(values: np.ndarray, draws: int, seed: int, level: float = 0.95) -> Estimate:
    rng = np.random.default_rng(seed)
    seeds, images = values.shape
    # Images with one pattern over seeds are drawn together, patterns in order of appearance: a sign changes no draw.
    _, first, counts = np.unique(values, axis=1, return_index=True, return_counts=True)
    order = np.argsort(first)
    kinds, counts = values[:, first[order]], counts[order]
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds  # (draws, S)
    means = []
    for part in np.array_split(by_seed, -(-draws // BOOTSTRAP_BLOCK)):
        by_kind = rng.multinomial(images, counts / images, len(part)) / images  # (part, kinds)
        means.append(((part @ kinds) * by_kind).sum(1))
    low, high = np.quantile(np.concatenate(means), ((1 - level) / 2, (1 + level) / 2))
    return Estimate(float(values.mean()), float(low), float(high))


def rounded(estimate: Estimate) -> dict[str, float]:
    """Mean, low and high with two decimals, for a result file."""
    return {name: round(value, 2) for name, value in asdict(estimate).items()}
