"""Training: one loop for every method, on Hugging Face Accelerate, in one process or many.

A run is trained once: its folder holds configuration, loss curve and weights, and asking again loads them. A run
stopped after any step ends with the same curve and weights as one that was not. What the number of processes changes
is said in `dadlab.loop`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import Timeout
from timm.optim import create_optimizer_v2
from torch import nn

from dadlab.auxiliary import add_auxiliary, remove_auxiliary
from dadlab.claims import held
from dadlab.compute import precision
from dadlab.data import class_names
from dadlab.files import write_json
from dadlab.loop import Loop, Service
from dadlab.materials import prepare
from dadlab.methods import METHODS
from dadlab.progress import one_line
from dadlab.provenance import TRAINED, commit, machine, trained_by
from dadlab.run import Run
from dadlab.steps import Steps, check_split
from dadlab.students import WEIGHTS, Student, begin_student, check_start, check_student, load_student, save_student
from dadlab.tracking import tracker_name


def train(run: Run, runs_dir: Path = Path("runs"), service: Service | None = None) -> Student:
    """Train a run's student, or load it if that was done before.

    Under `torchrun` all processes call it; `runs_dir` must be one place for all of them.

    Args:
        run: what to train.
        runs_dir: where runs and their materials live.
        service: tracker, workers, checkpoints; nothing that changes a number.

    Returns:
        The student in eval mode.

    Raises:
        ValueError: unknown method, student, data, teacher, discretizer, optimizer or tracker, or a student that cannot
            be trained so, before any work; or another launch of several processes is training this run; or it was
            begun in another precision, or before its method's loss was changed.
    """
    service = service or Service()
    check_student(run.student)
    check_start(run.student, run.profile.start)
    _check_optimizer(run.profile.optimizer)
    tracker = tracker_name(service.tracker)
    folder = run.folder(runs_dir)  # once: were the images changed meanwhile, it would have another name
    weights = folder / WEIGHTS
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision=precision(), log_with=tracker, project_dir=folder)
    check_split(run.profile.batch, accelerator.num_processes, run.profile.accumulate)
    with _one_launch(folder, accelerator):
        if not _agreed(weights.is_file(), accelerator):
            _train(run, runs_dir, folder, accelerator, service)
    warn_of_another_loss(run, folder)
    return load_student(weights)


def warn_of_another_loss(run: Run, folder: Path) -> None:
    """Warn if a run was trained by another loss than its method has now, which its name does not know."""
    then, now = trained_by(folder).get("loss"), METHODS[run.method].code
    if then and now and then != now:
        warnings.warn(
            f"{folder}: trained before the loss of {run.method!r} was changed; delete the folder to train it anew",
            stacklevel=2,
        )


def _train(run: Run, runs_dir: Path, folder: Path, accelerator: Accelerator, service: Service) -> None:
    profile, fast = run.profile, METHODS[run.method].attacked < 1
    for count in (0, 1) if fast else (profile.batch // profile.accumulate,):  # of an attacked share there may be none
        _check_pass(run.student, profile.image_size, count, profile.dropout, profile.drop_path)
    made = {"commit": commit(), "machine": machine()}
    made |= {"precision": accelerator.mixed_precision, "loss": METHODS[run.method].code}
    loop = begin_training(run, runs_dir, folder, accelerator, service)
    if accelerator.is_main_process:
        write_json(folder / "run.json", dataclasses.asdict(run))
    loop.fit()
    if accelerator.is_main_process:
        _forget(folder)
        write_json(folder / TRAINED, made)
        save_student(folder / WEIGHTS, remove_auxiliary(loop.result()))
        loop.checkpoint.unlink(missing_ok=True)
    accelerator.wait_for_everyone()


def _forget(folder: Path) -> None:
    """Drop answers of other weights: of lost ones, or of those that `dadlab.ledger` tells of."""
    for path in (*folder.rglob("*.npy"), *folder.glob("corrup*")):
        path.unlink()


def begin_training(run: Run, runs_dir: Path, folder: Path, accelerator: Accelerator, service: Service) -> Loop:
    """A run's training before its next step, with everything it needs made or found.

    Args:
        run, runs_dir, service: see `train`.
        folder: where its checkpoint is, if it has one.
        accelerator: of this process.
    """
    profile = run.profile
    torch.manual_seed(run.seed)
    names = class_names(profile.data, profile.train)
    student = begin_student(  # before the materials: published weights may not be had
        run.student,
        len(names),
        profile.image_size,
        names=names,
        start=profile.start,
        dropout=profile.dropout,
        drop_path=profile.drop_path,
    )
    materials = prepare(profile, METHODS[run.method], runs_dir)
    steps = Steps(run, materials, accelerator.process_index, accelerator.num_processes)
    if METHODS[run.method].auxiliary_norm:
        add_auxiliary(student)
    return Loop(steps, student, folder, accelerator, service)


@contextlib.contextmanager
def _one_launch(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """A single process waits for whoever trains the run; of several, the first guards it for all and does not wait."""
    if not accelerator.is_main_process:
        yield
        return
    with contextlib.ExitStack() as guarded:
        try:
            guarded.enter_context(held(folder / ".lock", wait=accelerator.num_processes == 1))
        except Timeout:
            raise ValueError(f"{folder}: another launch is training this run; wait for it or end it") from None
        yield


def _agreed(value: bool, accelerator: Accelerator) -> bool:
    """The first process's answer, in all of them."""
    return bool(broadcast_object_list([value])[0]) if accelerator.num_processes > 1 else value


def _check_optimizer(name: str) -> None:
    """Raise a `ValueError` unless this optimizer of timm's can be used here; some need further packages."""
    try:
        made = create_optimizer_v2([nn.Parameter(torch.zeros(1))], name, 1e-3)
        if getattr(made, "is_second_order", False):
            raise ValueError("it wants second derivatives, which the loop does not take")
    except (AssertionError, ImportError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"optimizer {name!r} cannot be used here: {one_line(error)}") from None


@functools.cache
def _check_pass(name: str, image_size: int, count: int, dropout: float, drop_path: float) -> None:
    """Raise a `ValueError` unless a student can be built with these rates, and pass so many images while it trains."""
    try:
        student = Student(name, 2, image_size, dropout=dropout, drop_path=drop_path).to("meta")
        student(torch.empty(count, 3, image_size, image_size, device="meta"))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"student {name!r} cannot be trained on {count} images of {image_size} pixels at once "
            f"({one_line(error)}): take another image_size or student, a larger batch in fewer parts "
            "(accumulate), or no dropout or drop_path where it knows none"
        ) from None
