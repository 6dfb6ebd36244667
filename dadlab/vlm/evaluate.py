"""What a student of the second paper knows: seen labels, unseen ones, five shots, the geometry of its features.

The protocol of *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV
2023): seen labels are scored among the seen, unseen among the unseen; nothing is chosen on unseen ones. Values of
images are weighted so that their plain mean is mean per-class accuracy; where labels have equally many images, weights
are 1. In other styles, where a label may have no image at all, nothing is weighted: there the mean is over images.

On disk the shots are among the test images of unseen labels, so they are left out of whatever is measured with shots,
and, to be comparable, of the halves of Table 11. Zero-shot accuracies are means over the last epochs where the run asks
for it, as in the paper; what needs shots or asks for geometry, the halves of Table 11 and other styles are measured on
the last weights alone.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dadlab.ahead import local_device
from dadlab.claims import held
from dadlab.files import kept_arrays
from dadlab.students import Student
from dadlab.vlm.geometry import inversions, relative_hits, shared_neighbours, squared_distances
from dadlab.vlm.label_texts import FixedTexts, LearntLabels, Texts, label_texts
from dadlab.vlm.material import (
    Sources,
    after_shots_test,
    caption_features,
    dataset_for,
    drawings,
    labels_for,
    of_labels,
    rows_of_labels,
    seen_tests,
    sources,
    teacher_of,
)
from dadlab.vlm.openvocab import Label, load_shift
from dadlab.vlm.run import AlignRun
from dadlab.vlm.train import Loop, train_aligned
from dadlab.vlm.zero_shot import (
    Encoder,
    class_balanced,
    correct_by_scores,
    image_features,
    memory_features,
    retrieval_scores,
)

SHOT_STEPS = 60  # about fourteen passes over the shots at 64 a step
SHOT_RATE = 0.06  # peak rate as a share of training's: the paper's .003 of .05, for ResNets
SHOT_RATE_VIT = 0.5  # on disk, for the recipe of ViTs: the paper's 1e-4 of 2e-4
SHOT_EPOCHS = 20  # on disk, over seen images and shots, as in the released code
GEOMETRY = ("train", "ood")
_TEACHERS = ("teacher", "data", "image_size", "limit")  # what the teacher's own features depend on
SHIFTS = ("context", "rendition")
PLAIN, FEW_SHOT, HALVES, SHIFTED, TEACHER = (
    f"measured/{name}.npz" for name in ("plain", "few-shot", "halves", "shifted", "teacher-shifted")
)
Values = dict[str, np.ndarray]


def measure_aligned(run: AlignRun, runs_dir: Path) -> Values:
    """Train a run if need be and test it; kept in its folder.

    Args:
        run: what to measure.
        runs_dir: where runs live.

    Returns:
        Values (N,) of single photographs: correctness, averaged over drawings, on `val`, `id` and `ood`, and with five
        shots a label as `5-shot`, by fine-tuning, and `retrieval`. Of single images, on `train` and `ood`: `distance`,
        `M_rel`, `M_neigh 3` and so on, `M_vlalign 2` and so on, each with the split's name behind it. What a closed-set
        classifier cannot answer is left out.
    """
    home = run.folder(runs_dir)
    found = kept_arrays(home / PLAIN, lambda: _measure(run, runs_dir))
    return found | kept_arrays(
        home / FEW_SHOT, lambda: {"5-shot": after_shots(run, runs_dir, labels_for(run, "ood"))["tuned"]}
    )


def measure_halves(run: AlignRun, runs_dir: Path) -> Values:
    """Table 11: unseen labels in halves, each scored among itself, before and after shots of the first half alone.

    Halves take turns through the labels, so that either has all garments and colours.
    """

    def measure() -> Values:
        unseen = labels_for(run, "ood")
        first, second = unseen[::2], unseen[1::2]
        before = _split_by_half(run, runs_dir, first, second)
        after = after_shots(run, runs_dir, first, second)
        named = {"zero-shot first half": before[0], "zero-shot second half": before[1]}
        return named | {"after shots first half": after["tuned"], "after shots second half": after["others"]}

    return kept_arrays(run.folder(runs_dir) / HALVES, measure)


def measure_shifted(run: AlignRun, runs_dir: Path) -> Values:
    """Values (N,) of single photographs on `val`, `id` and `ood`, and of the embedded benchmark in other styles.

    The latter, for each of `SHIFTS`, are keyed as `id rendition` and `ood rendition`. Kept in the run's folder.
    """
    return kept_arrays(run.folder(runs_dir) / SHIFTED, lambda: _everywhere(run, *train_aligned(run, runs_dir)))


def teacher_values(run: AlignRun, runs_dir: Path) -> Values:
    """What `measure_shifted` gives, of the teacher in the student's place with the run's label texts; kept too."""

    def measure() -> Values:
        teacher = teacher_of(run)
        return _everywhere(run, teacher.features, label_texts(run, teacher, labels_for(run, "train")))

    return kept_arrays(run.folder(runs_dir) / TEACHER, measure)


def _everywhere(run: AlignRun, encode: Encoder, texts: Texts) -> Values:
    """On the splits as they are, and for the embedded benchmark in other styles, photograph by photograph."""
    found = {split: _on(run, encode, texts, split) for split in (*seen_tests(run), "ood")}
    for style, split in itertools.product(() if run.on_disk else SHIFTS, ("id", "ood")):
        dataset = load_shift(style, seen=split == "id", naming=run.naming, limit=run.limit)
        scores = image_features(_reader(encode), dataset) @ texts.of(labels_for(run, split)).cpu().T
        found[f"{split} {style}"] = correct_by_scores(scores, dataset.labels).float().numpy()
    return found


def after_shots(
    run: AlignRun, runs_dir: Path, labels: Sequence[Label], others: Sequence[Label] = ()
) -> dict[str, np.ndarray]:
    """Fine-tune a run's student on 5 images of each given unseen label: half of every batch, the rest seen images.

    Its losses and texts stay as they were, over seen labels and the given ones together.

    Returns:
        `tuned`: values of the test photographs of `labels`, scored among these; `others`, where some are given: those
        of other unseen labels by the same student, which was shown none of their images, scored among themselves.
    """
    student, texts = train_aligned(run, runs_dir)
    known, teacher = labels_for(run, "train"), teacher_of(run)
    every = [*known, *labels]
    if isinstance(texts, LearntLabels):
        wider: Texts = LearntLabels(run, teacher.text_features.shape[1], every, texts)
    elif isinstance(texts, FixedTexts):  # shuffled ones stay among the labels that are scored together
        wider = texts.joined(labels)
    else:
        wider = label_texts(run, teacher, every)
        wider.load_state_dict(texts.state_dict())
    seen = sources(run, dataset_for(run, "train"), runs_dir, caption_features(run, "train"))
    folder = run.folder(runs_dir) / f"shots-{len(labels)}"
    with held(folder / ".lock"):
        shots = _shots(run, labels, len(known), runs_dir)
        images = len(seen.dataset) + len(shots.dataset)
        steps = max(1, SHOT_EPOCHS * images // run.batch) if run.on_disk else SHOT_STEPS
        loop = Loop(run, student, wider, every, seen, folder, beside=shots, steps=steps, lr=shot_rate(run))
        loop.fit()
        loop.checkpoint.unlink(missing_ok=True)
    found = {"tuned": _among(run, student, wider, labels)}
    return found | ({"others": _among(run, student, wider, others)} if others else {})


def shot_rate(run: AlignRun) -> float:
    """Peak learning rate of fine-tuning on shots; on disk the paper's, for its ViTs a larger share of training's."""
    return run.lr * (SHOT_RATE_VIT if run.on_disk and run.recipe == "one-cycle" else SHOT_RATE)


def _measure(run: AlignRun, runs_dir: Path) -> Values:
    student, texts = train_aligned(run, runs_dir)
    closed = isinstance(texts, LearntLabels)
    last = [(student, texts), *(train_aligned(run, runs_dir, before=k) for k in range(1, min(run.last, run.epochs)))]
    tests = (*seen_tests(run), *(() if closed else ("ood",)))
    found = {split: np.mean([_on(run, *trained, split) for trained in last], 0) for split in tests}
    if closed:
        return found
    shots = dataset_for(run, "shots", drawing=run.seed)
    memory, text = memory_features(_reader(student), shots), texts.of(labels_for(run, "ood")).cpu()
    rights = []
    for drawing in drawings(run):
        dataset = dataset_for(run, after_shots_test(run), drawing=drawing)
        scores = retrieval_scores(image_features(_reader(student), dataset), text, memory, shots.labels)
        rights.append(class_balanced(correct_by_scores(scores, dataset.labels), dataset.labels))
    found["retrieval"] = _averaged(rights)
    for split in GEOMETRY:
        found |= _geometry(run, student, texts, split)
    return found


def _geometry(run: AlignRun, student: Student, texts: Texts, split: str) -> Values:
    dataset, seen_by = dataset_for(run, split), {name: getattr(run, name) for name in _TEACHERS}
    ours, theirs = image_features(_reader(student), dataset), _teacher_features(AlignRun(**seen_by), split)
    text = texts.of(labels_for(run, split)).cpu()
    named = {"distance": squared_distances(ours, theirs), "M_rel": relative_hits(ours, theirs)}
    named |= {f"M_neigh {k}": shared / k for k, shared in shared_neighbours(ours, theirs).items()}
    named |= {f"M_vlalign {k}": swapped for k, swapped in inversions(ours, theirs, text).items()}
    return {f"{name} {split}": values.float().cpu().numpy() for name, values in named.items()}


@functools.lru_cache(maxsize=4)
def _teacher_features(run: AlignRun, split: str) -> Tensor:
    return image_features(_reader(teacher_of(run).features), dataset_for(run, split))


def _reader(encode: Encoder) -> Encoder:
    """Images and features on the CPU, what is between on a GPU where there is one."""
    device = local_device()
    if isinstance(encode, nn.Module):
        encode.to(device)
    return lambda images: encode(images.to(device)).float().cpu()


def _on(run: AlignRun, encode: Encoder, texts: Texts, split: str) -> np.ndarray:
    """Correctness (N,) of a split's photographs, averaged over drawings."""
    text = texts.of(labels_for(run, split)).cpu()
    return _averaged([_right(run, encode, text, split, drawing) for drawing in drawings(run)])


