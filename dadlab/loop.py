"""The training loop: steps, checkpoints, curve.

What a step sees is a function of seed and step (`Steps`), and a checkpoint holds everything else, so any step can be
the last one before a stop. A batch is split over processes and parts. Gradients are weighted by samples and batch norm
looks at all processes, so the number of processes changes rounding alone, but for what is random or relative within a
process: dropout's and stochastic depth's draws, DIST's relations in a batch, and, where a batch cannot be shared
evenly, the balance of Fast AdvProp's gradients behind batch norm. Parts are passed one after the other,
and batch norm sees each of them alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from timm.optim import create_optimizer_v2
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dadlab.adain import load_style_transfer
from dadlab.ahead import ahead, usual_workers
from dadlab.batch import Batch, Tools
from dadlab.claims import clear
from dadlab.discretizer import load_discretizer
from dadlab.files import atomic_path
from dadlab.methods import METHODS
from dadlab.norms import synchronize
from dadlab.overlap import ToDevice, Told
from dadlab.progress import track
from dadlab.schedules import SCHEDULES
from dadlab.snapshot import check_precision, load_snapshot, restore, save_snapshot
from dadlab.steps import Steps
from dadlab.students import Student, plain_attention
from dadlab.tracking import settings

LOGGED = 50  # steps between two values in a tracker


@dataclass(frozen=True)
class Service:
    """How a training is looked after; nothing here changes its numbers.

    Attributes:
        tracker: an Accelerate tracker by name, `auto` for TensorBoard where it is installed, empty for none.
        workers: processes that read batches ahead; −1 for a GPU's share of the cores, and none on a CPU.
        checkpoint_seconds: time between checkpoints.
        lines: print a line an epoch.
    """

    tracker: str = ""
    workers: int = -1
    checkpoint_seconds: float = 120.0
    lines: bool = False


@dataclass
class Progress:
    """How far a run is: steps done, curve, and the sums of the epoch so far."""

    steps: int = 0
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    seconds: float = 0.0
    waiting: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def close_epoch(self, steps: int) -> dict[str, float]:
        """Add the epoch's mean loss, its seconds and those spent waiting for data to the curve; begin new sums.

        Raises:
            ValueError: the loss is infinite or not a number.
        """
        times, loss = {"seconds": round(self.seconds, 2), "waiting": round(self.waiting, 2)}, float(self.loss) / steps
        check_loss(loss, len(self.curve) + 1)
        self.curve.append({"epoch": len(self.curve), "loss": loss, **times})
        self.loss, self.seconds, self.waiting = torch.zeros_like(self.loss), 0.0, 0.0
        return self.curve[-1]


class Loop:
    """One run's training in one process of any number."""

    def __init__(self, steps: Steps, student: Student, folder: Path, accelerator: Accelerator, service: Service):
        self.steps, self.run, self.profile = steps, steps.run, steps.run.profile
        self.folder, self.checkpoint = folder, folder / "training.safetensors"
        self.accelerator, self.service, self.student = accelerator, service, student
        self.to_device, self.told = ToDevice(accelerator.device), Told(accelerator)
        asks, device = METHODS[self.run.method].online, accelerator.device
        self.discretizer = load_discretizer(self.profile.discretizer).to(device) if "discretizer" in asks else None
        self.transfer = load_style_transfer(self.profile.transfer).to(device) if "transfer" in asks else None
        student.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if accelerator.device.type == "cpu":
            plain_attention(student)
        self.optimizer = create_optimizer_v2(
            list(student.parameters()), self.profile.optimizer, self.profile.lr, weight_decay=self.profile.weight_decay
        )
        self.schedule = SCHEDULES[self.profile.schedule](self.optimizer, len(steps))
        decay = self.profile.ema
        average = get_ema_multi_avg_fn(decay)
        self.average = AveragedModel(student, multi_avg_fn=average, use_buffers=True) if decay else None
        self.progress = Progress(loss=torch.zeros((), device=accelerator.device))
        if accelerator.is_main_process:
            clear(self.checkpoint)
        self._restore()
        several = accelerator.num_processes > 1
        wrapped = synchronize(student, accelerator.device) if several else student
        self.model, self.stepper = accelerator.prepare(wrapped, self.optimizer)

    def result(self) -> Student:
        """The student, or its weight average where the profile asks for one."""
        return self.student if self.average is None else cast(Student, self.average.module)

    def fit(self) -> None:
        """Train from where the run is to its end.

        Raises:
            SystemExit: SIGTERM came to any process; the last step done is in the checkpoint.
        """
        self.model.train()
        self.accelerator.init_trackers("dadlab", settings(self.run))
        workers = usual_workers() if self.service.workers < 0 else self.service.workers
        todo, saved = range(self.progress.steps, len(self.steps)), time.monotonic()
        parts = [(step, part) for step in todo for part in range(self.profile.accumulate)]
        stream = ahead(self.steps.part, parts, workers)
        main, name = self.accelerator.is_main_process, f"{self.run.method} seed {self.run.seed}, steps"
        with terminated() as stop:
            for _ in track(todo, name) if main else todo:
                self._one_step(stream)
                overdue = time.monotonic() - saved >= self.service.checkpoint_seconds
                last = self.told(stop.is_set())
                if main and (overdue or last):
                    self._save()
                    saved = time.monotonic()
                if last:
                    raise SystemExit(128 + signal.SIGTERM)
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _one_step(self, stream: Iterator[Batch]) -> None:
        progress, started = self.progress, time.monotonic()
        batches = [next(stream) for _ in range(self.profile.accumulate)]
        waited = time.monotonic() - started
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed((self.run.seed * 1_000_003 + progress.steps) * ranks + rank)  # dropout, where there is any
        loss = self.learn(batches)
        loss = self.accelerator.reduce(loss, "mean") if ranks > 1 else loss
        progress.loss += loss
        progress.steps += 1
        progress.waiting += waited
        if progress.steps % self.steps.an_epoch == 0:
            float(progress.loss)  # waits for a GPU, whose last steps count in this epoch's seconds
        progress.seconds += time.monotonic() - started
        if progress.steps % LOGGED == 0 and self.accelerator.trackers:
            self.accelerator.log({"loss": float(loss), "lr": self.schedule.get_last_lr()[0]}, progress.steps)
        if progress.steps % self.steps.an_epoch == 0:
            self._close_epoch()

    def learn(self, batches: list[Batch]) -> Tensor:
        """One update from a batch's parts; this process's share of the loss, times the number of processes."""
        method, total = METHODS[self.run.method], torch.zeros((), device=self.accelerator.device)
        seed = self.run.seed * 1_000_003 + self.progress.steps
        tools = Tools(self.profile, self.student, self.discretizer, seed, self.transfer)
        self.stepper.zero_grad()
        for part, batch in enumerate(batches, 1):
            share = len(batch.images) * self.accelerator.num_processes / self.steps.batch
            batch = self.to_device(batch)
            with contextlib.nullcontext() if part == len(batches) else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    loss = method.loss(self.model, batch, tools) * share
                self.accelerator.backward(loss)
            total += loss.detach()
        self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        self.stepper.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.student)
        return total

    def _close_epoch(self) -> None:
        line = self.progress.close_epoch(self.steps.an_epoch)
        if not self.accelerator.is_main_process:
            return
        with atomic_path(self.folder / "loss.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in self.progress.curve))
        if self.service.lines:
            print(f"epoch {len(self.progress.curve)}/{self.profile.epochs}: {json.dumps(line)}", flush=True)

    def _parts(self) -> dict[str, Any]:
        parts = {"student": self.student, "optimizer": self.optimizer, "schedule": self.schedule}
        beside = {"average": self.average, "scaler": self.accelerator.scaler}  # of weights; of fp16's loss
        return parts | {name: part for name, part in beside.items() if part is not None}

    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        told = {"progress": vars(self.progress), "precision": self.accelerator.mixed_precision}
        told["loss"] = METHODS[self.run.method].code
        save_snapshot(self.checkpoint, {**state, **told})

    def _restore(self) -> None:
        if not self.checkpoint.is_file():
            return
        saved = load_snapshot(self.checkpoint)
        check_precision(self.checkpoint, saved, self.accelerator.mixed_precision)
        begun, now = saved.get("loss"), METHODS[self.run.method].code
        if begun and now and begun != now:
            raise ValueError(
                f"{self.checkpoint}: begun before the loss of {self.run.method!r} was changed; delete it to start again"
            )
        restore(self.checkpoint, self._parts(), saved)
        self.progress = Progress(**saved["progress"])
        self.progress.loss = self.progress.loss.to(self.accelerator.device)


def check_loss(loss: float, epoch: int) -> None:
    """Raise a `ValueError` where an epoch's loss is infinite or not a number."""
    if not math.isfinite(loss):
        raise ValueError(f"the loss of epoch {epoch} is {loss}: the training diverged; lower lr")


@contextlib.contextmanager
def terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, in place of ending the process at once; in another than the main thread, never."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
