"""Results: what runs measured, kept image by image.

A run keeps per-sample correctness, so any difference between methods is a paired one: the same test images, the same
seeds. What it answered to images of ImageNet or Hugging Face's that have changed since is not taken for today's.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from dadlab.ahead import local_device
from dadlab.data import has_corruptions, held_out, home_split, images_of
from dadlab.disk.check import check
from dadlab.disk.imagenet import corruption
from dadlab.evaluate import (
    C_PHOTOS,
    CORRUPTIONS,
    SEVERITIES,
    correct,
    corrupted_errors,
    wrong_share,
)
from dadlab.files import kept_arrays, write_array, write_json
from dadlab.profile import Profile
from dadlab.run import Run
from dadlab.train import train, warn_of_another_loss

Correct = dict[str, np.ndarray]
Errors = dict[str, np.ndarray]  # corruption → (N,) on which share of the severities an image is wrong


def measure(run: Run, runs_dir: Path, splits: Sequence[str]) -> Correct:
    """Train a run if need be and test it on each split: per-sample correctness (N,) bool, kept in the run's folder.

    Raises:
        ValueError: something is wrong with the splits' images; before any training, all at once.
    """
    folder, data, images = run.folder(runs_dir), run.profile.data, _images(run)
    warn_of_another_loss(run, folder)
    if missing := [split for split in splits if not _is_kept(folder, split, images)]:
        check(data, [run.profile.train, *missing])
        student = trained(run, runs_dir)  # before any answer is read: training drops those of other weights
        for split in dict.fromkeys(splits):  # each once, also where another process has not seen its file yet
            if not _is_kept(folder, split, images):
                found = correct(student, held_out(run.profile, split))
                _keep(folder, split, found.numpy(), images(split))
    return {split: np.load(_kept(folder, split)) for split in splits}


def check_splits(run: Run, runs_dir: Path, splits: Sequence[str]) -> None:
    """Raise a `ValueError` with all that is wrong with the images of splits on which a run is still to be tested."""
    folder, images = run.folder(runs_dir), _images(run)
    if missing := [split for split in splits if not _is_kept(folder, split, images)]:
        check(run.profile.data, [run.profile.train, *missing])


def answered(run: Run, runs_dir: Path, splits: Sequence[str], *, corruptions: bool = False) -> bool:
    """Whether all that `measure`, and with corruptions `measure_corrupted`, would say of a run is kept already."""
    folder, data, images = run.folder(runs_dir), run.profile.data, _images(run)
    drawn = corruptions and not has_corruptions(data)
    read = published_splits() if corruptions and not drawn else []
    kept = all(_is_kept(folder, split, images) for split in (*splits, *read))
    return kept and (not drawn or _kept_corrupted(folder, data).is_file())


def measure_seeds(
    profile: Profile,
    method: str,
    seeds: Sequence[int],
    splits: Sequence[str],
    runs_dir: Path,
    student: str = "resnet_s",
) -> dict[int, Correct]:
    """`measure` for every seed."""
    return {seed: measure(Run(profile, method, student, seed), runs_dir, splits) for seed in seeds}


def _images(run: Run) -> Callable[[str], str]:
    """`images_of` by split, each asked once: of ImageNet it looks at a thousand class folders."""
    return functools.cache(functools.partial(images_of, run.profile.data))


def _is_kept(folder: Path, split: str, images: Callable[[str], str]) -> bool:
    """Whether a run's answers to a split are kept, and were given to the images there now; if none are, they stay."""
    path = _kept(folder, split)
    if not path.is_file():
        return False
    now, told = images(split), path.with_suffix(".json")
    return not now or (told.is_file() and json.loads(told.read_text())["images"] == now)


def _keep(folder: Path, split: str, right: np.ndarray, images: str) -> None:
    path = _kept(folder, split)
    path.with_suffix(".json").unlink(missing_ok=True)  # until the answers are today's
    write_array(path, right)
    if images:
        write_json(path.with_suffix(".json"), {"images": images})


def _kept(folder: Path, split: str) -> Path:
    return folder / "correct" / f"{split}.npy"


def _kept_corrupted(folder: Path, data: str) -> Path:
    images = images_of(data, home_split(data))
    return folder / (f"corrupted-{images}.npz" if images else "corrupted.npz")


def trained(run: Run, runs_dir: Path) -> torch.nn.Module:
    """A run's student in eval mode, trained if need be, where this process computes; the last one is kept."""
    weights = run.weights(runs_dir)
    if not weights.is_file():
        _trained.cache_clear()  # deleted, perhaps, to be trained anew
    return _trained(run, Path(runs_dir), run.fingerprint, weights.stat().st_mtime_ns if weights.is_file() else 0)


@functools.lru_cache(maxsize=1)
def _trained(run: Run, runs_dir: Path, fingerprint: str, written: int) -> torch.nn.Module:
    """The fingerprint changes with the content of files and folders, whose names alone the run has."""
    return train(run, runs_dir).to(local_device())


def measure_corruptions(run: Run, runs_dir: Path) -> dict[str, float]:
    """Error rate of a run under each corruption, kept in the run's folder.

    ImageNet-C's images where the data are ImageNet; else about `C_PHOTOS` in-distribution test images, corrupted here.
    """
    path = run.folder(runs_dir) / "corruptions.json"
    if run.profile.is_folder or not path.is_file():
        measure_corrupted(run, runs_dir)
    return json.loads(path.read_text())


def measure_corrupted(run: Run, runs_dir: Path) -> dict[str, np.ndarray]:
    """Corruption → on which share of the severities a run is wrong, image by image (N,), of the same images.

    Kept in the run's folder, where ImageNet-C's splits are kept one by one, and with it the means.
    """
    folder = run.folder(runs_dir)
    if has_corruptions(run.profile.data):
        right = measure(run, runs_dir, published_splits())
        found = {kind: wrong_share([right[corruption(kind, level)] for level in SEVERITIES]) for kind in CORRUPTIONS}
    else:
        path = _kept_corrupted(folder, run.profile.data)
        found = kept_arrays(path, lambda: drawn_errors(trained(run, runs_dir), run.profile, runs_dir))
    if run.profile.is_folder or not (folder / "corruptions.json").is_file():
        write_json(folder / "corruptions.json", {kind: float(wrong.mean()) for kind, wrong in found.items()})
    return found


def published_splits() -> list[str]:
    """ImageNet-C's 75."""
    return [corruption(kind, severity) for kind in CORRUPTIONS for severity in SEVERITIES]


def drawn_errors(model: torch.nn.Module, profile: Profile, runs_dir: Path) -> dict[str, np.ndarray]:
    """`dadlab.evaluate.corrupted_errors` of a model on about `C_PHOTOS` of a profile's in-distribution test images."""
    clean = held_out(profile, home_split(profile.data), limit=C_PHOTOS)
    return corrupted_errors(model, clean, Path(runs_dir) / "corrupted")


def combined(measured: Correct, split: str) -> np.ndarray:
    """Correctness on a split, or averaged photograph by photograph over several joined by `+`."""
    return np.mean([measured[name].astype(float) for name in split.split("+")], axis=0)


def stack(measured: dict[int, Correct], split: str) -> np.ndarray:
    """(S, N) over seeds in order."""
    return np.stack([combined(measured[seed], split) for seed in sorted(measured)])
