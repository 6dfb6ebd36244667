"""Logits are kept, and right answers follow from them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from published_imagenet import WNIDS, picture, write_toy_imagenet

from dadlab import materials, results
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
    monkeypatch.setattr(answers, "teacher_of", None)  # asking again would fail
    assert np.array_equal(said, answers.teacher_logits(profile, tmp_path, "a"))


def test_a_command_asks_the_teacher_split_by_split(tmp_path, files, tiny_teacher, monkeypatch, capsys):
    """Killed in the second split, it keeps the first."""
    loaded, shared = [], json.dumps({"teacher": str(files["teacher"])})
    given = ["--shared", shared, "--runs-dir", str(tmp_path), "--splits", "a", "v2"]
    monkeypatch.setattr(
        answers, "teacher_of", lambda *_: tiny_teacher if loaded.append(0) or len(loaded) != 2 else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        answers.main(given)
    assert answers.main(given) == 0
    assert len(loaded) == 3
    right = correct(tiny_teacher, load_split("fashion", "v2"))
    told = f"v2: top-1 {100 * right.float().mean():.2f} % of {len(right):,}"
    assert capsys.readouterr().out.splitlines()[-1] == told
    profile = make_profile(teacher=str(files["teacher"]))
    assert all(answers.teacher_answered(profile, tmp_path, split) for split in ("a", "v2"))


def test_the_command_names_a_bad_split(tmp_path, capsys):
    assert answers.main(["--splits", "scetch", "--runs-dir", str(tmp_path)]) == 1
    assert "unknown split 'scetch'" in capsys.readouterr().err


def test_teacher_is_asked_again_where_images_came(tmp_path, files):
    """One's own folder has its old name."""
    profile = make_profile(data=str(tmp_path / "own"), teacher=str(files["teacher"]))
    for count in (1, 2):
        for name in map(str, range(10)):
            path = tmp_path / "own" / "val" / name / f"{count}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), "red").save(path)
        assert len(answers.teacher_correct(profile, tmp_path, "val")) == 10 * count
    assert answers.teacher_answered(profile, tmp_path, "val")
    assert not answers.teacher_answered(replace(profile, image_size=48), tmp_path, "val")


def test_another_teacher_of_the_same_name_is_asked_anew(tmp_path, files):
    file = tmp_path / "teacher.safetensors"
    shutil.copyfile(files["teacher"], file)
    profile = make_profile(teacher=str(file))
    answers.teacher_logits(profile, tmp_path, "a")
    assert answers.teacher_answered(profile, tmp_path, "a")
    file.write_bytes(b"other weights, of another length")
    assert not answers.teacher_answered(profile, tmp_path, "a")


def test_a_teacher_answers_among_the_labels_of_the_split(tmp_path, monkeypatch):
    whole = load_split("fashion", "a")
    some = replace(whole.take((whole.labels < 2).nonzero()[:, 0]), among=(0, 1))
    outside = np.where(np.arange(10) == 7, 9.0, 5.0 * np.eye(10)[some.labels])  # 7 before the true label
    monkeypatch.setattr(answers, "held_out", lambda *_: some)
    monkeypatch.setattr(answers, "teacher_logits", lambda *_: outside)
    assert answers.teacher_correct(make_profile(), tmp_path, "a").all()


def test_student_logits_are_those_of_its_weights(tmp_path, tiny_student, monkeypatch):
    monkeypatch.setattr(answers, "train", lambda run, runs_dir: tiny_student)
    said = answers.student_logits(Run(make_profile(), "plain"), tmp_path, "a")
    images = load_split("fashion", "a")
    assert (said.argmax(1) == images.labels.numpy()).tolist() == correct(tiny_student, images).tolist()
    assert said.shape == (len(images), 10)


def test_student_logits_of_images_that_have_changed_are_not_todays(toy_imagenet, tmp_path, monkeypatch):
    root = write_toy_imagenet(tmp_path / "data", corruptions=())
    run = Run(make_profile(data=f"imagenet:{root}", image_size=64), "plain")
    monkeypatch.setattr(answers, "train", lambda run, runs_dir: None)
    monkeypatch.setattr(answers, "_logits", lambda model, images: np.zeros((len(images), 10)))
    assert len(answers.student_logits(run, tmp_path, "val")) == 20
    picture(0, (96, 80)).save(root / "val" / WNIDS[0] / "late.JPEG")
    assert len(answers.student_logits(run, tmp_path, "val")) == 21


def test_teacher_under_corruption(tmp_path, files, monkeypatch):
    monkeypatch.setattr(results, "corrupted_errors", lambda model, clean, folder: {"fog": np.arange(len(clean)) % 2})
    profile = make_profile(teacher=str(files["teacher"]))
    first = answers.teacher_corrupted(profile, tmp_path)["fog"]
    assert (first.shape, first.mean()) == ((500,), 0.5)
    monkeypatch.setattr(results, "corrupted_errors", None)  # asking again would fail
    assert np.array_equal(answers.teacher_corrupted(profile, tmp_path)["fog"], first)


def test_teacher_is_loaded_once_for_published_corruptions(tmp_path, files, toy_imagenet, tiny_teacher, monkeypatch):
    loaded = []
    real = materials.load_teacher
    monkeypatch.setattr(materials, "load_teacher", lambda *named: loaded.append(named) or real(*named))
    materials._load_once.cache_clear()
    monkeypatch.setattr(answers, "CORRUPTIONS", ("fog", "snow"))
    data = f"imagenet:{toy_imagenet}"
    profile = make_profile(data=data, teacher=str(files["teacher"]))
    found = answers.teacher_corrupted(profile, tmp_path)
    assert len(loaded) == 1
    rates = [1 - correct(tiny_teacher, load_split(data, f"c/fog/{s}")).float().mean() for s in range(1, 6)]
    assert found["fog"].mean() == pytest.approx(float(np.mean(rates)))
    kept = [np.load(path) for path in (tmp_path / "teachers").rglob("*.npy")]
    assert len(kept) == 10
    assert {rows.dtype for rows in kept} == {np.dtype(bool)}, "no logits are kept of C"
