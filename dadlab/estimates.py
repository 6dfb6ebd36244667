"""Estimates: a mean with its interval, and paired differences.

Values come as (seeds, images), and both are a sample of what could have been: other seeds would have trained other
students, other photographs would have been tested. The interval is that of a two-way random-effects model (what a
study of several readers of the same cases uses): variance components by analysis of variance, Student's t with
Satterthwaite's degrees of freedom. Resampling seeds and images instead (percentile bootstrap) gives intervals that are
too narrow with a handful of seeds: five values drawn with replacement vary by a factor 4/5 too little, and their
tails are a normal's, not t's. `benchmarks/interval_coverage.py` measures how often either covers the truth.

Values that are all alike show no variance, but that is not certainty: the interval then says how much could have gone
unseen on so many images (`unseen`). Where nothing can be said, as of a single number, there is none.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import t as student_t


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, 95 % unless told, in percentage points unless told; NaN where nothing tells it."""

    mean: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        return self.text(1)

    def text(self, digits: int) -> str:
        """With its sign, and with its interval if there is one.

        >>> Estimate(1.25, 0.5, 2.0).text(2), Estimate(1.25).text(2)
        ('+1.25 [+0.50, +2.00]', '+1.25')
        """
        interval = f" [{self.low:+.{digits}f}, {self.high:+.{digits}f}]" if math.isfinite(self.low) else ""
        return f"{self.mean:+.{digits}f}{interval}"


def difference(first: np.ndarray, second: np.ndarray, *, level: float = 0.95, scale: float = 100.0) -> Estimate:
    """Paired difference of top-1, first minus second, in points.

    Args:
        first, second: correctness (S, N) of S seeds on the same N images; or any other value an image.
        level: of the interval.
        scale: what a single image's value is multiplied by.

    Raises:
        ValueError: shapes differ.

    >>> str(difference(np.ones((5, 100)), np.zeros((5, 100))))
    '+100.0 [+92.8, +100.0]'
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"correctness must both be (seeds, images), got {first.shape} and {second.shape}")
    (least, most), (lowest, highest) = _ends(first), _ends(second)
    return _estimate(first.astype(float) - second.astype(float), level, scale, (least - highest, most - lowest))


def accuracy(found: np.ndarray, *, level: float = 0.95, scale: float = 100.0) -> Estimate:
    """Top-1 in percent over seeds and images, from correctness (S, N) or (N,); or the mean of any other value.

    The interval knows nothing of the bounds at 0 and 100 %. With a single seed it is that of images alone.
    """
    return _estimate(np.atleast_2d(found).astype(float), level, scale, _ends(found))


def unseen(images: int, level: float) -> float:
    """Largest share of all images that so many drawn at random may have missed: the exact bound, about 3.7 / N at 95 %.

    Seeds do not count: they see the same images.
    """
    return 1 - ((1 - level) / 2) ** (1 / images)


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


def rounded(estimate: Estimate, digits: int = 2) -> dict[str, float]:
    """Mean, low and high for a result file; without low and high where there is no interval."""
    return {name: round(value, digits) for name, value in asdict(estimate).items() if math.isfinite(value)}


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The least and the largest that such a value can be: 0 and 1 of correctness, −1 and 1 of a gain in it."""
    if np.abs(values).max() > 1:
        return -math.inf, math.inf
    return (-1.0 if values.min() < 0 else 0.0), 1.0


def _estimate(values: np.ndarray, level: float, scale: float, ends: tuple[float, float]) -> Estimate:
    """Of values (S, N) between two ends."""
    mean, images = float(values.mean()), values.shape[1]
    if np.ptp(values) > 0:
        error, freedom = components(scale * values).spread(*values.shape)
        reach = error * float(student_t.ppf((1 + level) / 2, freedom))
        return Estimate(scale * mean, scale * mean - reach, scale * mean + reach)
    if images == 1 or not math.isfinite(ends[0]):
        return Estimate(scale * mean)
    low, high = (scale * (mean + unseen(images, level) * (end - mean)) for end in ends)
    return Estimate(scale * mean, low, high)
