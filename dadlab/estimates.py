"""Estimates: a mean with its interval, and paired differences.

Values come as (seeds, images), and both are a sample of what could have been: other seeds would have trained other
students, other photographs would have been tested. The interval is that of a two-way random-effects model (what a
study of several readers of the same cases uses): variance components by analysis of variance, Student's t with
Satterthwaite's degrees of freedom. Resampling seeds and images instead (percentile bootstrap) gives intervals that are
too narrow with a handful of seeds: five values drawn with replacement vary by a factor 4/5 too little, and their
tails are a normal's, not t's. `benchmarks/interval_coverage.py` measures how often either covers the truth.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import t as student_t


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, 95 % unless told, in percentage points unless told."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def difference(first: np.ndarray, second: np.ndarray, *, level: float = 0.95, scale: float = 100.0) -> Estimate:
    """Paired difference of top-1, first minus second, in points.

    Args:
        first, second: correctness (S, N) of S seeds on the same N images; or any other value an image.
        level: of the interval.
        scale: what a single image's value is multiplied by.

    Raises:
        ValueError: shapes differ.

    >>> str(difference(np.ones((5, 100)), np.zeros((5, 100))))
    '+100.0 [+100.0, +100.0]'
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"correctness must both be (seeds, images), got {first.shape} and {second.shape}")
    return _estimate(scale * (first.astype(float) - second.astype(float)), level)


def accuracy(found: np.ndarray, *, level: float = 0.95, scale: float = 100.0) -> Estimate:
    """Top-1 in percent over seeds and images, from correctness (S, N) or (N,); or the mean of any other value.

    The interval knows nothing of the bounds at 0 and 100 %. With a single seed it is that of images alone.
    """
    return _estimate(scale * np.atleast_2d(found).astype(float), level)


@dataclass(frozen=True)
class Components:
    """Variance components of values (seeds, images): σ² of seeds, of images, and of what is left."""

    seeds: float
    images: float
    rest: float

    def spread(self, seeds: int, images: int) -> tuple[float, float]:
        """Standard error of the mean of so many seeds and images, and its degrees of freedom (Satterthwaite, 1946)."""
        of_seeds, of_images = images * self.seeds + self.rest, seeds * self.images + self.rest  # mean squares
        total = of_seeds + of_images - self.rest
        doubt = sum(square**2 / (n - 1) for square, n in ((of_seeds, seeds), (of_images, images)) if n > 1)
        return math.sqrt(total / (seeds * images)), total**2 / doubt if doubt else math.inf


def components(values: np.ndarray) -> Components:
    """Variance components of values (S, N) by analysis of variance; none below 0, and those of a single row are 0."""
    seeds, images = values.shape
    by_seed, by_image = values.mean(1), values.mean(0)
    if seeds < 2 or images < 2:
        return Components(_variance(by_seed), _variance(by_image), 0.0)
    left = values - by_seed[:, None] - by_image + values.mean()
    rest = float((left**2).sum() / ((seeds - 1) * (images - 1)))
    return Components(max(0.0, _variance(by_seed) - rest / images), max(0.0, _variance(by_image) - rest / seeds), rest)


def rounded(estimate: Estimate) -> dict[str, float]:
    """Mean, low and high with two decimals, for a result file."""
    return {name: round(value, 2) for name, value in asdict(estimate).items()}


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _estimate(values: np.ndarray, level: float) -> Estimate:
    error, freedom = components(values).spread(*values.shape)
    mean, reach = float(values.mean()), error * float(student_t.ppf((1 + level) / 2, freedom))
    return Estimate(mean, mean - reach, mean + reach)
