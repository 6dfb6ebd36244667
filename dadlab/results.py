"""Results: what a run measured, and how sure one can be of a difference.

A run keeps per-sample correctness, so any difference between methods is a paired one: the same test images, the same
seeds. Intervals resample seeds and images together (a two-way bootstrap), since both vary.
"""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dadlab.ahead import local_device
from dadlab.data import load_split
from dadlab.evaluate import C_PHOTOS, correct, corruption_errors, mce
from dadlab.files import atomic_path, write_json
from dadlab.profile import Profile
from dadlab.run import Run
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
    return train(run, runs_dir).to(local_device())


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


def measure_corruptions(run: Run, runs_dir: Path) -> dict[str, float]:
    """Error rate of a run under each corruption, kept in the run's folder."""
    path = run.folder(runs_dir) / "corruptions.json"
    if not path.is_file():
        clean = load_split(run.profile.data, "studio", limit=C_PHOTOS)
        write_json(path, corruption_errors(_student(run, Path(runs_dir)), clean, Path(runs_dir) / "corrupted"))
    return json.loads(path.read_text())


def combined(measured: Correct, split: str) -> np.ndarray:
    """Correctness on a split, or averaged photograph by photograph over several joined by `+`."""
    return np.mean([measured[name].astype(float) for name in split.split("+")], axis=0)


def stack(measured: dict[int, Correct], split: str) -> np.ndarray:
    """(S, N) over seeds in order."""
    return np.stack([combined(measured[seed], split) for seed in sorted(measured)])


def compare(
    profile: Profile,
    methods: Sequence[str],
    seeds: Sequence[int],
    splits: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    runs_dir: Path,
    *,
    student: str = "resnet_s",
    corruptions: bool = False,
) -> dict[str, Any]:
    """Run a grid of methods and seeds and tabulate it.

    Args:
        profile: what all runs share.
        methods, seeds: the grid; runs that exist are loaded.
        splits: what to test on; `a+b` averages two splits photograph by photograph.
        pairs: (first, second) methods whose paired difference is wanted.
        runs_dir: where runs live.
        student: student name.
        corruptions: also measure mCE.

    Returns:
        JSON-ready: `rows` (method, split, top-1 with interval, every seed's value, n), `differences` (first, second,
        split, mean, low, high), `mce` (method: every seed's value), profile and machine.
    """
    plain_splits = sorted({name for split in splits for name in split.split("+")})
    measured: dict[str, dict[int, Correct]] = {method: {} for method in methods}
    mces: dict[str, dict[str, float]] = {method: {} for method in methods}
    for seed in seeds:
        for method in methods:
            run = Run(profile, method, student, seed)
            measured[method][seed] = measure(run, runs_dir, plain_splits)
            if corruptions:
                mces[method][str(seed)] = round(mce(measure_corruptions(run, runs_dir)), 2)
    return {
        "profile": asdict(profile),
        "student": student,
        "seeds": list(seeds),
        "machine": machine(),
        "rows": [_row(method, split, stack(measured[method], split), seeds) for method in methods for split in splits],
        "differences": [
            {"first": a, "second": b, "split": s, **_rounded(difference(stack(measured[a], s), stack(measured[b], s)))}
            for a, b in pairs
            for s in splits
        ],
        "mce": mces if corruptions else {},
    }


def _row(method: str, split: str, found: np.ndarray, seeds: Sequence[int]) -> dict[str, Any]:
    each = {str(seed): round(100 * float(values.mean()), 2) for seed, values in zip(sorted(seeds), found, strict=True)}
    return {"method": method, "split": split, "n": found.shape[1], "top1": _rounded(accuracy(found)), "seeds": each}


def _rounded(estimate: Estimate) -> dict[str, float]:
    return {name: round(value, 2) for name, value in asdict(estimate).items()}
