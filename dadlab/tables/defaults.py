"""What a figure takes on each profile where its notebook leaves it open, and which of its runs are missing.

The embedded benchmark has a validation shift of its own and says what its teacher saw. ImageNet has no such shift, and
for CLIP stand the natural shifts, of which its training distribution mostly is in the paper's view (§4.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dadlab.methods import METHODS
from dadlab.profile import Profile, make_profile, nearest
from dadlab.recipes import recipe_of
from dadlab.run import Run


@dataclass(frozen=True)
class Defaults:
    """What stands for the paper's choices on a profile.

    Attributes:
        student: for the paper's ResNet50; it judges distances too.
        splits: test splits, the one in distribution first; of the embedded ones without `a`, whose photographs were
            chosen by the errors of a network such as the students.
        shown: the split whose accuracy is drawn against the distance of an augmentation.
        teacher_saw: styles that the teacher was trained on, the students' own first.
        batches: mini-batches that batch-normalization statistics are estimated over.
        others: title → fields of the profile with another teacher or discretizer.
    """

    student: str
    splits: tuple[str, ...]
    shown: str
    teacher_saw: tuple[str, ...]
    batches: int
    others: Mapping[str, Mapping[str, str]]


DEFAULTS = {
    "fashion": Defaults(
        student="resnet_s",
        splits=("studio", "v2", "context", "rendition", "sketch", "stylized"),
        shown="val_context",
        teacher_saw=("studio", "context", "rendition", "sketch"),
        batches=200,
        others={"ViT tower": {"teacher": "vit"}, "broad discretizer": {"discretizer": "broad"}},
    ),
    "imagenet": Defaults(
        student="resnet50",
        splits=("val", "v2", "rendition", "sketch", "a", "stylized"),
        shown="val",
        teacher_saw=("val", "rendition", "sketch", "a"),
        batches=1000,
        others={"ResNet101": {"teacher": "open_clip:RN101/openai"}},
    ),
}


def defaults_of(profile: str) -> Defaults:
    """What a profile's figures are drawn from.

    Raises:
        ValueError: unknown profile.
    """
    return nearest(profile, DEFAULTS, "profile")


def trains(profile: str, told: bool | None) -> bool:
    """Whether a notebook trains what is missing: as told, or else on all but `imagenet`, for batch jobs to train.

    >>> trains("fashion", None), trains("imagenet", None), trains("imagenet", True)
    (True, False, True)
    """
    return profile != "imagenet" if told is None else told


def profile_of(profile: str, student: str, shared: Mapping[str, Any], method: str = "dad") -> Profile:
    """The profile that the tables train a student with where no AugReg is asked for, so that figures share their runs.

    Args:
        profile: a preset's name.
        student: whose recipe counts.
        shared: fields of the profile.
        method: those without a teacher may see other views.
    """
    nearest(method, METHODS, "method")
    return make_profile(profile, **{**recipe_of(profile, student, method), "augreg": "none", **shared})


def missing_runs(runs: Iterable[Run], runs_dir: Path, *, train: bool, files: Iterable[Path] = ()) -> pd.DataFrame:
    """What is not there and may not be trained: a row a run, or a file of a teacher.

    Args:
        runs: all that are needed.
        runs_dir: where runs live.
        train: whether what is missing may be trained.
        files: teachers that are needed.
    """
    nothing = {"student": "", "epochs": "", "seed": ""}
    absent = [Path(file).name for file in files if not (train or Path(file).is_file())]
    lines: list[dict[str, Any]] = [{"method": "teacher", **nothing, "name": name} for name in absent]
    for run in () if train else runs:
        if not run.weights(runs_dir).is_file():
            told = {"method": run.method, "student": run.student, "epochs": run.profile.epochs, "seed": run.seed}
            lines.append({**told, "name": run.folder(runs_dir).name})
    columns = ["method", "student", "epochs", "seed", "name"]
    return pd.DataFrame(lines, columns=columns).drop_duplicates(ignore_index=True)
