"""Materials: everything a training needs, made once and shared by all runs of a profile.

Training data, teacher logits of its views, discretized samples and their teacher logits. Each is found by
fingerprint under `runs_dir` and made if missing. Processes that want the same cache share the work; of those that
want the same store, the first makes it and the others wait. A published teacher is loaded only where something is
missing: what was once found of it is kept beside the caches.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dadlab.ahead import local_device
from dadlab.attack import described
from dadlab.augreg import AugRegViews, augreg_views
from dadlab.cache import TeacherCache, cache_teacher, check_top, open_cache, teacher_fingerprint
from dadlab.claims import held
from dadlab.data import training_split
from dadlab.dataset import Dataset
from dadlab.diffusion_name import check_online
from dadlab.discretizer import Discretizer, load_discretizer
from dadlab.files import write_json
from dadlab.fingerprints import content_of, fingerprint, module_fingerprint, sha256
from dadlab.generate import SHARD, generate, manifest_of
from dadlab.methods import Method
from dadlab.profile import ATTACKS, Profile
from dadlab.progress import say
from dadlab.samples import open_samples, open_sources
from dadlab.store import accepted, open_dataset, open_store, tally
from dadlab.teacher import load_teacher
from dadlab.wrappers import Frozen


@dataclass(frozen=True)
class Stream:
    """Samples with the teacher's logits for every view (for stored ones perhaps those of the clean view they were made
    from), or with none for a method without teacher."""

    dataset: Dataset | AugRegViews
    teacher: TeacherCache | None

    def logits(self, index: Tensor, view: int) -> Tensor:
        return torch.zeros(0) if self.teacher is None else self.teacher(index, view)

    def targets(self, index: Tensor, view: int) -> Tensor:
        """Labels (B,) int64, or each class's share (B, C) where samples are mixed."""
        if isinstance(self.dataset, AugRegViews):
            return self.dataset.targets(index, view)
        return self.dataset.labels[index]


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
    clean = training_split(profile)
    check_top(profile.top_logits, len(clean.classes))
    if profile.data.startswith("hf-stream:"):
        say("hf-stream: training jumps about, and reads a row group for every image; hf: reads the image alone")
    if method.second == "view" and profile.views < 2:
        raise ValueError("a second clean view needs views of at least 2")
    if "discretizer" in method.online:
        check_online(profile.discretizer)
    second = _samples(clean, profile, method, runs_dir) if method.stored else None
    views = augreg_views(clean, profile.augreg)
    stream = Stream(views, _cached(views, profile, runs_dir) if method.uses_teacher else None)
    return Materials(stream, stream if method.second == "view" else second)


def _samples(clean: Dataset, profile: Profile, method: Method, runs_dir: Path) -> Stream:
    """The stored samples that a method asks for, with the logits that it asks for."""
    made = discretized(clean, profile, runs_dir, matched=method.second == "matched")
    samples = augreg_views(made, profile.augreg)
    if not method.uses_teacher:
        return Stream(samples, None)
    if not method.source_teacher:
        return Stream(samples, _cached(samples, profile, runs_dir))
    sources = open_sources(store_folder(clean, profile, runs_dir), clean)
    return Stream(samples, _cached(augreg_views(sources, profile.augreg), profile, runs_dir))


def discretized(clean: Dataset, profile: Profile, runs_dir: Path, *, matched: bool = False) -> Dataset:
    """The accepted samples of the profile's store, made or finished first if need be.

    With `matched`, Q of the same views without attack, of exactly the samples that the teacher keeps either way.

    Raises:
        ValueError: there are none.
    """
    discretizer = load_discretizer(profile.discretizer, clean.classes).to(local_device())
    folder = _stored(clean, profile, discretizer, runs_dir)
    if not matched:
        return open_samples(folder, discretizer, clean)
    control = _stored(clean, replace(profile, attack=ATTACKS["none"]), discretizer, runs_dir)
    attacked, unattacked = accepted(folder), accepted(control)
    both = torch.from_numpy(np.flatnonzero(attacked[unattacked]))
    if not len(both):
        raise ValueError("the teacher kept no sample both with the attack and without: lower epsilon")
    return open_samples(control, discretizer, clean).take(both)


