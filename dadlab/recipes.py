"""Recipes: what a student of a profile is trained with where that is not the profile's own."""

from __future__ import annotations

from typing import Any

from dadlab.methods import METHODS
from dadlab.profile import PROFILES, nearest

_Fields = dict[str, Any]  # of `dadlab.profile.Profile`

# As in the paper, ViTs compose on AugReg and ResNets do not; it trains ResNets for 100 epochs. These compute a batch at
# once: batch norm would see each part alone. The embedded ViTs' own were chosen on validation data (papers/LOG.md).
_VIT: _Fields = {"augreg": "light1", "lr": 1e-3}
_LARGE_VIT: _Fields = {"augreg": "strong2", "accumulate": 4}
_RESNET: _Fields = {"augreg": "none", "epochs": 100, "batch": 1024, "dropout": 0.0, "drop_path": 0.0}
RECIPES: dict[str, dict[str, _Fields]] = {
    "fashion": {"vit_s": _VIT, "vit_m": _VIT},
    "imagenet": {
        "vit_base_patch16_224": _LARGE_VIT,
        "vit_small_patch16_224": _LARGE_VIT,
        "resnet50": _RESNET,
        "resnet34": _RESNET,
    },
}

# From published weights. The paper gives no settings; these follow ViT's own fine-tuning (Dosovitskiy et al., 2021,
# appendix B.1.1): SGD with momentum, batches of 512, no weight decay, 20,000 steps.
_FINE_TUNED: dict[str, dict[str, _Fields]] = {
    "imagenet": {
        "vit_base_patch16_224": {
            "augreg": "none",
            "optimizer": "momentum",
            "lr": 0.01,
            "weight_decay": 0.0,
            "epochs": 8,
            "batch": 512,
            "dropout": 0.0,
            "drop_path": 0.0,
        }
    }
}

# As in their papers, methods that ask no teacher see a new view every epoch.
_WITHOUT_TEACHER: dict[str, _Fields] = {"imagenet": {"views": 300}}


def recipe_of(profile: str, student: str, method: str, start: str = "") -> _Fields:
    """Fields of a profile by which a student is trained with a method.

    Args:
        profile: a preset's name.
        student: its name; a tag of published weights (`vit_base_patch16_224.orig_in21k`) does not matter.
        method: how it is trained; another name has no recipe of its own.
        start: what it starts from, as in the profile.

    Raises:
        ValueError: unknown profile.
    """
    nearest(profile, PROFILES, "profile")
    name = student.partition(".")[0]
    own = RECIPES.get(profile, {}).get(name, {})
    if start == "pretrained":
        own = _FINE_TUNED.get(profile, {}).get(name, own)
    alone = method in METHODS and not METHODS[method].uses_teacher
    return {**(_WITHOUT_TEACHER.get(profile, {}) if alone else {}), **own}
