"""Results: what a run measured, and how sure one can be of a difference.

A run keeps per-sample correctness, so any difference between methods is a paired one: the same test images, the same
seeds. Intervals resample seeds and images together (a two-way bootstrap), since both vary.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dadlab.data import load_split
from dadlab.evaluate import correct
from dadlab.files import atomic_path
from dadlab.profile import Run
from dadlab.train import train

Correct = dict[str, np.ndarray]


def measure(run: Run, runs_dir: Path, splits: Sequence[str]) -> Correct:
    """Train a run if need be and test it on each split: per-sample correctness (N,) bool, kept in the run's folder."""
    return {split: _measure_split(run, Path(runs_dir), split) for split in splits}


def _measure_split(run: Run, runs_dir: Path, split: str) -> np.ndarray:
    path = run.folder(runs_dir) / "correct" / f"{split}.npy"
    if not path.is_file():
        student = _student(run, runs_dir)
        found = correct(student, load_split(run.profile.data, split, image_size=run.profile.image_size))
        with atomic_path(path) as temporary, temporary.open("wb") as out:
            np.save(out, found.numpy())
    return np.load(path)


@functools.lru_cache(maxsize=1)
def _student(run: Run, runs_dir: Path) -> torch.nn.Module:
    return train(run, runs_dir)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, in percentage points."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def difference(first: np.ndarray, second: np.ndarray, *, draws: int = 4000, seed: int = 0) -> Estimate:
    """Paired difference of top-1, first minus second, in points.

    Args:
        first, second: correctness (S, N) of S seeds on the same N images.
        draws: bootstrap resamples of seeds and images together.
        seed: of the bootstrap.

    Raises:
        ValueError: shapes differ.

    >>> str(difference(np.ones((5, 100)), np.zeros((5, 100))))
    '+100.0 [+100.0, +100.0]'
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"correctness must both be (seeds, images), got {first.shape} and {second.shape}")
    return _bootstrap(100 * (first.astype(float) - second.astype(float)), draws, seed)


def accuracy(found: np.ndarray, *, draws: int = 4000, seed: int = 0) -> Estimate:
    """Top-1 in percent over seeds and images, from correctness (S, N)."""
    return _bootstrap(100 * np.atleast_2d(found).astype(float), draws, seed)


def _bootstrap(values: np.ndarray, draws: int, seed: int) -> Estimate:
    rng = np.random.default_rng(seed)
    seeds, images = values.shape
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds  # (draws, S)
    by_image = rng.multinomial(images, np.full(images, 1 / images), draws) / images  # (draws, N)
    means = ((by_seed @ values) * by_image).sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(values.mean()), float(low), float(high))


def machine() -> str:
    """What the numbers were measured on, in words that fit a table's footnote."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{card}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}"


def rows(measured: dict[str, dict[int, Correct]], profile: Any) -> list[dict[str, Any]]:
    """One JSON-ready row a (method, split): mean, interval, every seed's value, n, configuration."""
    table = []
    for method, by_seed in measured.items():
        for split in next(iter(by_seed.values())):
            found = np.stack([by_seed[seed][split] for seed in sorted(by_seed)])
            each = {str(seed): round(100 * float(by_seed[seed][split].mean()), 2) for seed in sorted(by_seed)}
            estimate = {key: round(value, 2) for key, value in asdict(accuracy(found)).items()}
            table.append({"method": method, "split": split, "n": found.shape[1], "top1": estimate, "seeds": each})
    return [{**row, "profile": asdict(profile)} for row in table]
