"""What a run trains on and is tested on: labels, images, and the teacher's features of their views.

Either the embedded benchmark or one of the paper's data sets on disk, whose labels have their class name alone, and a
description where the run names a file of them; likewise its images' captions.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dadlab.ahead import local_device
from dadlab.augreg import AugRegViews
from dadlab.cache import TeacherCache, cache_teacher
from dadlab.captions import CLASSES, ZERO_SHOT_TEMPLATES
from dadlab.dataset import Dataset
from dadlab.fingerprints import content_of
from dadlab.profile import AugReg
from dadlab.teacher import ClipTeacher, load_teacher
from dadlab.vlm import openvocab
from dadlab.vlm.benchmarks import listing, load_benchmark, rows_of
from dadlab.vlm.language import text_features
from dadlab.vlm.openvocab import Label
from dadlab.vlm.run import AlignRun
from dadlab.vlm.text_files import read_descriptions, read_image_captions
from dadlab.wrappers import Frozen

DRAWINGS = 4  # of every test photograph of the embedded benchmark


def labels_for(run: AlignRun, split: str) -> list[Label]:
    """The labels of a split, in the order of its classes.

    Raises:
        ValueError: data that are not there; descriptions that do not fit all labels, seen and unseen.
    """
    if not run.on_disk:
        return openvocab.labels_of(split)
    file = run.described_in
    labels = _labels(run.data, file, content_of(file) if file else "")
    return [labels[k] for k in listing(run.data).split.classes(split)]


@functools.lru_cache(maxsize=4)
def _labels(data: str, descriptions: str, content: str) -> list[Label]:
    found = listing(data)
    told = read_descriptions(Path(descriptions), found.names) if descriptions else {}
    seen = set(found.split.seen)
    return [Label(name, name, k in seen, told.get(name, "")) for k, name in enumerate(found.names)]


def captions_of(run: AlignRun, split: str) -> list[str]:
    """The caption of every image of a split on disk, in the order of `dataset_for`.

    Raises:
        ValueError: captions that do not fit the images of this split, or the shots; see `dadlab.vlm.text_files`.
    """
    names = listing(run.data).files.names
    told = _captions(run.data, run.captions, content_of(run.captions), split)
    return [told[names[row]] for row in rows_of(run.data, split, limit=run.limit)[0].tolist()]


@functools.lru_cache(maxsize=4)
def _captions(data: str, captions: str, content: str, split: str) -> dict[str, str]:
    found = listing(data)
    wanted = torch.cat([found.split.rows[part] for part in dict.fromkeys((split, "shots"))]).unique().tolist()
    return read_image_captions(Path(captions), [found.files.names[row] for row in wanted], found.files.names)


def caption_features(run: AlignRun, split: str) -> Tensor | None:
    """The teacher's features (N, D) of a split's captions, on the CPU, where the run's L_cap reads a file of them."""
    if not run.on_disk or "cap" not in run.terms:
        return None
    teacher = teacher_of(run)
    return text_features(teacher.clip, teacher.tokenizer, captions_of(run, split)).cpu()


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


def of_labels(dataset: Dataset, every: Sequence[Label], labels: Sequence[Label]) -> Dataset:
    """The images of some of all labels of a dataset, which are numbered anew from 0 on, in their order."""
    rows, numbers = rows_of_labels(dataset, every, labels, 0)
    return replace(dataset.take(rows), labels=numbers)


def rows_of_labels(
    dataset: Dataset, every: Sequence[Label], labels: Sequence[Label], first: int = 0
) -> tuple[Tensor, Tensor]:
    """Which images are of some of a dataset's labels.

    Args:
        dataset: the images.
        every: all its labels, in the order of its classes.
        labels: those asked for, numbered anew from `first` on, in the order given here.
        first: the first of the new numbers.

    Returns:
        The rows (N,) of these images, and their new labels (N,).
    """
    place = {label: k for k, label in enumerate(every)}
    number = torch.full((len(place),), -1)
    number[[place[label] for label in labels]] = torch.arange(len(labels)) + first
    numbers = number[dataset.labels]
    return (numbers >= 0).nonzero()[:, 0], numbers[numbers >= 0]


class FeatureTeacher(Frozen):
    """The teacher's image features (B, D), in logits' place in the cache."""

    def __init__(self, teacher: ClipTeacher):
        super().__init__()
        self.teacher = teacher
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return self.teacher.features(images)


@dataclass(frozen=True)
class Sources:
    """Images with the teacher's features of every view, and of their captions (N, D) where they have their own."""

    dataset: Dataset | AugRegViews
    cache: TeacherCache
    captions: Tensor | None = None

    def read(self, rows: Tensor, view: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W), labels (B,), teacher features (B, D) of a view."""
        images = self.dataset.images(rows, view).contiguous(memory_format=torch.channels_last)
        return images, self.dataset.labels[rows], self.cache(rows, view)


@functools.lru_cache(maxsize=1)
def _teacher(name: str, content: str) -> ClipTeacher:
    found = load_teacher(name, CLASSES, ZERO_SHOT_TEMPLATES)
    if not isinstance(found, ClipTeacher):
        raise ValueError(
            f"teacher {name!r} has no text encoder: choose resnet, vit, open_clip:MODEL/TAG or a file of "
            "dadlab.making.teacher"
        )
    return found.to(local_device())


def teacher_of(run: AlignRun) -> ClipTeacher:
    """The run's teacher.

    Raises:
        ValueError: it is no CLIP.
    """
    return _teacher(run.teacher, content_of(run.teacher))


def sources(run: AlignRun, dataset: Dataset, runs_dir: Path, captions: Tensor | None = None) -> Sources:
    """A dataset with the teacher's features of `run.views` views, made if missing, and with its images' captions."""
    teacher = teacher_of(run)
    columns = tuple(f"feature {k}" for k in range(teacher.text_features.shape[1]))
    plain = replace(dataset, classes=columns)
    shown = AugRegViews(plain, AugReg(layers=2, magnitude=run.magnitude)) if run.magnitude else plain
    cache = cache_teacher(shown, FeatureTeacher(teacher), Path(runs_dir) / "cache", views=run.views)
    return Sources(shown, cache, captions)
