"""Accuracy under attack: FGSM, PGD and AutoAttack against ε (Zhou et al., 2023, Table 12).

The paper gives neither ε nor steps, so accuracy is measured along ε. Chosen here, on images in [0, 1]: FGSM is one
step of ε from the image itself (Goodfellow et al., 2015); PGD is ten steps of 2.5 · ε / 10 from a random point of the
ε-ball (Madry et al., 2018, §5.1 and appendix B), in L2 of its surface; AutoAttack is the standard version (Croce &
Hein, 2020) of `pyautoattack`. Normalisation is part of the model. A sample counts where the model is right both before
and after.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from dadlab.attack import described, perturb
from dadlab.data import held_out, images_of
from dadlab.dataset import Dataset
from dadlab.examples import sample_generators
from dadlab.files import write_array
from dadlab.fingerprints import fingerprint
from dadlab.profile import Attack, nearest
from dadlab.progress import track
from dadlab.results import trained
from dadlab.run import Run
from dadlab.wrappers import device_of, in_eval_mode

_PART = 50  # samples attacked together, and kept together
_STEPS = 10  # of PGD
_TARGETS = 9  # classes that AutoAttack aims at
_PENDING = 2
_NORMS: dict[str, Any] = {"linf": "Linf", "l2": "L2"}


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, norm: str, rows: Tensor) -> Tensor:
    """One step of length ε."""
    return perturb(model, images, labels, _fgsm(epsilon, norm), sample_generators(rows, 0))


def pgd(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, norm: str, rows: Tensor, *, steps: int = 0
) -> Tensor:
    """Steps of 2.5 · ε / `steps` from a random start; ten unless told."""
    return perturb(model, images, labels, _pgd(epsilon, norm, steps), sample_generators(rows, 0))


def noise(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, norm: str, rows: Tensor) -> Tensor:
    """PGD's random start alone: what an attack must beat."""
    return perturb(model, images, labels, _noise(epsilon, norm), sample_generators(rows, 0))


def _fgsm(epsilon: float, norm: str) -> Attack:
    return Attack(norm, epsilon, epsilon)


def _pgd(epsilon: float, norm: str, steps: int = 0) -> Attack:
    steps = steps or _STEPS
    return Attack(norm, epsilon, 2.5 * epsilon / steps, steps, start=1.0)


def _noise(epsilon: float, norm: str) -> Attack:
    return Attack(norm, epsilon, 0.0, 0, start=1.0)


def autoattack(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, norm: str, rows: Tensor) -> Tensor:
    """APGD on cross-entropy, targeted APGD and FAB, Square; 9 target classes, or all where there are fewer.

    Raises:
        ValueError: fewer than four classes, for which its loss is not defined.
    """
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if classes < 4:
        raise ValueError(f"AutoAttack needs at least four classes, the model has {classes}: use fgsm or pgd")
    attack = AutoAttack(model, norm=_NORMS[norm], eps=epsilon, seed=int(rows[0]), device=images.device)
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(_TARGETS, classes - 1)
    logger = logging.getLogger("auto-attack")
    before, logger.level = logger.level, logging.ERROR  # its remarks are what `dadlab.masking` looks for
    try:
        with torch.random.fork_rng():
            return attack.run_standard_evaluation(images, labels, batch_size=len(images))[0].detach()
    finally:
        logger.level = before


def none(model: nn.Module, images: Tensor, *given: object) -> Tensor:
    """No attack."""
    return images


ATTACKS: dict[str, Callable[..., Tensor]] = {
    "none": none,
    "noise": noise,
    "fgsm": fgsm,
    "pgd": pgd,
    "autoattack": autoattack,
}
_SETTINGS: dict[str, Callable[[float, str], Attack]] = {"noise": _noise, "fgsm": _fgsm, "pgd": _pgd}
TITLES = {"none": "no attack", "noise": "noise", "fgsm": "FGSM", "pgd": "PGD", "autoattack": "AutoAttack"}


def robust(
    model: nn.Module, dataset: Dataset, attack: str, epsilon: float, *, norm: str = "linf", keep: Path | None = None
) -> np.ndarray:
    """Whether the model is right on each sample with and without the attack: (N,) bool, in sample order.

    Args:
        model: images in [0, 1] to logits; asked in eval mode.
        dataset: clean images.
        attack: one of `ATTACKS`.
        epsilon: radius in [0, 1] (L2: over all pixels).
        norm: `linf` or `l2`.
        keep: file for the verdicts, written after every 50 samples; what is in it is not computed again.

    Raises:
        ValueError: unknown attack or norm, negative ε, or a test with a subset of the labels.
    """
    made = nearest(attack, ATTACKS, "attack")
    Attack(norm, epsilon)
    if dataset.among is not None:
        raise ValueError(
            f"{dataset.name}: answers among {len(dataset.among)} labels cannot be attacked; use a full test"
        )
    device = device_of(model)
    found = np.full(len(dataset), _PENDING, np.uint8) if keep is None or not keep.is_file() else np.load(keep)
    pending = [rows for rows in torch.arange(len(dataset)).split(_PART) if found[rows[0]] == _PENDING]
    with in_eval_mode(model):
        for rows in track(pending, f"{TITLES[attack]}, ε = {epsilon:.4g}"):
            images, labels = dataset.images(rows).to(device), dataset.labels[rows].to(device)
            changed = made(model, images, labels, epsilon, norm, rows)
            with torch.no_grad():
                right = [(model(shown).argmax(1) == labels).cpu() for shown in (images, changed)]
            found[rows] = (right[0] & right[1]).numpy()
            if keep is not None:
                write_array(keep, found)
    return found.astype(bool)


def carried_out(attack: str, epsilon: float, norm: str) -> dict[str, Any]:
    """How an attack is carried out today: verdicts under one of other settings are not taken for its own."""
    if attack == "autoattack":
        version = importlib.metadata.version("pyautoattack")
        return {"epsilon": epsilon, "pyautoattack": version, "targets": _TARGETS, "together": _PART}
    return described(_SETTINGS[attack](epsilon, norm)) if attack in _SETTINGS else {}


def measure_under_attack(
    run: Run, runs_dir: Path, attack: str, epsilon: float, *, split: str, limit: int = 0, norm: str = "linf"
) -> np.ndarray:
    """`robust` of a run's student, trained if need be; verdicts (N,) are kept in the run's folder.

    Args:
        run: which student.
        runs_dir: where runs live.
        attack, epsilon, norm: as in `robust`.
        split: test split.
        limit: about so many samples of it, class by class; 0 is all.
    """
    key = fingerprint(carried_out(attack, epsilon, norm), images_of(run.profile.data, split))
    keep = run.folder(runs_dir) / "attacked" / f"{split}-{limit}-{attack}-{norm}-{epsilon:.6g}-{key}.npy"
    if keep.is_file() and (np.load(keep) != _PENDING).all():
        return np.load(keep).astype(bool)
    dataset = held_out(run.profile, split, limit=limit)
    return robust(trained(run, runs_dir), dataset, attack, epsilon, norm=norm, keep=keep)
