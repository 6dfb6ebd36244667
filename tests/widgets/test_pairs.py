"""Two students on one shift: their answers, and where they part."""

from __future__ import annotations

from dataclasses import replace

import torch

from dadlab.data import Dataset
from dadlab.evaluate import correct
from dadlab.students import Student
from dadlab.widgets import pairs


def test_a_student_answers_among_the_labels_of_the_split(tiny_student: Student, photos40: Dataset) -> None:
    """As in the evaluation that the view compares with."""
    named = set(pairs.guesses(tiny_student, photos40).tolist())
    among = tuple(label for label in range(10) if label not in named)[:2]
    split = replace(photos40, among=among)
    found = pairs.guesses(tiny_student, split)
    assert set(found.tolist()) <= set(among)
    assert torch.equal(found == split.labels, correct(tiny_student, split))
