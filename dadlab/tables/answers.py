"""Answers: logits of a student or of the teacher on a test split, kept beside the runs.

Correctness alone (`dadlab.results`) does not say how sure a model was, nor what it took an image for.

python -m dadlab.tables.answers --profile imagenet --shared '{"data": "imagenet:/data/imagenet"}' --splits val v2 a

asks the teacher, for tables that only read; splits that it was asked about are not asked again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dadlab.ahead import local_device
from dadlab.data import class_names, has_corruptions, held_out, home_split, identity, images_of
from dadlab.dataset import Dataset
from dadlab.disk.check import check
from dadlab.disk.imagenet import corruption
from dadlab.evaluate import CORRUPTIONS, SEVERITIES, answers, correct, wrong_share
from dadlab.files import kept_array, kept_arrays
from dadlab.fingerprints import content_of, fingerprint
from dadlab.materials import teacher_of
from dadlab.profile import Profile, make_profile
from dadlab.results import drawn_errors, published_splits
from dadlab.run import Run
from dadlab.train import train


def student_logits(run: Run, runs_dir: Path, split: str) -> np.ndarray:
    """Logits (N, C) float32 of a run's student on a split; the run is trained if need be."""
    images = images_of(run.profile.data, split)
    kept = run.folder(runs_dir) / "logits" / (f"{split}-{images}.npy" if images else f"{split}.npy")
    return kept_array(kept, lambda: _logits(train(run, runs_dir), held_out(run.profile, split)))


def teacher_logits(profile: Profile, runs_dir: Path, split: str) -> np.ndarray:
    """Logits (N, C) float32 of the profile's teacher on a split."""
    dataset, kept = held_out(profile, split), _teacher_path(profile, runs_dir, split)
    return kept_array(kept, lambda: _logits(teacher_of(profile, dataset.classes), dataset))


def teacher_answered(profile: Profile, runs_dir: Path, split: str) -> bool:
    """Whether the teacher's logits on a split are there, so that reading them loads no teacher."""
    return _teacher_path(profile, runs_dir, split).is_file()


def corruptions_answered(profile: Profile, runs_dir: Path) -> bool:
    """Whether the teacher was asked about all of ImageNet-C, where the data have it; drawn corruptions cost little."""
    asked = (_correct_path(profile, runs_dir, split) for split in published_splits())
    return not has_corruptions(profile.data) or all(path.is_file() for path in asked)


def teacher_correct(profile: Profile, runs_dir: Path, split: str) -> np.ndarray:
    """Whether the profile's teacher is right on each sample of a split: (N,) bool."""
    dataset = held_out(profile, split)
    said = answers(torch.from_numpy(teacher_logits(profile, runs_dir, split)), dataset.among)
    return (said == dataset.labels).numpy()


def teacher_corrupted(profile: Profile, runs_dir: Path) -> dict[str, np.ndarray]:
    """The teacher's errors under each corruption, as `dadlab.results.measure_corrupted` has a run's."""
    if has_corruptions(profile.data):
        return {
            kind: wrong_share([_right(profile, runs_dir, corruption(kind, level)) for level in SEVERITIES])
            for kind in CORRUPTIONS
        }
    path = _teacher_path(profile, runs_dir, home_split(profile.data)).with_name("corrupted.npz")
    classes = class_names(profile.data, home_split(profile.data))
    return kept_arrays(path, lambda: drawn_errors(teacher_of(profile, classes), profile, runs_dir))


def _right(profile: Profile, runs_dir: Path, split: str) -> np.ndarray:
    """As `teacher_correct`, without the logits: those of ImageNet-C would be 15 GB."""
    dataset, kept = held_out(profile, split), _correct_path(profile, runs_dir, split)
    return kept_array(kept, lambda: correct(teacher_of(profile, dataset.classes), dataset).numpy())


def _teacher_path(profile: Profile, runs_dir: Path, split: str) -> Path:
    classes = class_names(profile.data, split)
    key = fingerprint(identity(profile.data, split), profile.image_size, content_of(profile.teacher), list(classes))
    return Path(runs_dir) / "teachers" / key / f"{split}.npy"


def _correct_path(profile: Profile, runs_dir: Path, split: str) -> Path:
    return _teacher_path(profile, runs_dir, split).with_suffix(".correct.npy")


@torch.inference_mode()
def _logits(model: nn.Module, dataset: Dataset) -> np.ndarray:
    model = model.to(local_device())
    parts = [
        model(dataset.images(rows).to(local_device()).contiguous(memory_format=torch.channels_last)).float().cpu()
        for rows in torch.arange(len(dataset)).split(256)
    ]
    return torch.cat(parts).numpy()


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask a profile's teacher, split by split."""
    parser = argparse.ArgumentParser("python -m dadlab.tables.answers", description="ask a profile's teacher")
    parser.add_argument("--profile", default="fashion", help="fashion or imagenet")
    parser.add_argument("--shared", default="{}", help="fields of the profile, as JSON")
    parser.add_argument("--splits", nargs="+", required=True, help="C is every image of ImageNet-C")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    given = parser.parse_args(arguments)
    try:
        profile = make_profile(given.profile, **json.loads(given.shared))
        splits = [split for split in given.splits if split != "C"]
        published = "C" in given.splits and has_corruptions(profile.data)
        check(profile.data, [*splits, *(published_splits() if published else [])])
        for split in splits:
            right = teacher_correct(profile, given.runs_dir, split)
            print(f"{split}: top-1 {100 * right.mean():.2f} % of {len(right):,}", flush=True)
        if "C" in given.splits:
            errors = teacher_corrupted(profile, given.runs_dir)
            print(f"C: error {100 * np.mean([wrong.mean() for wrong in errors.values()]):.2f} %", flush=True)
    except ValueError as error:
        print(f"dadlab.tables.answers: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
