"""What Table 1 asks for at full scale: hours and disk, estimated from counted work and measured bytes.

python -m benchmarks.imagenet_budget --out papers/dad/results/imagenet_budget.json
python -m benchmarks.imagenet_budget --generation generation.json --steps resnet50.json vit.json     (your own speeds)

No GPU is used. Floating-point operations are counted at the true shapes, on tensors without content; bytes are those of
a store and a cache written here; `benchmarks.image_reading` says what a core reads. Hours are **estimated, not
measured**: counted work over an assumed share of a GPU's published peak, a low and a high one. Convolutions, and
ResNets above all, often stay below it. What `benchmarks.generation` and `benchmarks.training_step` have measured on a
GPU takes the assumption's place.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import image_reading
from benchmarks.imagenet_work import CLASSES, SIZE, STUDENTS, bytes_an_entry, work_an_image
from dadlab.cost import step_cost
from dadlab.files import write_json
from dadlab.methods import METHODS
from dadlab.profile import Profile
from dadlab.provenance import made_by
from dadlab.students import Student
from dadlab.tables.rows import Row, read_rows

PHOTOGRAPHS = 1_281_167
PEAKS = {"H200": 989.0, "A100": 312.0, "V100": 15.7}  # dense TFLOP/s, as published: bfloat16, or float32 without it
KEPT = 1.0  # share of the samples that the filter keeps: at most
Span = tuple[float, float]  # for the higher and the lower speed


def disk(each: Mapping[str, int], rows: Sequence[Row]) -> dict[str, float]:
    """Gigabytes of everything that Table 1 leaves behind, ImageNet itself apart."""
    cached = each["cached answer, all"] * Profile.views
    weights = sum(
        sum(p.numel() for p in Student(row.student, CLASSES, SIZE).parameters()) for row in rows if row.method
    )
    found = {
        "store": each["row of the store"] * PHOTOGRAPHS,
        "samples as WebP, at most": each["stored sample"] * PHOTOGRAPHS * KEPT,
        "teacher cache for one augmentation, at most": cached * PHOTOGRAPHS * (1 + KEPT),
        "teacher cache for both students, at most": 2 * cached * PHOTOGRAPHS * (1 + KEPT),
        "the table's students": 4 * weights,
    }
    return {name: round(value / 1e9, 1) for name, value in found.items()}


def hours(work: Mapping[str, float], speeds: Mapping[str, Span], rows: Sequence[Row], gpus: int) -> dict[str, Any]:
    """Hours of each step of Table 1, the fewest and the most.

    Args:
        work: GFLOP an image.
        speeds: TFLOP/s that a GPU sustains, the higher and the lower, in generation (`sample`) and with each student.
        rows: of the table.
        gpus: how many.
    """

    def span(kind: str, gflops: float, at_once: int = gpus) -> Span:
        fast, slow = (gflops * PHOTOGRAPHS / (1000 * speed * at_once * 3600) for speed in speeds[kind])
        return round(fast, 1), round(slow, 1)

    views = Profile.views
    once = {
        "samples": span("sample", work["sample"]),
        "samples as images, decoder, one GPU": span("sample", KEPT * work["decoder"], 1),
        "teacher cache for ViT-B/16": span("sample", (1 + KEPT) * views * work["teacher"]),
        "teacher cache for ResNet50": span("sample", (1 + KEPT) * views * work["teacher"]),
    }
    trainings: dict[str, Any] = {}
    for row in rows:
        if not row.method:
            trainings[row.key] = row.missing or "the teacher itself: evaluation alone"
            continue
        cost, epochs = step_cost(METHODS[row.method], row.run(0).profile), row.profile.epochs
        own = span(row.student, epochs * cost.forward * work[row.student])
        beside = cost.discretizer * work["discretizer"] + cost.transfer * work["transfer"]
        online = span("sample", epochs * beside)
        trainings[row.key] = tuple(round(a + b, 1) for a, b in zip(own, online, strict=True))
    found = [entry for entry in (*once.values(), *trainings.values()) if not isinstance(entry, str)]
    return {"once": once, "rows": trainings, "all": [round(sum(each), 1) for each in zip(*found, strict=True)]}


def readers(work: Mapping[str, float], speeds: Mapping[str, Span], read: Mapping[str, float]) -> dict[str, list[float]]:
    """Cores a GPU needs, so that no DAD step waits for its images: a photograph and a stored sample are two passes."""
    found = {}
    for student, augreg in zip(STUDENTS, ("", " with AugReg strong2"), strict=True):
        core_seconds = 1 / read[f"photographs{augreg}"] + 1 / read[f"stored samples{augreg}"]
        found[student] = [round(1000 * speed / work[student] / 2 * core_seconds, 1) for speed in speeds[student]]
    return found


def measured(work: Mapping[str, float], generation: Path, steps: Sequence[Path]) -> dict[str, Span]:
    """TFLOP/s that the other benchmarks' results stand for.

    Raises:
        ValueError: a result is missing, or not of ImageNet's shapes.
    """
    made = json.loads(generation.read_text())
    if made["shapes"]["name"] != "imagenet":
        raise ValueError(f"{generation}: measured with --shapes {made['shapes']['name']}; imagenet is wanted")
    found = {"sample": made["images a second"]["dadlab"] * work["sample"] / 1000}
    for path in steps:
        step = json.loads(path.read_text())
        if step["settings"]["image_size"] != SIZE:
            raise ValueError(f"{path}: measured at {step['settings']['image_size']} pixels; {SIZE} are wanted")
        student = step["settings"]["student"]
        found[student] = step["photographs a second"]["plain"] * work[student] / 1000
    if missing := [name for name in ("sample", *STUDENTS) if name not in found]:
        raise ValueError(
            f"no measured step of {', '.join(missing)}: give a result of benchmarks.training_step for each"
        )
    return {name: (speed, speed) for name, speed in found.items()}


def tables(result: Mapping[str, Any]) -> str:
    """The guide's tables in Markdown: hours and gigabytes."""
    kinds, gpus = result["hours"], result["assumed"]["GPUs"]
    lines = [
        f"| hours, estimated | {' | '.join(f'{gpus} × {kind}' for kind in kinds)} |",
        "|---" * (1 + len(kinds)) + "|",
    ]
    for part in ("once", "rows"):
        for name in next(iter(kinds.values()))[part]:
            entries = [kind[part][name] for kind in kinds.values()]
            if not isinstance(entries[0], str):
                lines.append(f"| {name} | {' | '.join(f'{few:g} – {many:g}' for few, many in entries)} |")
    lines.append(f"| all of it | {' | '.join('{:.0f} – {:.0f}'.format(*kind['all']) for kind in kinds.values())} |")
    space = [f"| {name} | {size:g} |" for name, size in result["disk, GB"].items()]
    return "\n".join([*lines, "", "| disk | GB |", "|---|---|", *space]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, measure, estimate and print, and write where told to."""
    parser = argparse.ArgumentParser("python -m benchmarks.imagenet_budget", description="hours and disk of Table 1")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument(
        "--shares", type=float, nargs=2, default=[0.4, 0.2], help="of a GPU's peak, high and low: assumed"
    )
    parser.add_argument("--generation", type=Path, help="result of benchmarks.generation --shapes imagenet")
    parser.add_argument(
        "--steps", type=Path, nargs="+", default=[], help="results of benchmarks.training_step, likewise"
    )
    parser.add_argument("--images", type=int, default=256, help="images to read, for the speed of a core")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    work, rows = work_an_image(), read_rows(1, "imagenet")
    assumed = {name: tuple(round(peak * share, 1) for share in given.shares) for name, peak in PEAKS.items()}
    speeds = {name: dict.fromkeys(("sample", *STUDENTS), span) for name, span in assumed.items()}
    if given.generation:
        speeds = {"measured": measured(work, given.generation, given.steps)}
    with tempfile.TemporaryDirectory() as folder:
        each = bytes_an_entry(Path(folder) / "entries")
        read = image_reading.measure(Path(folder) / "images", given.images, workers=0)
    each |= {
        "photograph": read["bytes an image"]["photographs"],
        "stored sample": read["bytes an image"]["stored samples"],
    }
    result = {
        **made_by("benchmarks.imagenet_budget", arguments),
        "what": "hours are estimated, not measured, "
        + ("from measured speeds" if given.generation else "from assumed ones"),
        "assumed": {
            "photographs": PHOTOGRAPHS,
            "views": Profile.views,
            "share of samples kept": KEPT,
            "GPUs": given.gpus,
        },
        "GFLOP an image": work,
        "TFLOP/s of a GPU, the higher and the lower": speeds,
        "bytes": each,
        "images a second on one core of this machine": read["images a second"],
        "disk, GB": disk(each, rows),
        "hours": {name: hours(work, speed, rows, given.gpus) for name, speed in speeds.items()},
        "cores a GPU needs": {name: readers(work, speed, read["images a second"]) for name, speed in speeds.items()},
    }
    print(tables(result))
    if given.out:
        write_json(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
