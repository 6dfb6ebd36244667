"""Students trained into a CLIP teacher's text space: one resumable loop.

The student of *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV
2023) gives features of the teacher's length and answers by cosine with the label texts. Training sees the seen labels
of the run's data and the teacher's cached features of every view, never the teacher's image tower. What a step sees is
a function of seed and step, and a checkpoint holds the rest: a run stopped anywhere ends as one that was not.

The loop is not `dadlab.loop`, most of which is about sharing a batch among processes and parts: here one process
trains, on a GPU where there is one, and half a batch may be other images.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from dadlab.ahead import local_device
from dadlab.claims import held
from dadlab.compute import mixed, precision
from dadlab.files import atomic_path, fill, load_weights, save_weights, write_json
from dadlab.loop import check_loss, terminated
from dadlab.progress import track
from dadlab.schedules import one_cycle
from dadlab.snapshot import check_precision, load_snapshot, restore, save_snapshot
from dadlab.steps import epoch_order
from dadlab.students import WEIGHTS, Student, load_student, save_student
from dadlab.vlm.label_texts import Texts, label_texts
from dadlab.vlm.language import text_features
from dadlab.vlm.material import Sources, caption_features, captions_of, dataset_for, labels_for, sources, teacher_of
from dadlab.vlm.objective import Batch, objective
from dadlab.vlm.openvocab import CAPTIONS, Label, caption_texts
from dadlab.vlm.run import AlignRun
from dadlab.vlm.samples import samples_beside

SAVED = 60.0  # seconds between checkpoints


def train_aligned(run: AlignRun, runs_dir: Path = Path("runs"), *, before: int = 0) -> tuple[Student, Texts]:
    """Train a run's student, or load it if that was done before.

    Args:
        run: what to train.
        runs_dir: where runs live.
        before: give it as it was so many epochs before the end; those of the `run.last` last epochs are kept.

    Returns:
        The student in eval mode, and its label texts, learnt or not.

    Raises:
        ValueError: unusable teacher or texts, damaged weights, or a checkpoint of another precision; before any
            training.
    """
    folder, teacher = run.folder(runs_dir), teacher_of(run)
    texts = label_texts(run, teacher, labels_for(run, "train"))
    if run.captions:
        captions_of(run, "train")  # whatever is wrong with them is said before any work
    with held(folder / ".lock"):
        if not (folder / WEIGHTS).is_file():
            clean, told = dataset_for(run, "train"), caption_features(run, "train")
            material, samples = sources(run, clean, runs_dir, told), samples_beside(run, clean, runs_dir)
            beside = None if samples is None else sources(run, samples, runs_dir, told)
            torch.manual_seed(run.seed)
            student = Student(run.student, teacher.text_features.shape[1], run.image_size)
            write_json(folder / "run.json", dataclasses.asdict(run))
            loop = Loop(run, student, texts, labels_for(run, "train"), material, folder, beside=beside)
            loop.fit()
            loop.keep()
            loop.checkpoint.unlink(missing_ok=True)
    path = folder / f"texts{_before(before)}.safetensors"
    return load_student(folder / f"student{_before(before)}.safetensors"), fill(
        path, lambda: texts, load_weights(path)[0]
    )


def _before(epochs: int) -> str:
    return f"-{epochs}" if epochs else ""


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
        lr: peak rate of fine-tuning, in one cycle; 0 for the run's own recipe.
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
        self.tuned, self.steps = bool(lr), steps or self.an_epoch * run.epochs
        self.checkpoint, self.folder = folder / "training.safetensors", folder
        self.captions = self._captions(labels) if "cap" in run.terms and not run.on_disk else None
        self.optimizer, self.schedule = self._recipe(lr)
        self.done, self.sums, self.curve = 0, torch.zeros(2), list[dict[str, float]]()
        self.order = functools.lru_cache(2)(self._order)
        self.precision = "bf16" if precision() == "bf16" else "no"

    def _recipe(self, lr: float) -> tuple[Optimizer, LRScheduler]:
        """As the run says; few-shot training has one cycle in any case, as in the released code."""
        learnt = [parameter for parameter in self.texts.parameters() if parameter.requires_grad]
        groups, shares = [[*self.student.parameters(), *learnt]], [1.0]
        if self.run.context_rate != 1:
            groups, shares = [list(self.student.parameters()), learnt], [1.0, self.run.context_rate]
        rates, decay = [share * (lr or self.run.lr) for share in shares], self.run.weight_decay
        trained = [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True)]
        if self.run.recipe == "one-cycle":
            optimizer: Optimizer = AdamW(trained, weight_decay=decay)
        else:
            optimizer = SGD(trained, momentum=0.9, weight_decay=decay)
        if self.run.recipe == "one-cycle" or self.tuned:
            return optimizer, one_cycle(optimizer, self.steps)
        return optimizer, MultiStepLR(optimizer, [self.steps // 3, 2 * self.steps // 3], 0.1)

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
        own = None if self.material.captions is None else self.material.captions[rows]
        if self.beside is not None:
            drawn = torch.randint(len(self.beside.dataset), (self.batch,), generator=self._generator(step))
            shown = self.beside.read(drawn, step % self.run.views)
            images, labels, teacher = (torch.cat(pair) for pair in zip((images, labels, teacher), shown, strict=True))
            if own is not None and self.beside.captions is not None:
                own = torch.cat([own, self.beside.captions[drawn]])
        torch.manual_seed(self.run.seed * 1_000_003 + step)  # dropout, where there is any
        images, labels, teacher = (part.to(self.device) for part in (images, labels, teacher))
        with mixed(self.device.type):
            features = self.student(images)
        captions = self._caption_of(labels, step) if own is None else own.to(self.device)
        batch = Batch(labels, teacher, captions, self.texts())
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
        check_loss(loss, len(self.curve) + 1)
        self.curve.append({"epoch": len(self.curve), "loss": loss, "filtered": filtered})
        self.sums = torch.zeros(2)
        with atomic_path(self.folder / "loss.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in self.curve))

        left = self.run.epochs - len(self.curve)
        if not self.tuned and 0 < left < self.run.last:
            self.keep(left)

    def keep(self, before: int = 0) -> None:
        """Store student and texts as they are, so many epochs before the end."""
        path = self.folder / f"texts{_before(before)}.safetensors"
        save_weights(path, dict(self.texts.state_dict()), {}, half=False)
        save_student(self.folder / f"student{_before(before)}.safetensors", self.student)

    def _order(self, epoch: int) -> list[Tensor]:
        return epoch_order(torch.arange(len(self.material.dataset))[:, None], self.batch, self.run.seed, epoch)

    def _captions(self, labels: Sequence[Label]) -> Tensor:
        """Features (C, `CAPTIONS`, D) of captions of the embedded benchmark's labels; a step draws one an image."""
        teacher = teacher_of(self.run)
        texts, _ = caption_texts(labels, CAPTIONS, seed=self.run.seed)
        features = text_features(teacher.clip, teacher.tokenizer, texts)
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
        told = {"done": self.done, "sums": self.sums, "curve": self.curve, "precision": self.precision}
        save_snapshot(self.checkpoint, {**state, **told})

    def _restore(self) -> None:
        if not self.checkpoint.is_file():
            return
        saved = load_snapshot(self.checkpoint)
        check_precision(self.checkpoint, saved, self.precision)
        restore(self.checkpoint, self._parts(), saved)
        self.done, self.sums, self.curve = saved["done"], saved["sums"], saved["curve"]
