"""What a run trains on and is tested on: the embedded benchmark, or one of the paper's data sets on disk.

Labels on disk have their class name alone, and a description where the run names a file of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dadlab.dataset import Dataset
from dadlab.vlm import openvocab
from dadlab.vlm.benchmarks import Listing, listing, load_benchmark
from dadlab.vlm.language import read_descriptions
from dadlab.vlm.openvocab import Label
from dadlab.vlm.run import AlignRun

DRAWINGS = 4  # of every test photograph of the embedded benchmark


def labels_for(run: AlignRun, split: str) -> list[Label]:
    """The labels of a split, in the order of its classes.

    Raises:
        ValueError: data that are not there; descriptions that do not fit all labels, seen and unseen.
    """
    if not run.on_disk:
        return openvocab.labels_of(split)
    return [_labels(run.data, run.descriptions)[k] for k in listing(run.data).split.classes(split)]


@functools.lru_cache(maxsize=4)
def _labels(data: str, descriptions: str) -> list[Label]:
    found = listing(data)
    told = read_descriptions(Path(descriptions), _used(found)) if descriptions else {}
    seen = set(found.split.seen)
    return [Label(name, name, k in seen, told.get(name, "")) for k, name in enumerate(found.names)]


def _used(found: Listing) -> list[str]:
    return [found.names[k] for k in (*found.split.seen, *found.split.unseen)]


def dataset_for(run: AlignRun, split: str, *, drawing: int = 0) -> Dataset:
    """A split's images; a drawing number draws those of the embedded benchmark anew and does nothing to photographs."""
    if run.on_disk:
        return load_benchmark(run.data, split, image_size=run.image_size, limit=run.limit)
    return openvocab.load_open(split, naming=run.naming, drawing=drawing, limit=run.limit)


def drawings(run: AlignRun) -> range:
    """Drawings of the same test images that are averaged."""
    return range(1 if run.on_disk else DRAWINGS)


def seen_tests(run: AlignRun) -> tuple[str, ...]:
    """Test splits of seen labels."""
    return ("id",) if run.on_disk else ("val", "id")


def after_shots_test(run: AlignRun) -> str:
    """Test split of unseen labels once few shots are known: on disk these are taken from the test images."""
    return "rest" if run.on_disk else "ood"


def of_labels(dataset: Dataset, every: Sequence[Label], labels: Sequence[Label], first: int = 0) -> Dataset:
    """The images of some of all labels of a dataset, which are numbered anew from `first` on."""
    place = {label: k for k, label in enumerate(every)}
    number = torch.full((len(place),), -1)
    number[[place[label] for label in labels]] = torch.arange(len(labels)) + first
    numbers = number[dataset.labels]
    kept = dataset.take((numbers >= 0).nonzero()[:, 0])
    return replace(kept, labels=numbers[numbers >= 0])
