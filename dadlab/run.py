"""Runs: one training each, and the folder that keeps it.

A run's profile holds only what its method uses: a KD run is the same run whatever the attack, so experiments share
it. Its fingerprint names its folder; files that the profile names count by their content.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dadlab.attack import described
from dadlab.data import identity
from dadlab.fingerprints import content_of, fingerprint
from dadlab.methods import METHODS
from dadlab.profile import ATTACKS, Profile, check_types, make_profile, nearest, strict
from dadlab.students import WEIGHTS, check_student

# Fields younger than the first runs: at their default they do not count, so that older runs are found again.
_LATER = (
    "optimizer", "schedule", "accumulate", "ema", "augreg", "top_logits", "dropout", "drop_path", "start", "transfer",
    "augmix_severity",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A profile with a method, a student and a seed.

    Raises:
        ValueError: unknown method, with the nearest known one; wrong types; a seed out of range; a student that the
            method cannot train.
    """

    profile: Profile
    method: str
    student: str = "resnet_s"
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"run: seed must lie in [0, 2³²), got {self.seed}")
        object.__setattr__(self, "profile", _used_by(self.method, self.profile))
        if METHODS[self.method].needs_batch_norm:
            check_student(self.student, batch_norm=True)

    @property
    def fingerprint(self) -> str:
        whole, method = dataclasses.asdict(self), METHODS[self.method]
        whole["profile"] |= {"data": identity(self.profile.data, self.profile.train)}
        whole["profile"] |= {"attack": described(self.profile.attack)}
        for name in _LATER:
            if getattr(self.profile, name) == getattr(Profile, name):
                del whole["profile"][name]
        for name in {"teacher", "discretizer", "start", "transfer"} & whole["profile"].keys():
            whole["profile"][name] = content_of(whole["profile"][name])
        if method.attack:
            return fingerprint(whole, described(method.attack))
        searches = "discretizer" in method.online  # for codes: once in the precision of training
        return fingerprint(whole, *["auxiliary norm"] * method.auxiliary_norm, *["single precision"] * searches)

    def folder(self, runs_dir: Path) -> Path:
        return Path(runs_dir) / f"{self.method}-{self.student}-s{self.seed}-{self.fingerprint}"

    def weights(self, runs_dir: Path) -> Path:
        """The student's; there once it is trained."""
        return self.folder(runs_dir) / WEIGHTS


def read_run(path: Path) -> Run:
    """The run that a `run.json` describes.

    Raises:
        ValueError: missing or damaged file, unknown or wrongly typed entries.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a readable run description ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("profile"), dict):
        raise ValueError(f"{path}: not a run description: it must be an object with a profile")
    return strict(Run, {**content, "profile": make_profile(**content["profile"])})


def _used_by(method: str, profile: Profile) -> Profile:
    """The profile with everything the method never looks at set to a neutral value."""
    needs = nearest(method, METHODS, "method")
    if needs.second not in ("matched", "adversarial") and "attack" not in needs.online:
        profile = replace(profile, attack=ATTACKS["none"])
    if not needs.stored and "discretizer" not in needs.online:
        profile = replace(profile, discretizer="identity")
    if not needs.stored:
        profile = replace(profile, variants=1)
    if "transfer" not in needs.online:
        profile = replace(profile, transfer=Profile.transfer)
    if not needs.mixtures:
        profile = replace(profile, augmix_severity=Profile.augmix_severity)
    if not needs.uses_teacher:
        profile = replace(profile, temperature=1.0, alpha=0.0, top_logits=0)
        profile = profile if needs.stored else replace(profile, teacher="resnet")
    fixed: dict[str, Any] = {"temperature": needs.temperature, "alpha": needs.alpha}
    return replace(profile, **{name: value for name, value in fixed.items() if value is not None})
