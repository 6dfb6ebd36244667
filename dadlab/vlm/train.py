"""Students trained into a CLIP teacher's text space: materials, objective, one resumable loop.

The student of *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV
2023) gives features of the teacher's length and answers by cosine with the label texts. Training sees the seen labels
of the open-vocabulary benchmark and the teacher's cached features of every view, never the teacher's image tower. A
step is a function of seed and step, a checkpoint holds the rest: a run stopped anywhere ends as one that was not. One
process, on a GPU where there is one; it fits a page, so `dadlab.loop`, which shares a batch among processes and parts,
is not bent to it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from dadlab import captions
from dadlab.ahead import local_device
from dadlab.cache import TeacherCache, cache_teacher
from dadlab.dataset import Dataset
from dadlab.files import atomic_path, content_of, fill, load_weights, save_weights, write_json
from dadlab.loop import terminated
from dadlab.progress import track
from dadlab.snapshot import load_snapshot, restore, save_snapshot
from dadlab.steps import epoch_order
from dadlab.students import Student, load_student, save_student
from dadlab.teacher import ClipTeacher, load_teacher
from dadlab.train import precision
from dadlab.vlm.label_texts import Texts, label_texts
from dadlab.vlm.language import text_features
from dadlab.vlm.losses import (
    caption_loss,
    cls_loss,
    contrast_loss,
    cosine_logits,
    log_mse_loss,
    mse_loss,
    proximity_loss,
)
from dadlab.vlm.openvocab import Label, caption_texts, labels_of, load_open
from dadlab.vlm.run import AlignRun
from dadlab.vlm.samples import samples_beside
from dadlab.wrappers import Frozen

CAPTIONS = 8  # a label; an epoch shows each image one of them
SAVED = 60.0  # seconds between checkpoints


class FeatureTeacher(Frozen):
    """The teacher's image features (B, D), in logits' place in the cache."""

    def __init__(self, teacher: ClipTeacher):
        super().__init__()
        self.teacher = teacher
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return self.teacher.features(images)


@dataclass(frozen=True)
class Sources:
    """Images with the teacher's features of every view: what batches are read from."""

    dataset: Dataset
    cache: TeacherCache

    def read(self, rows: Tensor, view: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W), labels (B,), teacher features (B, D) of a view."""
        images = self.dataset.images(rows, view).contiguous(memory_format=torch.channels_last)
        return images, self.dataset.labels[rows], self.cache(rows, view)


@functools.lru_cache(maxsize=1)
def _teacher(name: str, content: str) -> ClipTeacher:
    found = load_teacher(name, captions.CLASSES, captions.ZERO_SHOT_TEMPLATES)
    if not isinstance(found, ClipTeacher):
        raise ValueError(f"teacher {name!r} has no text encoder: choose resnet, vit or a file of dadlab.making.teacher")
    return found.to(local_device())


def teacher_of(run: AlignRun) -> ClipTeacher:
    """The run's teacher.

    Raises:
        ValueError: it is no CLIP.
    """
    return _teacher(run.teacher, content_of(run.teacher))


def sources(run: AlignRun, dataset: Dataset, runs_dir: Path) -> Sources:
    """A dataset with the teacher's features of `run.views` views, made if missing."""
    teacher = teacher_of(run)
    columns = tuple(f"feature {k}" for k in range(teacher.text_features.shape[1]))
    cache = cache_teacher(
        replace(dataset, classes=columns), FeatureTeacher(teacher), Path(runs_dir) / "cache", views=run.views
    )
    return Sources(dataset, cache)


@dataclass(frozen=True)
class Batch:
    """What the objective sees: labels (B,), T (B, D), the images' captions (B, D), label texts (C, D)."""

    labels: Tensor
    teacher: Tensor
    captions: Tensor
    text: Tensor


