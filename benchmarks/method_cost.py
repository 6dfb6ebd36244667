"""What a training step of every method costs beside plain training: passes as declared, seconds as measured.

`python -m benchmarks.method_cost --out …` writes them as JSON. Methods take turns, step after step, so that a busy
machine slows all of them; the first turn, which warms up, does not count. CPU seconds are those to trust where other
programs run too. Batches are read before; a run's minutes are its steps times their CPU seconds (seconds on a GPU),
and a sweep is five seeds of every method and student, shared by two cores (or on one GPU). The teacher's passes are
those where the filter keeps every sample.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch

from dadlab.compute import precision
from dadlab.cost import step_cost, teacher_cost
from dadlab.data import training_split
from dadlab.files import write_json
from dadlab.loop import Loop
from dadlab.methods import METHODS
from dadlab.profile import Profile, make_profile, nearest
from dadlab.provenance import made_by
from dadlab.run import Run
from dadlab.tables.timing import ready


def supported(profile: Profile, methods: Sequence[str], student: str) -> dict[str, Run]:
    """Runs of the methods that can train this student."""
    found = {}
    for method in methods:
        try:
            found[method] = Run(profile, method, student)
        except ValueError as error:
            print(f"left out: {error}", flush=True)
    return found


def seconds(loop: Loop, turn: int) -> tuple[float, float]:
    """Seconds and CPU seconds of one step."""
    batches = loop.steps[turn % len(loop.steps)]
    started, processor = time.perf_counter(), time.process_time()
    float(loop.learn(batches))  # waits for a GPU
    return time.perf_counter() - started, time.process_time() - processor


def measure(runs: dict[str, Run], folder: Path, turns: int, steps: int) -> dict[str, dict]:
    """Passes, seconds and their ratio to plain's in the same turn, method by method."""
    loops = {method: ready(run, folder) for method, run in runs.items()}
    taken = [{method: seconds(loop, turn) for method, loop in loops.items()} for turn in range(turns + 1)][1:]
    clock = 0 if torch.cuda.is_available() else 1
    return {
        method: {
            **asdict(step_cost(METHODS[method], run.profile)),
            "seconds a step": round(median(turn[method][0] for turn in taken), 4),
            "CPU seconds a step": round(median(turn[method][1] for turn in taken), 4),
            "over plain": round(median(turn[method][clock] / turn["plain"][clock] for turn in taken), 2),
            "minutes a run": round(steps * median(turn[method][clock] for turn in taken) / 60, 1),
        }
        for method, run in runs.items()
    }


def sweep_hours(found: dict[str, dict[str, dict]]) -> float:
    """Hours that the steps of five seeds of all of it take on two cores, or on one GPU."""
    minutes = sum(method["minutes a run"] for methods in found.values() for method in methods.values())
    return round(minutes * 5 / 60 / (1 if torch.cuda.is_available() else 2), 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print, and write where told to."""
    parser = argparse.ArgumentParser("benchmarks.method_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--students", nargs="+", default=["resnet_s", "vit_s"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--profile", default="{}", help="fields of the profile, as JSON")
    parser.add_argument("--limit", type=int, default=64, help="photographs to draw batches from")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--note", default="")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    methods = dict.fromkeys(
        ["plain", *(nearest(name, dict.fromkeys(METHODS, name), "method") for name in given.methods)]
    )
    profile = make_profile(**json.loads(given.profile))
    few = make_profile(**{**json.loads(given.profile), "limit": given.limit, "views": 2})
    if len(training_split(few)) < profile.batch:
        parser.error(f"--limit {given.limit}: less than a batch of {profile.batch}, so a step would be timed short")
    data = training_split(profile)
    steps = max(1, len(data) // profile.batch) * profile.epochs
    found = {}
    for student in given.students:
        with tempfile.TemporaryDirectory() as folder:
            found[student] = measure(supported(few, list(methods), student), Path(folder), given.turns, steps)
    result = {
        **made_by("benchmarks.method_cost", arguments),
        "note": given.note,
        "precision": precision(),
        "steps a run": steps,
        "turns": given.turns,
        "students": found,
        "hours of a sweep": sweep_hours(found),
        "teacher, a photograph": {
            name: asdict(teacher_cost(METHODS[name], Run(profile, name).profile)) for name in methods
        },
    }
    print(json.dumps(result, indent=1))
    if given.out:
        write_json(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
