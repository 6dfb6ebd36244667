"""Materials: everything a training needs, made once and shared by all runs of a profile.

Training data, teacher logits of its views, discretized samples and their teacher logits. Each is found by
fingerprint under `runs_dir`, made if missing, and guarded by a lock against a second process that wants the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from dadlab.cache import TeacherCache, cache_teacher
from dadlab.data import Dataset, load_split
from dadlab.discretizer import load_discretizer
from dadlab.files import content_of, fingerprint, module_fingerprint
from dadlab.generate import generate
from dadlab.methods import Method
from dadlab.profile import Profile
from dadlab.samples import open_samples
from dadlab.store import open_dataset, tally
from dadlab.teacher import load_teacher


@dataclass(frozen=True)
class Stream:
    """Samples with the teacher's logits for every view, or with none for a method without teacher."""

    dataset: Dataset
    teacher: TeacherCache | None

    def logits(self, index: Tensor, view: int) -> Tensor:
        return torch.zeros(0) if self.teacher is None else self.teacher(index, view)


@dataclass(frozen=True)
class Materials:
    """The clean stream, and the second stream of methods that have one (the clean one again for a second view)."""

    clean: Stream
    second: Stream | None


def prepare(profile: Profile, method: Method, runs_dir: Path) -> Materials:
    """Make or find what a method needs.

    Raises:
        ValueError: anything the profile names cannot be had, before work starts.
    """
    clean = load_split(profile.data, profile.train, image_size=profile.image_size, limit=profile.limit)
    if not method.uses_teacher:
        return Materials(Stream(clean, None), None)
    if method.second == "view" and profile.views < 2:
        raise ValueError("a second clean view needs views of at least 2")
    if method.second in ("none", "view"):
        stream = _with_teacher(clean, profile, runs_dir)
        return Materials(stream, stream if method.second == "view" else None)
    samples = discretized(clean, profile, runs_dir)
    return Materials(_with_teacher(clean, profile, runs_dir), _with_teacher(samples, profile, runs_dir))


def discretized(clean: Dataset, profile: Profile, runs_dir: Path) -> Dataset:
    """The accepted samples of the profile's store, made or finished first if need be."""
    discretizer = load_discretizer(profile.discretizer)
    folder = store_folder(clean, profile, runs_dir)
    with _lock(folder):
        found = len(list(folder.glob("shard-*")))
        generate(
            clean,
            load_teacher(profile.teacher, clean.classes),
            discretizer,
            profile.attack,
            folder,
            variants=profile.variants,
        )
    rows = open_dataset(folder, ["reason"])
    if len(list(folder.glob("shard-*"))) > found:
        counts = tally(rows)
        why = ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if reason != "kept" and count)
        print(f"kept {counts['kept']:,} of {len(rows):,} samples ({why or 'none rejected'})", flush=True)
        print("other accepted samples stand in for rejected ones, where the paper drops them", flush=True)
    return open_samples(folder, discretizer, clean)


def store_folder(clean: Dataset, profile: Profile, runs_dir: Path) -> Path:
    models = content_of(profile.teacher), content_of(profile.discretizer)
    key = fingerprint(clean.fingerprint, *models, profile.attack, profile.variants)
    return Path(runs_dir) / "stores" / key


def _with_teacher(dataset: Dataset, profile: Profile, runs_dir: Path) -> Stream:
    teacher, folder = load_teacher(profile.teacher, dataset.classes), Path(runs_dir) / "cache"
    with _lock(folder / module_fingerprint(teacher)):
        return Stream(dataset, cache_teacher(dataset, teacher, folder, views=profile.views))


def _lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_suffix(".lock"))