def objective(run: AlignRun, student: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The plain sum of the run's terms, and the fraction that I(x) left out, both scalars.

    Args:
        run: its losses, filter and τ.
        student: S (B, D).
        batch: the rest.
    """
    keep = run.keeps(cosine_logits(batch.teacher, batch.text.detach(), tau=run.tau), batch.labels)
    chosen = keep if run.keep_contrast else torch.ones_like(keep)
    terms: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: cls_loss(student, batch.text, batch.labels, tau=run.tau),
        "mse": lambda: mse_loss(student, batch.teacher),
        "log_mse": lambda: log_mse_loss(student, batch.teacher),
        "cst": lambda: contrast_loss(student[chosen], batch.teacher[chosen], tau=run.tau),
        "cst_single": lambda: contrast_loss(student[chosen], batch.teacher[chosen], tau=run.tau, bidirectional=False),
        "vlprox": lambda: proximity_loss(student, batch.teacher, batch.text, keep, tau=run.tau, k=run.k).loss,
        "cap": lambda: caption_loss(student, batch.captions, batch.labels),
    }
    return torch.stack([terms[name]() for name in run.terms]).sum(), (~keep).float().mean()


def train_aligned(run: AlignRun, runs_dir: Path = Path("runs")) -> tuple[Student, Texts]:
    """Train a run's student, or load it if that was done before.

    Returns:
        The student in eval mode, and its label texts.

    Raises:
        ValueError: unusable teacher, or damaged weights; before any training.
    """
    folder, teacher = run.folder(runs_dir), teacher_of(run)
    texts = label_texts(run, teacher, labels_of("train"))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not (folder / "student.safetensors").is_file():
            clean = load_open("train", naming=run.naming, limit=run.limit)
            material = sources(run, clean, runs_dir)
            samples = samples_beside(run, clean, runs_dir)
            beside = None if samples is None else sources(run, samples, runs_dir)
            torch.manual_seed(run.seed)
            student = Student(run.student, teacher.text_features.shape[1])
            write_json(folder / "run.json", dataclasses.asdict(run))
            loop = Loop(run, student, texts, labels_of("train"), material, folder, beside=beside)
            loop.fit()
            save_weights(folder / "texts.safetensors", dict(texts.state_dict()), {}, half=False)
            save_student(folder / "student.safetensors", student)
            loop.checkpoint.unlink(missing_ok=True)
    path = folder / "texts.safetensors"
    return load_student(folder / "student.safetensors"), fill(path, lambda: texts, load_weights(path)[0])


class Loop:
    """Training steps with checkpoints and a curve.

    Args:
        run: what to train.
        student, texts: trained in place.
        labels: those of `texts`.
        material: the images of every epoch.
        folder: for the checkpoint and the curve.
        beside: other images, such as few shots or DAD samples, which make up half of every batch, drawn at random.
        steps: how many, instead of the run's epochs.
        lr: peak learning rate, instead of the run's.
    """

    def __init__(
        self,
        run: AlignRun,
        student: Student,
        texts: Texts,
        labels: Sequence[Label],
        material: Sources,
        folder: Path,
        *,
        beside: Sources | None = None,
        steps: int = 0,
        lr: float = 0.0,
    ):
        self.run, self.student, self.texts, self.material, self.beside = run, student, texts, material, beside
        self.device = local_device()
        student.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        texts.to(self.device)
        self.batch = run.batch // 2 if beside else run.batch
        self.an_epoch = len(epoch_order(torch.arange(len(material.dataset))[:, None], self.batch, run.seed, 0))
        self.steps = steps or self.an_epoch * run.epochs
        self.checkpoint, self.folder = folder / "training.safetensors", folder
        self.captions = self._captions(labels) if "cap" in run.terms else None
        trained = [*student.parameters(), *(p for p in texts.parameters() if p.requires_grad)]
        self.optimizer = torch.optim.AdamW(trained, lr or run.lr, weight_decay=run.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, lr or run.lr, max(40, self.steps), pct_start=0.05
        )
        self.done, self.sums, self.curve = 0, torch.zeros(2), list[dict[str, float]]()
        self.order = functools.lru_cache(2)(self._order)
        self.precision = torch.bfloat16 if precision() == "bf16" else torch.float32

    def fit(self) -> None:
        """Train from where the run is to its end.

        Raises:
            SystemExit: SIGTERM came; the last step done is in the checkpoint.
        """
        self._restore()
        self.student.train()
        saved = time.monotonic()
        with terminated() as stop:
            for step in track(range(self.done, self.steps), f"{self.run.losses} seed {self.run.seed}, steps"):
                self._step(step)
                if stop.is_set() or time.monotonic() - saved >= SAVED:
                    self._save()
                    saved = time.monotonic()
                if stop.is_set():
                    raise SystemExit(128 + signal.SIGTERM)
        self.student.eval()

    def _step(self, step: int) -> None:
        epoch, place = divmod(step, self.an_epoch)
        rows, view = self.order(epoch)[place], epoch % self.run.views
        images, labels, teacher = self.material.read(rows, view)
        if self.beside is not None:
            drawn = torch.randint(len(self.beside.dataset), (self.batch,), generator=self._generator(step))
            shown = self.beside.read(drawn, step % self.run.views)
            images, labels, teacher = (torch.cat(pair) for pair in zip((images, labels, teacher), shown, strict=True))
        torch.manual_seed(self.run.seed * 1_000_003 + step)  # dropout, where there is any
        images, labels, teacher = (part.to(self.device) for part in (images, labels, teacher))
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            features = self.student(images)
        batch = Batch(labels, teacher, self._caption_of(labels, step), self.texts())
        loss, filtered = objective(self.run, features.float(), batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.done, self.sums = step + 1, self.sums + torch.stack([loss, filtered]).detach().cpu()
        if self.done % self.an_epoch == 0 or self.done == self.steps:
            self._close_epoch((self.done - 1) % self.an_epoch + 1)

    def _close_epoch(self, steps: int) -> None:
        loss, filtered = (self.sums / steps).tolist()
        self.curve.append({"epoch": len(self.curve), "loss": loss, "filtered": filtered})
        self.sums = torch.zeros(2)
        with atomic_path(self.folder / "loss.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in self.curve))

    def _order(self, epoch: int) -> list[Tensor]:
        return epoch_order(torch.arange(len(self.material.dataset))[:, None], self.batch, self.run.seed, epoch)

    def _captions(self, labels: Sequence[Label]) -> Tensor:
        texts, _ = caption_texts(labels, CAPTIONS, seed=self.run.seed)
        features = text_features(teacher_of(self.run).clip, captions.tokenizer(), texts)
        return features.view(len(labels), CAPTIONS, -1)

    def _caption_of(self, labels: Tensor, step: int) -> Tensor:
        if self.captions is None:
            return torch.zeros(0, device=self.device)
        which = torch.randint(CAPTIONS, (len(labels),), generator=self._generator(step + 500_009))
        return self.captions[labels, which.to(labels.device)]

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.run.seed * 1_000_003 + step)

    def _parts(self) -> dict[str, Any]:
        return {"student": self.student, "texts": self.texts, "optimizer": self.optimizer, "schedule": self.schedule}

    def _save(self) -> None:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        save_snapshot(self.checkpoint, {**state, "done": self.done, "sums": self.sums, "curve": self.curve})

    def _restore(self) -> None:
        if not self.checkpoint.is_file():
            return
        saved = load_snapshot(self.checkpoint)
        restore(self._parts(), saved)
        self.done, self.sums, self.curve = saved["done"], saved["sums"], saved["curve"]
