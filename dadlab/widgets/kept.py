"""Runs that lie below a folder: which there are, what their files say, and the images they were trained on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dadlab.data import load_split
from dadlab.dataset import Dataset
from dadlab.students import WEIGHTS
from dadlab.style import title_of


@dataclass(frozen=True)
class Kept:
    """A run that lies in a folder, as its `run.json` tells it.

    Attributes:
        folder: where it lies.
        method, student, seed: what was trained.
        profile: the settings, by name.
    """

    folder: Path
    method: str
    student: str
    seed: int
    profile: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{title_of(self.method)}, {self.student}, seed {self.seed}, {self.folder.name[-6:]}"

    @property
    def trained(self) -> bool:
        """Whether its weights are there."""
        return (self.folder / WEIGHTS).is_file()

    def splits(self) -> list[str]:
        """Splits whose per-sample correctness is kept."""
        return sorted(path.stem for path in (self.folder / "correct").glob("*.npy"))

    def sees_what(self, other: Kept) -> bool:
        """Whether another run was tested on the same images, split by split."""
        return all(self.profile.get(name) == other.profile.get(name) for name in ("data", "image_size"))

    def correct(self, split: str) -> np.ndarray:
        """Whether it was right on each sample of a split: (N,) bool."""
        return np.load(self.folder / "correct" / f"{split}.npy")


def find_runs(runs_dir: Path) -> list[Kept]:
    """Runs anywhere below `runs_dir` whose file can be read, by folder name."""
    found = []
    for path in sorted(Path(runs_dir).rglob("run.json")):
        try:
            read = json.loads(path.read_text())
            found.append(Kept(path.parent, read["method"], read["student"], read["seed"], read["profile"]))
        except (OSError, ValueError, KeyError):
            continue  # being written, or not a run's
    return found


def training_data(runs: Sequence[Kept]) -> list[Dataset]:
    """What runs were trained on, each once; what is no longer there is left out."""
    names = ("data", "train", "limit", "image_size")
    wanted = dict.fromkeys(tuple(run.profile[name] for name in names) for run in runs if set(names) <= set(run.profile))
    found = []
    for data, split, limit, size in wanted:
        with contextlib.suppress(ValueError, OSError):
            found.append(load_split(data, split, limit=limit, image_size=size))
    return found
