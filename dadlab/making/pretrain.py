"""Pretrain students on broader data: the embedded stand-in for ImageNet-21K (Zhou et al., 2023, Table 4).

A student learns 110 labels, colour × garment, on `studio` and `context` drawings of the 50,000 photographs that no
student sees afterwards; never a test photograph, another style or the teacher's answers. So to a student that begins
with it busy backdrops, the shift `context`, are no longer new. What it begins with in a run (`start` of the profile) is
everything but its head. The committed weights, Fashion-MNIST's published files in a folder:

    parts = (read_published(folder, part) for part in ("train", "t10k"))
    drawn = draw_labelled(split_published(*parts)["teacher"], seed=5000)
    pretrain(*drawn, "resnet_s", "pretrained_resnet_s.safetensors", steps=3000)
    pretrain(*drawn, "vit_s", "pretrained_vit_s.safetensors", steps=3000, peak=2e-3)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab.compute import mixed
from dadlab.fingerprints import fingerprint
from dadlab.making.drawings import random_batch
from dadlab.photos import CLASSES, Photos
from dadlab.render import COLOURS, render
from dadlab.snapshot import restore_training, save_training
from dadlab.students import Student, plain_attention, save_student

STYLES = ("studio", "context")
SAVED = 100  # steps between checkpoints
LABELS = tuple(f"{colour} {garment}" for garment in CLASSES for colour in COLOURS)


def draw_labelled(photos: Photos, *, seed: int) -> tuple[Tensor, Tensor]:
    """Every photograph in every style of `STYLES`: images (N, 3, 32, 32) uint8 and positions in `LABELS` (N,)."""
    images, labels = [], []
    for style in STYLES:
        drawn, colours = render(photos.pixels, style, seed=seed, index=photos.index)
        images.append(drawn)
        labels.append(photos.labels * len(COLOURS) + np.array([COLOURS.index(colour) for colour in colours]))
    return torch.cat(images), torch.from_numpy(np.concatenate(labels))


def pretrain(
    images: Tensor,
    labels: Tensor,
    student: str,
    out: Path,
    *,
    steps: int = 4000,
    batch: int = 128,
    peak: float = 4e-3,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> Student:
    """Train a student on what `draw_labelled` gives and write its weights in half precision.

    Killed and started again, it goes on from the last checkpoint.
    """
    torch.manual_seed(seed)
    net = Student(student, len(LABELS), images.shape[-1])
    train_classifier(net, images, labels, Path(out).with_suffix(".ckpt"), steps, batch, peak, seed, log)
    save_student(out, net, half=True)
    Path(out).with_suffix(".ckpt").unlink(missing_ok=True)
    return net.eval()


def train_classifier(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    checkpoint: Path,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Cross-entropy on crops and mirrors of images (N, 3, S, S) uint8, from the checkpoint on where there is one."""
    plain_attention(net)
    net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, max(20, steps), pct_start=0.1)
    state, started = (net, optimizer, schedule), time.monotonic()
    of = fingerprint(images, labels, steps, batch, peak, seed)
    for step in range(restore_training(checkpoint, state, of), steps):
        pixels, rows = random_batch(images, step, batch, seed)
        with mixed("cpu"):
            logits = net(pixels.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % SAVED == 0 or step == steps - 1:
            log(f"step {step + 1}/{steps} loss {loss.item():.3f} {time.monotonic() - started:.0f} s")
            save_training(checkpoint, state, step + 1, of)


@torch.inference_mode()
def garments(net: nn.Module, images: Tensor) -> Tensor:
    """The garment (B,) that a network of `LABELS` sees: of the largest probability summed over colours."""
    return net(images).softmax(1).view(len(images), len(CLASSES), len(COLOURS)).sum(2).argmax(1)