def _right(run: AlignRun, encode: Encoder, text: Tensor, split: str, drawing: int) -> Tensor:
    dataset = dataset_for(run, split, drawing=drawing)
    return class_balanced(
        correct_by_scores(image_features(_reader(encode), dataset) @ text.T, dataset.labels), dataset.labels
    )


def _split_by_half(run: AlignRun, runs_dir: Path, *halves: Sequence[Label]) -> list[np.ndarray]:
    student, texts = train_aligned(run, runs_dir)
    return [_among(run, student, texts, half) for half in halves]


def _among(run: AlignRun, student: Student, texts: Texts, labels: Sequence[Label]) -> np.ndarray:
    """Correctness of the unseen test photographs of some labels, scored among these."""
    text, rights = texts.of(labels).cpu(), []
    for drawing in drawings(run):
        every = dataset_for(run, after_shots_test(run), drawing=drawing)
        dataset = of_labels(every, labels_for(run, "ood"), labels)
        right = correct_by_scores(image_features(_reader(student), dataset) @ text.T, dataset.labels)
        rights.append(class_balanced(right, dataset.labels))
    return _averaged(rights)


def _shots(run: AlignRun, labels: Sequence[Label], first: int, runs_dir: Path) -> Sources:
    shots, told = dataset_for(run, "shots", drawing=run.seed), caption_features(run, "shots")
    rows, numbers = rows_of_labels(shots, labels_for(run, "ood"), labels, first)
    few = replace(shots.take(rows), labels=numbers)
    return sources(run, few, runs_dir, None if told is None else told[rows])


def _averaged(rights: Sequence[Tensor]) -> np.ndarray:
    return torch.stack(list(rights)).float().mean(0).cpu().numpy()
