"""Training: one loop for every method, on Hugging Face Accelerate.

A run is trained once: its folder holds configuration, loss curve and weights, and asking again loads them. A stopped
run goes on at its last epoch with the same numbers, since order, views and schedule are functions of seed and step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from filelock import FileLock
from torch import Tensor

from dadlab.files import atomic_path, restore_training, save_training, write_json
from dadlab.materials import Materials, Stream, prepare
from dadlab.methods import METHODS, Batch
from dadlab.progress import track
from dadlab.run import Run
from dadlab.students import Student, check_student, load_student, save_student


def train(run: Run, runs_dir: Path = Path("runs")) -> Student:
    """Train a run's student, or load it if that was done before.

    Args:
        run: what to train.
        runs_dir: where runs and their materials live.

    Returns:
        The student in eval mode.

    Raises:
        ValueError: unknown method, student, data, teacher or discretizer, before any work.
    """
    method = METHODS[run.method]
    check_student(run.student)
    folder = run.folder(runs_dir)
    folder.mkdir(parents=True, exist_ok=True)
    first = os.environ.get("RANK", "0") == "0"  # of several processes of one run, one guards it
    with FileLock(folder / ".lock") if first else contextlib.nullcontext():
        if not (folder / "student.safetensors").is_file():
            materials = prepare(run.profile, method, runs_dir)
            torch.manual_seed(run.seed)
            student = Student(run.student, len(materials.clean.dataset.classes), run.profile.image_size)
            write_json(folder / "run.json", dataclasses.asdict(run))
            _fit(run, student, materials, folder)
            save_student(folder / "student.safetensors", student)
            (folder / "training.ckpt").unlink(missing_ok=True)
    return load_student(folder / "student.safetensors")


def _fit(run: Run, student: Student, materials: Materials, folder: Path) -> None:
    profile, method = run.profile, METHODS[run.method]
    accelerator = Accelerator(mixed_precision="bf16" if _fast_bf16() else "no")
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = len(epoch_order(len(materials.clean.dataset), profile.batch, run.seed, 0))
    optimizer = torch.optim.AdamW(student.parameters(), lr=profile.lr, weight_decay=profile.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, profile.lr, max(40, steps * profile.epochs), pct_start=0.05
    )  # its warm-up must last two steps
    parts, checkpoint = (student, optimizer, schedule), folder / "training.ckpt"
    done = restore_training(checkpoint, parts)
    model, optimizer = accelerator.prepare(student, optimizer)
    model.train()
    curve = _read_curve(folder / "loss.jsonl", done)
    for epoch in track(range(done, profile.epochs), f"{run.method} seed {run.seed}, epochs"):
        started, total = time.monotonic(), torch.zeros(())
        for batch in batches(run, materials, epoch, accelerator.process_index, accelerator.num_processes):
            with accelerator.autocast():
                loss = method.loss(model, _to(batch, accelerator.device), profile)
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.detach().cpu()
        curve.append({"epoch": epoch, "loss": float(total) / steps, "seconds": round(time.monotonic() - started, 2)})
        if accelerator.is_main_process:
            with atomic_path(folder / "loss.jsonl") as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in curve))
            save_training(checkpoint, parts, epoch + 1)


def batches(run: Run, materials: Materials, epoch: int, rank: int = 0, ranks: int = 1) -> Any:
    """The batches of one epoch for one process: a pure function of seed, epoch and rank."""
    profile, size = run.profile, run.profile.batch
    view, second_view = epoch % profile.views, (epoch + profile.views // 2) % profile.views
    clean, second = materials.clean, materials.second
    order = epoch_order(len(clean.dataset), size, run.seed, epoch)
    same = second is clean
    if second is not None and not same:
        other = endless_order(len(second.dataset), sum(map(len, order)), run.seed, epoch).split(size)
    for step, rows in enumerate(order):
        rows = rows[rank::ranks]
        images, labels, teacher = _read(clean, rows, view)
        if second is None:
            pair: tuple[Tensor, Tensor, Tensor] = (images[:0], labels[:0], teacher[:0])
        else:
            pair = _read(second, rows if same else other[step][rank::ranks], second_view)
        yield Batch(images, labels, teacher, *pair)


def epoch_order(count: int, batch: int, seed: int, epoch: int) -> list[Tensor]:
    """A permutation of the samples cut into full batches; a rest smaller than a batch waits for another epoch."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
    return list(order[: max(1, count // batch) * batch].split(batch))


def endless_order(count: int, length: int, seed: int, epoch: int) -> Tensor:
    """`length` positions below `count`, permutation after permutation."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch + 50_021)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-length // count))])[:length]


def _read(stream: Stream, rows: Tensor, view: int) -> tuple[Tensor, Tensor, Tensor]:
    images = stream.dataset.images(rows, view)
    return images.contiguous(memory_format=torch.channels_last), stream.dataset.labels[rows], stream.logits(rows, view)


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(getattr(batch, entry.name).to(device, non_blocking=True) for entry in dataclasses.fields(batch)))


def _read_curve(path: Path, done: int) -> list[dict[str, float]]:
    """The first `done` epochs of a loss curve, as far as the file can be read."""
    curve: list[dict[str, float]] = []
    for line in path.read_text().splitlines()[:done] if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            curve.append(json.loads(line))
    return curve


def _fast_bf16() -> bool:
    """Whether bfloat16 is worth it: on a GPU that has it, or a CPU with instructions for it."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
