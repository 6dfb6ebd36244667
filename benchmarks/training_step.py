"""Seconds a training step: plain, KD and DAD at the same batch, side by side, and the teacher that the cache saves.

python -m benchmarks.training_step                                          (the embedded benchmark, CPU)
python -m benchmarks.training_step --shapes imagenet --student resnet50     (224 × 224 JPEGs, random weights, a GPU)
python -m benchmarks.training_step --shapes imagenet --student vit_base_patch16_224

With shapes, samples are read from WebP, as a training at full size reads them. `--out …` writes JSON. Methods take
turns, seed after seed, so that a busy machine slows all of them; the first epoch of a run, which warms up, does not
count. Beside the seconds: the share of them spent waiting for data, the memory, the operations that take most of the
time, and what a DAD step would cost if, as in the released code, the teacher ran on every image of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import stand_ins
from benchmarks.inside import STEPS, inside
from dadlab.ahead import local_device
from dadlab.compute import precision
from dadlab.data import training_split
from dadlab.discretizer import load_discretizer
from dadlab.files import write_json
from dadlab.generate import generate
from dadlab.loop import Service
from dadlab.materials import store_folder, teacher_of
from dadlab.pixels import write_images
from dadlab.profile import Profile, make_profile
from dadlab.provenance import made_by
from dadlab.run import Run
from dadlab.samples import images_folder
from dadlab.steps import epoch_order
from dadlab.tables.timing import ready
from dadlab.teacher import load_teacher
from dadlab.train import train

METHODS = ("plain", "kd", "dad")
SHAPES: dict[str, Callable[[Path, int], dict[str, Any]]] = {"imagenet": stand_ins.imagenet}
LARGE = {"student": "resnet50", "limit": 4096, "image_size": 224, "batch": 256, "seeds": 1}  # unless told otherwise


def seconds_a_step(run: Run, folder: Path, steps: int, workers: int) -> tuple[float, float]:
    """Median over a run's epochs but the first: seconds a step, and the share of them spent waiting for data."""
    train(run, folder, Service(workers=workers))
    lines = [json.loads(line) for line in (run.folder(folder) / "loss.jsonl").read_text().splitlines()][1:]
    seconds = median(line["seconds"] for line in lines)
    return seconds / steps, median(line["waiting"] for line in lines) / seconds


def teacher_seconds(profile: Profile, repeats: int = 10) -> float:
    """Seconds that the teacher needs for the images of one DAD step, in the precision of the cache."""
    data = training_split(profile)
    device = local_device()
    teacher = load_teacher(profile.teacher, data.classes).to(device)
    rows = torch.arange(2 * profile.batch) % len(data)
    images, taken = data.images(rows).to(device), []
    with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        for _ in range(repeats):
            started = time.perf_counter()
            teacher(images).argmax(1).cpu()
            taken.append(time.perf_counter() - started)
    return median(taken)


def inside_step(run: Run, folder: Path) -> dict[str, Any]:
    """Memory and longest operations of a run's step, batches already read."""
    loop = ready(run, folder)
    batches = iter([loop.steps[step % len(loop.steps)] for step in range(STEPS + 1)])
    return inside(lambda: float(loop.learn(next(batches))))


def write_samples(profile: Profile, folder: Path) -> None:
    """Make the profile's store and write its samples as WebP where trainings look for them."""
    clean = training_split(profile)
    teacher, q = teacher_of(profile, clean.classes), load_discretizer(profile.discretizer).to(local_device())
    store = store_folder(clean, profile, folder)
    generate(clean, teacher, q, profile.attack, store, variants=profile.variants)
    write_images(store, q, clean.classes, images_folder(store))


def compare(profile: Profile, student: str, seeds: int, workers: int, folder: Path) -> dict[str, Any]:
    """All that the result says beside where it comes from."""
    count = len(training_split(profile))
    steps = len(epoch_order(torch.arange(count)[:, None], profile.batch, 0, 0))
    runs = {(method, seed): Run(profile, method, student, seed) for seed in range(seeds) for method in METHODS}
    found = {key: seconds_a_step(run, folder, steps, workers) for key, run in runs.items()}
    step = {method: median(found[method, seed][0] for seed in range(seeds)) for method in METHODS}
    ratios = [found["dad", seed][0] / found["plain", seed][0] for seed in range(seeds)]
    return {
        "steps an epoch": steps,
        "precision": precision(),
        "seconds a step": {method: round(value, 5) for method, value in step.items()},
        "photographs a second": {method: round(profile.batch / value, 1) for method, value in step.items()},
        "waiting for data": {m: round(median(found[m, seed][1] for seed in range(seeds)), 3) for m in METHODS},
        "dad over plain": round(median(ratios), 3),
        "dad over plain, teacher in every step": round((step["dad"] + teacher_seconds(profile)) / step["plain"], 3),
        "inside a step": {method: inside_step(runs[method, 0], folder) for method in METHODS},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print, and write where told to."""
    parser = argparse.ArgumentParser("python -m benchmarks.training_step", description="training steps, side by side")
    parser.add_argument("--shapes", choices=SHAPES, help="stand-ins made here, in place of data, teacher, discretizer")
    texts = {"data": "fashion", "student": "resnet_s", "teacher": "resnet", "discretizer": "studio"}
    numbers = {"limit": 640, "image-size": 32, "batch": 32, "epochs": 4, "seeds": 5, "workers": -1}
    for name, default in {**texts, **numbers}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--runs-dir", type=Path, help="keep materials here; otherwise they are made and forgotten")
    parser.add_argument("--note", default="", help="what else the reader should know, such as load on the machine")
    parser.add_argument("--out", type=Path)
    if parser.parse_known_args(arguments)[0].shapes:
        parser.set_defaults(**LARGE)
    given = vars(parser.parse_args(arguments))
    shapes, note, out, kept = (given.pop(name) for name in ("shapes", "note", "out", "runs_dir"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = kept or Path(temporary)
        settings = {name: value for name, value in given.items() if name not in ("student", "seeds", "workers")}
        made = SHAPES[shapes](Path(temporary), given["limit"]) if shapes else {}
        profile = make_profile(**{**settings, **made}, views=1)
        if shapes:
            write_samples(profile, folder)
        found = compare(profile, given["student"], given["seeds"], given["workers"], folder)
    told = {name: value for name, value in given.items() if name not in made}
    result = {
        **made_by("benchmarks.training_step", arguments),
        "note": note,
        "settings": {"shapes": f"{shapes}, random weights" if shapes else "as given", **told},
        **found,
    }
    print(json.dumps(result, indent=1))
    if out:
        write_json(out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
