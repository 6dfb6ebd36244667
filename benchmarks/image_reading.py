"""How many training images a second this machine reads at 224 × 224: photographs, AugReg's mixtures, stored samples.

python -m benchmarks.image_reading                  (a second of one core's time)
python -m benchmarks.image_reading --workers 16     (a second of the clock, with as many processes as a training has)

Photographs are JPEGs of 500 × 375, of which a view decodes all and resizes a random crop; stored samples are lossless
WebPs of 224 × 224. Both are smooth noise, about as many bytes as the real ones.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.generation import noise
from benchmarks.stand_ins import PHOTOGRAPH, write_photographs
from dadlab.ahead import ahead
from dadlab.augreg import AugRegViews, augreg_views, pairing
from dadlab.data import open_split
from dadlab.dataset import Dataset
from dadlab.discretizer import Identity
from dadlab.files import write_json
from dadlab.fingerprints import module_fingerprint
from dadlab.pixels import write_images
from dadlab.provenance import made_by
from dadlab.samples import image_samples
from dadlab.store import open_store, write_shard

SIZE, BATCH, CLASSES = 224, 32, ("first", "second")


def measure(folder: Path, count: int, workers: int) -> dict[str, Any]:
    """Images a second and bytes an image of each kind of training image."""
    write_photographs(folder / "data" / "train", count, CLASSES, PHOTOGRAPH)
    photographs, stored = open_split(str(folder / "data"), "train", SIZE), stored_images(folder, count)
    datasets = {
        "photographs": photographs,
        "photographs with AugReg strong2": augreg_views(photographs, "strong2"),
        "stored samples": stored,
        "stored samples with AugReg strong2": augreg_views(stored, "strong2"),
    }
    files = {"photographs": (folder / "data").rglob("*.jpg"), "stored samples": (folder / "images").glob("*.arrow")}
    return {
        "images a second": {name: round(images_a_second(data, workers), 1) for name, data in datasets.items()},
        "bytes an image": {name: round(sum(p.stat().st_size for p in found) / count) for name, found in files.items()},
    }


def stored_images(folder: Path, count: int) -> Dataset:
    """What a training reads of a store that `dadlab.pixels` has written as images."""
    data, q = noise(count, SIZE, len(CLASSES)), Identity()
    store = open_store(folder / "store", 1, {"discretizer": module_fingerprint(q)})
    same = {"accepted": True, "reason": "kept", "variant": 0, "distance": 0.0, "logits": None, "codes": None}
    columns = {name: [value] * count for name, value in same.items()}
    rows = {"index": list(range(count)), "label": data.labels.tolist(), "pixels": list(data.pixels.flatten(1).numpy())}
    write_shard(store, 0, {**columns, **rows})
    write_images(store.folder, q, CLASSES, folder / "images")
    return image_samples(folder / "images")


def images_a_second(dataset: Dataset | AugRegViews, workers: int) -> float:
    """Of a view's images, batch by batch as training asks for them: partners in a mixture come together.

    Processes that read ahead are started, and have given what they began with, before the clock is; then each reads
    some ten batches.
    """
    batches = pairing(len(dataset), 0).flatten().split(BATCH)
    batches *= max(1, -(-10 * workers // len(batches)))
    first = batches[: max(1, 2 * workers)]
    stream = ahead(functools.partial(dataset.images, view=0), [*first, *batches], workers)
    for _ in first:
        next(stream)
    clock = time.perf_counter if workers else time.process_time
    started = clock()
    images = sum(len(batch) for batch in stream)
    return images / (clock() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print, and write where told to."""
    parser = argparse.ArgumentParser("python -m benchmarks.image_reading", description="training images a second")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 reads here and counts one core's time")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.images, given.workers)
    result = {**made_by("benchmarks.image_reading", arguments), "workers": given.workers, **found}
    print(json.dumps(result, indent=1))
    if given.out:
        write_json(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
