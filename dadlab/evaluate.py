"""Evaluation: top-1 on every shift, and mCE; each sample once, however many processes share the work.

Corruptions are the fifteen of ImageNet-C at five severities (Hendrycks & Dietterich, 2019) by `corrupt_tta`, drawn
once and kept under `runs_dir`; ImageNet's are read from ImageNet-C as published. mCE divides by the errors of a named
baseline: AlexNet's on ImageNet, the embedded plain ResNet's on the embedded benchmark.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from corrupt_tta import corrupt, corruptions
from skimage.util import random_noise
from torch import Tensor, nn

from dadlab.ahead import ahead, usual_workers
from dadlab.data import has_corruptions, load_split, split_names
from dadlab.dataset import Dataset, to_bytes
from dadlab.disk.check import check
from dadlab.disk.imagenet import CORRUPTIONS, SEVERITIES
from dadlab.files import kept_array
from dadlab.photos import ASSETS
from dadlab.progress import track
from dadlab.views import counter_hash
from dadlab.wrappers import device_of, in_eval_mode

SHIFTS = ("studio", "v2", "context", "rendition", "sketch", "a", "stylized")
C_PHOTOS = 500  # test photographs, 50 a class, under each of the 75 corruptions


@torch.inference_mode()
def correct(model: nn.Module, dataset: Dataset, *, batch: int = 256) -> Tensor:
    """Whether the model is right on each sample: (N,) bool, in sample order.

    Processes of a distributed group share the batches and all get the whole answer; a sample belongs to one batch of
    one process, so none counts twice, and batches are those that one process would see. The model is asked in eval mode
    and answers among the labels of `dataset.among`, where the dataset names some.

    Raises:
        ValueError: the model has other than the dataset's number of classes.
    """
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = device_of(model)
    right = torch.zeros(len(dataset), dtype=torch.uint8, device=device)
    parts = torch.arange(len(dataset)).split(batch)[rank::ranks]
    with in_eval_mode(model):
        for rows, images in zip(parts, ahead(dataset.images, parts, usual_workers()), strict=True):
            images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            logits = model(images)
            if logits.shape[1] != len(dataset.classes):
                given, wanted = logits.shape[1], len(dataset.classes)
                raise ValueError(f"the model answers with {given} classes, where {dataset.name} has {wanted}")
            right[rows] = (answers(logits, dataset.among) == dataset.labels[rows].to(device)).byte()
    if ranks > 1:
        dist.all_reduce(right)
    return right.bool().cpu()


def answers(logits: Tensor, among: Sequence[int] | None = None) -> Tensor:
    """The label (B,) of the largest of the logits (B, C), or of the largest among the given labels.

    >>> answers(torch.tensor([[9.0, 1.0, 5.0]]), among=[1, 2])
    tensor([2])
    """
    if among is None:
        return logits.argmax(1)
    labels = torch.tensor(among, device=logits.device)
    return labels[logits[:, labels].argmax(1)]


def top1(model: nn.Module, dataset: Dataset) -> float:
    """Top-1 accuracy in [0, 1]."""
    return float(correct(model, dataset).float().mean())


def shifts_of(data: str) -> list[str]:
    """Test splits of the benchmark or of ImageNet (`val` is one); of other data all but training and validation."""
    if data == "fashion":
        return list(SHIFTS)
    tuned_on = ("train",) if has_corruptions(data) else ("train", "val", "validation")
    return [name for name in split_names(data) if name not in tuned_on]


def evaluate(
    model: nn.Module, data: str = "fashion", *, splits: list[str] | None = None, image_size: int = 32
) -> dict[str, Tensor]:
    """Per-sample correctness (N,) bool on every split, for top-1 and for paired tests.

    Raises:
        ValueError: something is wrong with the splits' images; before the model runs, all at once.
    """
    wanted = shifts_of(data) if splits is None else splits
    check(data, wanted)
    return {name: correct(model, load_split(data, name, image_size=image_size)) for name in wanted}


def corrupted(dataset: Dataset, kind: str, severity: int, folder: Path | None = None) -> Dataset:
    """The dataset under one corruption, each sample with its own fixed seed.

    Args:
        dataset: clean images.
        kind: one of `CORRUPTIONS`.
        severity: 1 to 5.
        folder: keep the result there and find it again.

    Raises:
        ValueError: unknown corruption or severity.
    """
    if kind not in CORRUPTIONS or severity not in SEVERITIES:
        raise ValueError(
            f"unknown corruption {kind!r} at severity {severity}: choose of {', '.join(CORRUPTIONS)} at 1–5"
        )
    make = functools.partial(_corrupt, dataset, kind, severity)
    kept = Path(folder) / dataset.fingerprint / f"{kind}-{severity}.npy" if folder else None
    pixels = make() if kept is None else kept_array(kept, make)
    return replace(dataset, name=f"{kind} {severity}", pixels=torch.from_numpy(pixels))


def _corrupt(dataset: Dataset, kind: str, severity: int) -> np.ndarray:
    seeds = (
        counter_hash(torch.arange(len(dataset)), 10 * CORRUPTIONS.index(kind) + severity) >> np.uint64(33)
    ).tolist()
    # corrupt_tta draws from numpy's global generator, and impulse noise from an unseeded one of its own.
    before, made = np.random.get_state(), []
    parts = (to_bytes(dataset.images(rows)).permute(0, 2, 3, 1) for rows in torch.arange(len(dataset)).split(64))
    for image, seed in zip((image.numpy() for part in parts for image in part), seeds, strict=True):
        np.random.seed(seed)
        with mock.patch.object(corruptions, "random_noise", functools.partial(random_noise, rng=seed)):
            made.append(np.clip(corrupt(image, severity, kind), 0, 255).astype(np.uint8))
    np.random.set_state(before)
    return np.stack(made).transpose(0, 3, 1, 2).copy()


def corrupted_errors(
    model: nn.Module, dataset: Dataset, folder: Path | None = None, severities: tuple[int, ...] = SEVERITIES
) -> dict[str, np.ndarray]:
    """Corruption kind → on which share of the severities the model is wrong, sample by sample (N,)."""
    return {
        kind: wrong_share([correct(model, corrupted(dataset, kind, level, folder)).numpy() for level in severities])
        for kind in track(CORRUPTIONS, "corruptions")
    }


def wrong_share(right: Sequence[np.ndarray]) -> np.ndarray:
    """Share of tests of the same samples, each of correctness (N,), in which a sample is wrong: (N,)."""
    return 1 - np.mean(right, axis=0)


def corruption_score(errors: dict[str, np.ndarray], baseline: dict[str, float] | None = None) -> np.ndarray:
    """Each sample's part (N,) in `mce`, or without a baseline in `mean_error`: 100 × their mean is that score.

    >>> corruption_score({"fog": np.array([0.0, 0.4]), "snow": np.array([1.0, 1.0])}, {"fog": 0.4, "snow": 1.0})
    array([0.5, 1. ])
    """
    return np.mean([each / (baseline[kind] if baseline else 1.0) for kind, each in errors.items()], axis=0)


def mce(errors: dict[str, float], baseline: dict[str, float]) -> float:
    """Mean corruption error: 100 · mean over kinds of error / baseline error (Hendrycks & Dietterich, 2019, §4.2).

    >>> mce({"fog": 0.2}, {"fog": 0.4})
    50.0
    """
    return 100 * float(np.mean([error / baseline[kind] for kind, error in errors.items()]))


def mce_baseline(data: str = "fashion") -> dict[str, float] | None:
    """Errors that mCE divides by, for each corruption; None for data without a named baseline.

    AlexNet's, as published, on ImageNet; on the embedded benchmark those of a plain `resnet_s` with a seed outside
    every comparison.
    """
    if data != "fashion" and not has_corruptions(data):
        return None
    name = "mce_baseline" if data == "fashion" else "alexnet_errors"
    return json.loads((ASSETS / f"{name}.json").read_text())["errors"]


def mean_error(errors: dict[str, float]) -> float:
    """Mean error over corruptions, in percent: what needs no baseline."""
    return 100 * float(np.mean(list(errors.values())))
