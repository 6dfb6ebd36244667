"""Evaluation: top-1 on every shift, and mCE; each sample once, however many processes share the work.

Corruptions are the fifteen of ImageNet-C at five severities (Hendrycks & Dietterich, 2019) by `corrupt_tta`, drawn
once and kept under `runs_dir`. mCE divides by the errors of a named baseline, the embedded plain ResNet committed
in `assets/mce_baseline.json`, as the original divides by AlexNet's.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from corrupt_tta import corrupt, corruptions
from skimage.util import random_noise
from torch import Tensor, nn

from dadlab.ahead import ahead, usual_workers
from dadlab.data import Dataset, load_split, split_names
from dadlab.files import atomic_path
from dadlab.photos import ASSETS
from dadlab.progress import track
from dadlab.views import counter_hash

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
SHIFTS = ("studio", "v2", "context", "rendition", "sketch", "a", "stylized")
SEVERITIES = (1, 2, 3, 4, 5)
C_PHOTOS = 500  # test photographs, 50 a class, under each of the 75 corruptions


@torch.inference_mode()
def correct(model: nn.Module, dataset: Dataset, *, batch: int = 256) -> Tensor:
    """Whether the model is right on each sample: (N,) bool, in sample order.

    Processes of a distributed group share the batches and all get the whole answer; a sample belongs to one batch of
    one process, so none counts twice, and batches are those that one process would see.
    """
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    right = torch.zeros(len(dataset), dtype=torch.uint8, device=device)
    parts = torch.arange(len(dataset)).split(batch)[rank::ranks]
    for rows, images in zip(parts, ahead(dataset.images, parts, usual_workers()), strict=True):
        images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        right[rows] = (model(images).argmax(1) == dataset.labels[rows].to(device)).byte()
    if ranks > 1:
        dist.all_reduce(right)
    return right.bool().cpu()


def top1(model: nn.Module, dataset: Dataset) -> float:
    """Top-1 accuracy in [0, 1]."""
    return float(correct(model, dataset).float().mean())


def shifts_of(data: str) -> list[str]:
    """Test splits of the benchmark, or of a folder: all but `train` and `val`."""
    return list(SHIFTS) if data == "fashion" else [name for name in split_names(data) if name not in ("train", "val")]


def evaluate(
    model: nn.Module, data: str = "fashion", *, splits: list[str] | None = None, image_size: int = 32
) -> dict[str, Tensor]:
    """Per-sample correctness (N,) bool on every split, for top-1 and for paired tests."""
    wanted = shifts_of(data) if splits is None else splits
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
    path = None if folder is None else Path(folder) / dataset.fingerprint / f"{kind}-{severity}.npy"
    if path is not None and path.is_file():
        pixels = np.load(path)
    else:
        pixels = _corrupt(dataset, kind, severity)
        if path is not None:
            with atomic_path(path) as temporary, temporary.open("wb") as out:
                np.save(out, pixels)
    return Dataset(f"{kind} {severity}", dataset.classes, torch.from_numpy(pixels), dataset.labels)


def _corrupt(dataset: Dataset, kind: str, severity: int) -> np.ndarray:
    seeds = (
        counter_hash(torch.arange(len(dataset)), 10 * CORRUPTIONS.index(kind) + severity) >> np.uint64(33)
    ).tolist()
    # corrupt_tta draws from numpy's global generator, and impulse noise from an unseeded one of its own.
    before, made = np.random.get_state(), []
    for image, seed in zip(dataset.pixels.permute(0, 2, 3, 1).numpy(), seeds, strict=True):
        np.random.seed(seed)
        with mock.patch.object(corruptions, "random_noise", functools.partial(random_noise, rng=seed)):
            made.append(np.clip(corrupt(image, severity, kind), 0, 255).astype(np.uint8))
    np.random.set_state(before)
    return np.stack(made).transpose(0, 3, 1, 2).copy()


def corruption_errors(
    model: nn.Module, dataset: Dataset, folder: Path | None = None, severities: tuple[int, ...] = SEVERITIES
) -> dict[str, float]:
    """Error rate a corruption kind, averaged over severities."""
    errors = {}
    for kind in track(CORRUPTIONS, "corruptions"):
        rates = [1 - top1(model, corrupted(dataset, kind, severity, folder)) for severity in severities]
        errors[kind] = float(np.mean(rates))
    return errors


def mce(errors: dict[str, float], baseline: dict[str, float] | None = None) -> float:
    """Mean corruption error: 100 · mean over kinds of error / baseline error (Hendrycks & Dietterich, 2019, §4.2).

    >>> mce({"fog": 0.2}, {"fog": 0.4})
    50.0
    """
    baseline = baseline or mce_baseline()
    return 100 * float(np.mean([error / baseline[kind] for kind, error in errors.items()]))


def mce_baseline() -> dict[str, float]:
    """Errors of the embedded baseline: a plain `resnet_s` with a seed outside every comparison."""
    return json.loads((ASSETS / "mce_baseline.json").read_text())["errors"]
