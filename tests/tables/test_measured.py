"""Measured tables, on made-up runs: nothing is trained here but a teacher of a few steps."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

from dadlab.estimates import accuracy, difference
from dadlab.tables import answers
from dadlab.tables import measured as module
from dadlab.tables.published import TABLES, load_table, with_all_classes
from dadlab.tables.record import record
from dadlab.tables.rows import NOT_YET, Row, read_rows
from dadlab.tables.view import styled
from dadlab.teacher import load_teacher
from tables.made_up import PROFILE, made_up


def test_a_trained_teacher_is_trained_once_and_named_by_its_file(monkeypatch, tmp_path):
    row = next(row for row in read_rows(9) if row.name == ("RN34", "RN50 + AugMix"))
    assert row.what == "kd, resnet_s, teacher: augmix, resnet_m"
    absent = module.with_teacher(row, tmp_path, train=False)
    assert absent.missing == "not run (teacher: augmix, resnet_m, seed 1000)"

    def train(run, runs_dir):
        (run.folder(runs_dir)).mkdir(parents=True)
        (run.folder(runs_dir) / "student.safetensors").write_text(f"{run.method} {run.seed}")

    monkeypatch.setattr(module, "train_run", train)
    ready = module.with_teacher(row, tmp_path, train=True)
    assert Path(ready.profile.teacher).read_text() == "augmix 1000"
    assert ready.run(0).fingerprint != row.run(0).fingerprint  # the file's content counts
    monkeypatch.setattr(module, "train_run", None)  # calling it would fail
    assert module.with_teacher(row, tmp_path, train=True) == ready


def test_a_discrete_vit_is_a_teacher_that_is_no_run(tmp_path):
    small = {"limit": 40, "epochs": 1, "batch": 8}
    (row,) = (row for row in read_rows(9, shared=small) if row.name == ("RN34", "DrViT-S"))
    assert row.what == "kd, resnet_s, teacher: discrete_vit, vit_s"
    ready = module.with_teacher(row, tmp_path, train=True)
    assert module.with_teacher(row, tmp_path, train=False) == ready
    assert ready.run(0).fingerprint != row.run(0).fingerprint
    assert load_teacher(ready.profile.teacher)(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_a_discrete_vit_is_as_large_as_the_student_in_its_place(tmp_path):
    def named(students):
        rows = read_rows(9, shared={"limit": 8, "epochs": 1, "batch": 8}, students=students)
        return next(row for row in rows if row.name == ("RN34", "DrViT-S"))

    large = module.with_teacher(named({"ViT-S": "vit_m"}), tmp_path, train=True)
    assert load_teacher(large.profile.teacher).backbone.vit.embed_dim == 128
    assert module.with_teacher(named({}), tmp_path, train=False).missing.startswith("not run (teacher: discrete_vit")
    assert "no Discrete ViT of the size of resnet_m" in named({"ViT-S": "resnet_m"}).missing


def test_average_varies_as_its_parts_do():
    parts = [np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.5])]
    whole = module.average(parts)
    assert whole.mean() == pytest.approx((0.75 + 0.5) / 2)
    # Var = Σ var_k / N_k / K², with population variances: (3/16 / 4) / 4
    assert whole.var() / len(whole) == pytest.approx(3 / 16 / 4 / 4)


def test_interval_of_an_average_is_that_of_its_parts():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 400)) < 0.8, rng.random((3, 100)) < 0.3
    both = np.stack([module.average([a.astype(float), b.astype(float)]) for a, b in zip(first, second, strict=True)])
    found, alone = accuracy(both), accuracy(np.repeat(second, 1, 0))
    assert found.mean == pytest.approx(50 * (first.mean() + second.mean()))
    assert 0.4 < (found.high - found.low) / (alone.high - alone.low) < 0.75


def test_a_table_is_measured_and_what_is_missing_is_said(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path, there=("a",))
    assert measured.missing == {"N · a": "seeds 0, 1 alone", "N · b": "not run (plain, resnet_s)", "N · c": NOT_YET}
    assert measured.estimates["N · a", "ImageNet"].mean == pytest.approx(80)
    assert measured.estimates["N · a", "C"].mean == pytest.approx(30)
    assert measured.estimates["N · a", "Avg"].mean == pytest.approx(75)  # C enters as 100 − C
    assert measured.estimates["N · a", "ImageNet"].high > 80
    assert measured.estimates["teacher · T", "Avg"].mean == pytest.approx((90 + 80) / 2)


def test_an_average_change_is_paired_and_over_what_was_measured(monkeypatch, tmp_path):
    """x gains over b, y nothing over a; both are right on the same photographs as a."""
    pairs = [Row(("D", name), PROFILE, "kd", "resnet_s", over=f"N · {over}") for name, over in (("x", "b"), ("y", "a"))]
    more = [*pairs, Row(("change", "mean"), PROFILE, change="D")]
    found = made_up(monkeypatch, tmp_path, there=("a", "b", "x", "y"), more=more)
    key = "change · mean"
    x, b, y, a = (found.matrix(row, "ImageNet", [0, 1]).astype(float) for row in ("D · x", "N · b", "D · y", "N · a"))
    paired = difference((x + y) / 2, (a + b) / 2)
    assert astuple(found.estimates[key, "ImageNet"]) == pytest.approx(astuple(paired))
    assert found.estimates[key, "ImageNet"].mean == pytest.approx(30)
    assert found.estimates[key, "C"].mean == pytest.approx(-10)
    assert found.estimates[key, "Avg"].mean == pytest.approx(20)
    line = record(found)["rows"][-1]
    assert (line["method"], line["what"], line["missing"]) == (
        "change",
        "mean change, rows of D",
        "over seeds 0, 1 alone",
    )
    assert line["cells"]["ImageNet"]["seeds"] == {"0": 30.0, "1": 30.0}
    one = made_up(monkeypatch, tmp_path, seeds=[0], there=("a", "b", "x"), more=more)
    assert one.missing[key] == "over x alone"
    assert one.estimates[key, "ImageNet"].text(0) == "+60"  # one seed: no interval
    few = made_up(monkeypatch, tmp_path, there=("a", "b", "x"), more=more)
    assert few.missing[key] == "over x, seeds 0, 1 alone"
    none = made_up(monkeypatch, tmp_path, there=("x", "y"), more=more)
    assert none.missing[key] == "not run (mean change, rows of D)"


def test_columns_stand_for_splits():
    assert module.split_of("ImageNet", "fashion") == "studio"
    assert module.split_of("Rendition", "fashion") == "rendition"
    assert module.split_of("FGSM", "fashion") is None


def test_difference_is_quick_and_unchanged_by_the_order_of_images():
    rng = np.random.default_rng(0)
    first, second = rng.random((5, 2000)) < 0.6, rng.random((5, 2000)) < 0.5
    found, mixed = difference(first, second), difference(first[:, ::-1], second[:, ::-1])
    assert found.low == pytest.approx(mixed.low, abs=0.15)
    assert TABLES.is_file()


def test_at_imagenets_scale_nothing_is_trained_and_all_that_is_missing_is_said(toy_imagenet, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", None)  # calling it would fail
    rows = read_rows(1, "imagenet", shared={"data": f"imagenet:{toy_imagenet}"})
    measured = module.measure_rows(load_table(1), rows, [0, 1], tmp_path, train=False)
    assert measured.values == {}
    assert measured.missing["teacher · CLIP"] == "not run (teacher)"
    assert measured.missing["ResNet50 · DAD (Ours)"] == "not run (dad, resnet50, augreg none)"
    assert "has no batch norm" in measured.missing["ViT-B/16 · Advprop"]  # a run that cannot be says why
    assert len(styled(measured).data) == len(rows)
    assert not list(tmp_path.iterdir())


def test_at_imagenets_scale_the_teacher_counts_once_it_was_asked_everything(toy_imagenet, files, tmp_path, monkeypatch):
    shared = {"data": f"imagenet:{toy_imagenet}", "image_size": 32, "teacher": str(files["teacher"])}
    teacher, *_ = rows = read_rows(1, "imagenet", shared=shared)
    command = ["--profile", "imagenet", "--shared", json.dumps(shared), "--runs-dir", str(tmp_path), "--splits"]
    assert answers.main([*command, "val", "v2"]) == 0
    assert (
        module.measure_rows(load_table(1), rows, [0], tmp_path, train=False).missing[teacher.key] == "not run (teacher)"
    )
    assert answers.main([*command, "val", "v2", "rendition", "sketch", "a"]) == 0
    monkeypatch.setattr(answers, "teacher_of", None)  # asking again would fail
    measured = module.measure_rows(load_table(1), rows, [0], tmp_path, train=False)
    assert set(measured.values) == {teacher.key}
    assert set(measured.values[teacher.key]) == set(load_table(1).columns)


def test_reading_asks_no_teacher_for_imagenet_c(toy_imagenet, files, tmp_path, monkeypatch):
    shared = {"data": f"imagenet:{toy_imagenet}", "image_size": 32, "teacher": str(files["teacher"])}
    teacher, *_ = rows = read_rows(2, "imagenet", shared=shared)
    command = ["--profile", "imagenet", "--shared", json.dumps(shared), "--runs-dir", str(tmp_path), "--splits"]
    assert answers.main([*command, "stylized"]) == 0
    with monkeypatch.context() as nobody:
        nobody.setattr(answers, "teacher_of", None)
        measured = module.measure_rows(load_table(2), rows, [0], tmp_path, train=False)
        assert measured.missing[teacher.key] == "not run (teacher)"
    assert answers.main([*command, "C"]) == 0
    measured = module.measure_rows(load_table(2), rows, [0], tmp_path, train=False)
    assert set(measured.values[teacher.key]) == {"C", "Stylized"}


def test_an_average_alone_is_measured_by_way_of_its_parts(tmp_path):
    def cells(row, seed, runs_dir, asked):
        assert "Avg" in asked
        return {name: np.full(4, 0.25 if name == "C" else 0.5) for name in asked if name != "Avg"}

    measured = module.measure_rows(
        load_table(3), read_rows(3)[:1], [0], tmp_path, cells=cells, train=True, columns=["Avg"]
    )
    (found,) = measured.values.values()
    assert list(found) == ["Avg"]
    assert found["Avg"][0].mean() == pytest.approx((6 * 0.5 + 0.75) / 7)


def test_natural_shifts_are_scored_among_all_classes_too(toy_imagenet, files, tmp_path):
    """Beside the paper's columns, which are among the 200 classes of each."""
    shared = {"data": f"imagenet:{toy_imagenet}", "image_size": 32, "teacher": str(files["teacher"])}
    published = with_all_classes(load_table(1))
    measured = module.measure_rows(published, read_rows(1, "imagenet", shared=shared)[:1], [0], tmp_path)
    (line,) = record(measured)["rows"]
    for few, all_of_them in (("Rendition", "Rendition-1000"), ("A", "A-1000")):
        assert line["cells"][all_of_them]["published"] is None
        assert line["cells"][all_of_them]["n"] == line["cells"][few]["n"]
        assert line["cells"][all_of_them]["mean"] <= line["cells"][few]["mean"]
    assert published.attrs == load_table(1).attrs
    assert "A-1000" in styled(measured).data["measured"]


def test_of_corruption_alone_its_answers_are_enough(tmp_path):
    """As `dadlab.ledger` unpacks them, without weights."""
    row = next(row for row in read_rows(2) if row.name == ("ResNet50", "DAD"))
    folder = row.run(0).folder(tmp_path)
    folder.mkdir(parents=True)
    assert not module.is_there(row, 0, tmp_path, ["C"])
    np.savez(folder / "corrupted.npz", fog=np.zeros(3))
    assert module.is_there(row, 0, tmp_path, ["C"])
    assert not module.is_there(row, 0, tmp_path, ["C", "Stylized"])
    assert not module.is_there(row, 0, tmp_path, [])  # nothing to answer: its weights are asked for


def test_the_embedded_teacher_needs_no_training(tmp_path):
    teacher, *others = read_rows(8)
    assert module.is_there(teacher, 0, tmp_path, ["Sketch", "C"])
    assert not any(module.is_there(row, 0, tmp_path, ["Sketch", "C"]) for row in others if row.method)


def test_unknown_column_says_what_is_meant():
    with pytest.raises(ValueError, match="unknown column 'Sketchy': did you mean 'Sketch'"):
        module.measure_rows(load_table(1), [], [0], Path(), columns=["Sketchy"])
