"""Two students on one shift: their answers, and where they part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from dadlab.dataset import Dataset
from dadlab.evaluate import correct
from dadlab.students import Student
from dadlab.widgets import pairs
from dadlab.widgets.pairs import GROUPS, Pair

PAIR = Pair(
    first=np.array([True, True, False, False]),
    second=np.array([True, False, True, False]),
    guesses=(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 0, 1, 2])),
    labels=torch.tensor([0, 1, 1, 1]),
)


def test_every_sample_is_in_one_group() -> None:
    assert [PAIR.group(name).tolist() for name in GROUPS] == [[2], [1], [3], [0]]


def test_confusion_counts_what_the_second_says_more_often() -> None:
    assert PAIR.confusion(3).tolist() == [[0, 0, 0], [1, 0, -1], [0, 0, 0]]


def test_the_classes_that_change_most_are_shown() -> None:
    change = np.zeros((30, 30), int)
    change[20, 7], change[3, 3] = 5, 100
    shown = pairs.most_changed(change)
    assert len(shown) == 12
    assert {7, 20} <= set(shown.tolist())
    assert shown.tolist() == sorted(shown.tolist())


def test_a_student_answers_among_the_labels_of_the_split(tiny_student: Student, photos40: Dataset) -> None:
    """As in the evaluation that the view compares with."""
    named = set(pairs.guesses(tiny_student, photos40).tolist())
    among = tuple(label for label in range(10) if label not in named)[:2]
    split = replace(photos40, among=among)
    found = pairs.guesses(tiny_student, split)
    assert set(found.tolist()) <= set(among)
    assert torch.equal(found == split.labels, correct(tiny_student, split))
