"""What each process of tests/test_distributed.py does: trains some runs together, then tests a fixed student."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from dadlab.data import load_split
from dadlab.evaluate import correct
from dadlab.files import write_json
from dadlab.loop import Service
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.students import Student
from dadlab.train import train


def work(settings: list[dict], folder: Path) -> None:
    """Curves and logits of every run, and a fixed student's verdict on 37 samples, as this process sees them."""
    torch.set_num_threads(1)
    photos, found = load_split("fashion", "val", limit=40), []
    for options in settings:
        run = Run(make_profile(**options["profile"]), options["method"], options["student"])
        student = train(run, folder, Service(checkpoint_seconds=0))
        curve = [json.loads(line) for line in (run.folder(folder) / "loss.jsonl").read_text().splitlines()]
        with torch.inference_mode():
            logits = student(photos.images(torch.arange(40)))
        found.append({"loss": [line["loss"] for line in curve], "logits": logits.tolist()})
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.manual_seed(0)
    right = correct(Student("resnet_s", 10).eval(), photos.take(torch.arange(37)), batch=4)
    write_json(folder / f"found-{rank}.json", {"runs": found, "right": right.tolist()})
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    work(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
