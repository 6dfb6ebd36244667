"""Timing: seconds a training step of each method, as a multiple of a plain step (Zhou et al., 2023, Table 7).

Methods take turns in one process, so that whatever else the machine does touches all of them alike, and every round is
a process of its own, since memory lies differently in each; on a CPU its own seconds are counted, not the clock's. What
is made before training (samples, teacher logits) is not a step's cost; a method's own attack on the student is.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator
from torch.optim.lr_scheduler import LambdaLR

from dadlab.compute import precision
from dadlab.cost import step_cost
from dadlab.loop import Loop, Service
from dadlab.methods import METHODS
from dadlab.progress import track
from dadlab.run import Run
from dadlab.tables.measured import Measured, Values
from dadlab.tables.rows import Row
from dadlab.train import begin_training


def step_seconds(runs: Mapping[str, Run], runs_dir: Path, *, rounds: int = 8, steps: int = 5) -> pd.DataFrame:
    """Seconds a step, a line a round and a column a run; the median of a round's steps.

    Args:
        runs: name → run; samples and teacher logits that it needs are made first if missing.
        runs_dir: where those live.
        rounds: how many processes the methods take turns in, one process after the other.
        steps: of each method in a round, after as many that are not counted.

    Raises:
        ValueError: fewer than two rounds.
    """
    if rounds < 2:
        raise ValueError(f"rounds must be at least 2, got {rounds}")
    lines = []
    for _ in track(range(rounds), "rounds"):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            lines.append(process.submit(time_round, dict(runs), Path(runs_dir), steps).result())
    return pd.DataFrame(lines)


def time_round(runs: Mapping[str, Run], runs_dir: Path, steps: int) -> dict[str, float]:
    """One line of `step_seconds`, in this process."""
    learners = {name: _steps(run, runs_dir) for name, run in runs.items()}
    for learner in learners.values():
        _median(learner, steps)
    return {name: _median(learner, steps) for name, learner in learners.items()}


def budgets(seconds: pd.DataFrame, standard: str) -> pd.DataFrame:
    """Seconds as multiples of a standard method's in the same round.

    >>> budgets(pd.DataFrame({"plain": [1.0, 2.0], "dad": [2.0, 5.0]}), "plain")["dad"].tolist()
    [2.0, 2.5]
    """
    return seconds.div(seconds[standard], axis=0)


def _median(learner: Iterator[float], steps: int) -> float:
    return float(np.median([next(learner) for _ in range(steps)]))


def ready(run: Run, runs_dir: Path) -> Loop:
    """A run's training before its first step, in one process; its learning rate stays, so that it may go on and on."""
    accelerator = Accelerator(mixed_precision=precision())
    loop = begin_training(run, runs_dir, Path(runs_dir) / "timing", accelerator, Service())
    loop.schedule = LambdaLR(loop.optimizer, lambda step: 1.0)
    loop.model.train()
    return loop


def _steps(run: Run, runs_dir: Path) -> Iterator[float]:
    """Train on and on, yielding the seconds of every step."""
    loop = ready(run, runs_dir)
    clock = time.perf_counter if loop.accelerator.device.type == "cuda" else time.process_time
    for step in itertools.count():
        started = clock()
        float(loop.learn(loop.steps[step % len(loop.steps)]))  # waits for a GPU
        yield clock() - started


def timed(published: pd.DataFrame, rows: Sequence[Row], budgets: pd.DataFrame) -> Measured:
    """Table 7 from multiples of a standard step: rounds take the place of seeds.

    Attack steps are those on the student in a step; of a method on stored samples, those that each was made with.

    Args:
        published: the table.
        rows: its rows.
        budgets: from `budgets`, a column a row and a line a round.
    """
    turns, missing = range(len(budgets)), {row.key: row.missing for row in rows if row.missing}
    values: dict[str, Values] = {}
    for row in (row for row in rows if row.key in budgets):
        cells = {"Attack Steps": [_attack_steps(row)] * len(turns), "Training Budget": budgets[row.key]}
        values[row.key] = {
            column: {turn: np.array([value]) for turn, value in zip(turns, cell, strict=True)}
            for column, cell in cells.items()
        }
    return Measured(published, rows, list(turns), values, missing, scale=1.0, turns="rounds")


def _attack_steps(row: Row) -> int:
    method, profile = METHODS[row.method], row.run(0).profile
    return step_cost(method, profile).attack_steps or profile.attack.steps * method.stored