def _stored(clean: Dataset, profile: Profile, discretizer: Discretizer, runs_dir: Path) -> Path:
    """The folder of the profile's store, made or finished first if need be."""
    folder, total = store_folder(clean, profile, runs_dir), len(clean) * profile.variants
    whole = len(list(folder.glob("shard-*"))) * SHARD >= total
    if whole and (known := known_teacher(profile, clean.classes, runs_dir)):
        made = manifest_of(clean, known["weights"], discretizer, profile.attack, profile.variants)
        open_store(folder, -(-total // SHARD), made)
        return folder
    teacher = _noted(profile, clean.classes, runs_dir)
    # Not while models are loaded, nor of a whole store: many processes one by one would outlast NCCL's patience.
    with contextlib.nullcontext() if whole else held(folder.with_suffix(".lock")):
        found = len(list(folder.glob("shard-*")))
        if found * SHARD < total and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            print("one process makes all samples, the others wait: notebooks/generate.ipynb uses every GPU", flush=True)
        generate(clean, teacher, discretizer, profile.attack, folder, variants=profile.variants)
    if len(list(folder.glob("shard-*"))) > found:
        rows = open_dataset(folder, ["reason"])
        counts = tally(rows)
        why = ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if reason != "kept" and count)
        print(f"kept {counts['kept']:,} of {len(rows):,} samples ({why or 'none rejected'})", flush=True)
        print("other accepted samples stand in for rejected ones, where the paper drops them", flush=True)
    return folder


def kept_share(clean: Dataset, profile: Profile, runs_dir: Path) -> float:
    """Share of a finished store's samples that the filter kept, in [0, 1]."""
    return float(accepted(store_folder(clean, profile, runs_dir)).mean())


def store_folder(clean: Dataset, profile: Profile, runs_dir: Path) -> Path:
    models = content_of(profile.teacher), content_of(profile.discretizer)
    key = fingerprint(clean.fingerprint, *models, described(profile.attack), profile.variants)
    return Path(runs_dir) / "stores" / key


def _cached(dataset: Dataset | AugRegViews, profile: Profile, runs_dir: Path) -> TeacherCache:
    folder = Path(runs_dir) / "cache"
    how: dict[str, Any] = {"views": profile.views, "top": profile.top_logits, "temperature": profile.temperature}
    if known := known_teacher(profile, dataset.classes, runs_dir):
        cache = open_cache(dataset, known["answers"], folder, **how)
        if not cache.missing():
            return cache
    return cache_teacher(dataset, _noted(profile, dataset.classes, runs_dir), folder, **how)


def teacher_of(profile: Profile, classes: tuple[str, ...]) -> Frozen:
    """The profile's teacher where this process computes; the last one is kept, since a large CLIP's head takes minutes.

    Raises:
        ValueError: as `load_teacher`.
    """
    return _load_once(profile.teacher, content_of(profile.teacher), classes)


def known_teacher(profile: Profile, classes: tuple[str, ...], runs_dir: Path) -> dict[str, str]:
    """Fingerprints of a published teacher's `weights` and `answers`, once it was loaded; else empty.

    The package's own are loaded in a moment, and looked at every time.
    """
    if ":" not in profile.teacher:
        return {}
    path = _note(profile, classes, runs_dir)
    return json.loads(path.read_text()) if path.is_file() else {}


def _noted(profile: Profile, classes: tuple[str, ...], runs_dir: Path) -> Frozen:
    """The profile's teacher, whose fingerprints are kept for those who need no more of it."""
    teacher = teacher_of(profile, classes)
    if ":" in profile.teacher:
        told = {"weights": module_fingerprint(teacher), "answers": teacher_fingerprint(teacher)}
        write_json(_note(profile, classes, runs_dir), told)
    return teacher


def _note(profile: Profile, classes: tuple[str, ...], runs_dir: Path) -> Path:
    """Named by all that the fingerprints follow from: files, classes, and the code that builds and prints a teacher."""
    code = [sha256(Path(__file__).with_name(f"{name}.py")) for name in ("teacher", "pretrained", "wrappers")]
    libraries = [importlib.metadata.version(name) for name in ("open_clip_torch", "timm", "torch")]
    key = fingerprint(profile.teacher, content_of(profile.teacher), list(classes), code, libraries)
    return Path(runs_dir) / "cache" / f"teacher-{key}.json"


@functools.lru_cache(maxsize=1)
def _load_once(name: str, content: str, classes: tuple[str, ...]) -> Frozen:
    return load_teacher(name, classes).to(local_device())
