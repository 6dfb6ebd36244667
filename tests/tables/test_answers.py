"""Logits are kept, and right answers follow from them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dadlab.data import load_split
from dadlab.evaluate import correct
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.tables import answers


def test_teacher_is_asked_once(tmp_path, files, tiny_teacher, monkeypatch):
    profile = make_profile(teacher=str(files["teacher"]))
    assert not answers.teacher_answered(profile, tmp_path, "a")
    said = answers.teacher_logits(profile, tmp_path, "a")
    right = answers.teacher_correct(profile, tmp_path, "a")
    assert right.tolist() == correct(tiny_teacher, load_split("fashion", "a")).tolist()
    assert answers.teacher_answered(profile, tmp_path, "a")
    monkeypatch.setattr(answers, "load_teacher", None)  # asking again would fail
    assert np.array_equal(said, answers.teacher_logits(profile, tmp_path, "a"))


def test_teacher_is_asked_again_where_images_came(tmp_path, files):
    """One's own folder has its old name."""
    profile = make_profile(data=str(tmp_path / "own"), teacher=str(files["teacher"]))
    for count in (1, 2):
        for name in map(str, range(10)):
            path = tmp_path / "own" / "val" / name / f"{count}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), "red").save(path)
        assert len(answers.teacher_correct(profile, tmp_path, "val")) == 10 * count


def test_student_logits_are_those_of_its_weights(tmp_path, tiny_student, monkeypatch):
    monkeypatch.setattr(answers, "train", lambda run, runs_dir: tiny_student)
    said = answers.student_logits(Run(make_profile(), "plain"), tmp_path, "a")
    images = load_split("fashion", "a")
    assert (said.argmax(1) == images.labels.numpy()).tolist() == correct(tiny_student, images).tolist()
    assert said.shape == (len(images), 10)


def test_teacher_under_corruption(tmp_path, files, monkeypatch):
    monkeypatch.setattr(answers, "corruption_errors", lambda model, clean, folder: {"fog": len(clean) / 1000})
    profile = make_profile(teacher=str(files["teacher"]))
    assert answers.teacher_corruptions(profile, tmp_path) == {"fog": 0.5}
    monkeypatch.setattr(answers, "corruption_errors", None)
    assert answers.teacher_corruptions(profile, tmp_path) == pytest.approx({"fog": 0.5})
