"""Seconds a training step: plain, KD and DAD at the same batch, side by side, and the teacher that the cache saves.

`python -m benchmarks.training_step --out …` writes them as JSON. Methods take turns, seed after seed, so
that a busy machine slows all of them; the first epoch of a run, which warms up, does not count. The last line of the
result is what a DAD step would cost if, as in the released code, the teacher ran on every image of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from dadlab.ahead import local_device
from dadlab.data import load_split
from dadlab.files import write_json
from dadlab.loop import Service
from dadlab.profile import Profile, make_profile
from dadlab.results import commit, machine
from dadlab.run import Run
from dadlab.steps import epoch_order
from dadlab.teacher import load_teacher
from dadlab.train import train

METHODS = ("plain", "kd", "dad")


def seconds_a_step(run: Run, folder: Path, steps: int, workers: int) -> tuple[float, float]:
    """Median over a run's epochs but the first: seconds a step, and the share of them spent waiting for data."""
    train(run, folder, Service(workers=workers))
    lines = [json.loads(line) for line in (run.folder(folder) / "loss.jsonl").read_text().splitlines()][1:]
    seconds = median(line["seconds"] for line in lines)
    return seconds / steps, median(line["waiting"] for line in lines) / seconds


def teacher_seconds(profile: Profile, repeats: int = 10) -> float:
    """Seconds that the teacher needs for the images of one DAD step."""
    data = load_split(profile.data, profile.train, image_size=profile.image_size, limit=profile.limit)
    teacher = load_teacher(profile.teacher, data.classes).to(local_device())
    rows = torch.arange(2 * profile.batch) % len(data)
    images, taken = data.images(rows).to(local_device()), []
    with torch.inference_mode():
        for _ in range(repeats):
            started = time.perf_counter()
            teacher(images).argmax(1).cpu()
            taken.append(time.perf_counter() - started)
    return median(taken)


def main() -> None:
    """Measure and print, and write where told to."""
    parser = argparse.ArgumentParser("benchmarks.training_step", description=__doc__.splitlines()[0])
    for name, default in (
        ("data", "fashion"),
        ("student", "resnet_s"),
        ("teacher", "resnet"),
        ("discretizer", "studio"),
    ):
        parser.add_argument(f"--{name}", default=default)
    for name, default in (
        ("limit", 640),
        ("image-size", 32),
        ("batch", 32),
        ("epochs", 4),
        ("seeds", 5),
        ("workers", -1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--runs-dir", type=Path, help="keep materials here; otherwise they are made and forgotten")
    parser.add_argument("--out", type=Path)
    given = vars(parser.parse_args())
    student, seeds, workers, out, kept = (given.pop(n) for n in ("student", "seeds", "workers", "out", "runs_dir"))
    profile = make_profile(**given, views=1)
    count = len(load_split(profile.data, profile.train, image_size=profile.image_size, limit=profile.limit))
    steps = len(epoch_order(torch.arange(count)[:, None], profile.batch, 0, 0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = kept or Path(temporary)
        found = {
            (method, seed): seconds_a_step(Run(profile, method, student, seed), folder, steps, workers)
            for seed in range(seeds)
            for method in METHODS
        }
    step = {method: median(found[method, seed][0] for seed in range(seeds)) for method in METHODS}
    teacher = teacher_seconds(profile)
    result = {
        "command": " ".join(["python -m benchmarks.training_step", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "settings": {**given, "student": student, "seeds": seeds, "steps an epoch": steps},
        "seconds a step": {method: round(value, 5) for method, value in step.items()},
        "waiting for data": {m: round(median(found[m, seed][1] for seed in range(seeds)), 3) for m in METHODS},
        "dad over plain": round(median(found["dad", s][0] / found["plain", s][0] for s in range(seeds)), 3),
        "dad over plain, teacher in every step": round((step["dad"] + teacher) / step["plain"], 3),
    }
    print(json.dumps(result, indent=1))
    if out:
        write_json(out, result)


if __name__ == "__main__":
    main()
