import itertools
import re

import numpy as np
import pytest

from dadlab import grids as module
from dadlab.disk.imagenet import SPLITS
from dadlab.estimates import accuracy, difference
from dadlab.evaluate import mce, mce_baseline
from dadlab.grids import compare
from dadlab.profile import make_profile
from dadlab.report import markdown_table
from dadlab.results import measure
from dadlab.run import Run


@pytest.fixture
def profile():
    return make_profile(limit=40, epochs=1, batch=8, views=2)


@pytest.fixture
def grid(profile, tmp_path, monkeypatch):
    """`compare` on made-up correctness: seed s of `kd` is right on image 0 … s, `plain` on image 0 alone."""

    def made_up(run, runs_dir, splits):
        right = run.seed if run.method == "kd" else 0
        return {split: np.arange(4) <= right for split in splits}

    monkeypatch.setattr(module, "measure", made_up)
    return compare(profile, ["plain", "kd"], [2, 0], ["v2", "context+sketch"], [("kd", "plain")], tmp_path)


def test_rows_by_hand(grid):
    found = {(row["method"], row["split"]): row for row in grid["rows"]}
    assert found["kd", "v2"]["top1"]["mean"] == 50.0
    assert found["kd", "v2"]["seeds"] == {"0": 25.0, "2": 75.0}
    assert found["plain", "context+sketch"]["top1"]["mean"] == 25.0
    assert found["plain", "v2"]["n"] == 4


def test_differences_by_hand(grid):
    assert [(d["first"], d["second"], d["split"], d["mean"]) for d in grid["differences"]] == [
        ("kd", "plain", "v2", 25.0),
        ("kd", "plain", "context+sketch", 25.0),
    ]
    assert all(d["corrected"] == [d["low"], d["high"]] for d in grid["differences"])  # of a single pair


def test_intervals_of_many_pairs_are_wider():
    first, second = np.random.default_rng(0).random((2, 5, 100)) < 0.5
    alone, among = (module._apart(first, second, pairs) for pairs in (1, 10))
    assert (alone["low"], alone["high"]) == (among["low"], among["high"])
    assert among["corrected"][0] < alone["low"] < alone["high"] < among["corrected"][1]


def test_all_pairs_of_a_split_count_in_the_correction(profile, tmp_path, monkeypatch):
    """Three pairs on each of two splits, and of errors; and it is the student named that is measured."""
    methods, splits = ["plain", "kd", "dad"], ["v2", "sketch"]
    right = {key: np.random.default_rng(k).random(60) < 0.5 for k, key in enumerate(itertools.product(methods, (0, 1)))}
    wrong = {key: np.random.default_rng(k).random(60) for k, key in enumerate(right)}
    students = set()

    def made_up(run, runs_dir, splits):
        students.add(run.student)
        return {split: right[run.method, run.seed] for split in splits}

    monkeypatch.setattr(module, "measure", made_up)
    monkeypatch.setattr(module, "measure_corrupted", lambda run, runs_dir: {"fog": wrong[run.method, run.seed]})
    monkeypatch.setattr(module, "mce_baseline", lambda data: None)
    pairs = [*itertools.combinations(methods, 2)]
    found = compare(profile, methods, [0, 1], splits, pairs, tmp_path, student="resnet_m", corruptions=True)
    assert students == {"resnet_m"}
    for told, values in ((found["differences"], right), (found["corruption_differences"], wrong)):
        assert len(told) == len(pairs) * (len(splits) if values is right else 1)
        for line in told:
            first, second = (np.stack([values[line[name], seed] for seed in (0, 1)]) for name in ("first", "second"))
            widened = difference(first, second, level=1 - 0.05 / 3)
            assert line["corrected"] == [round(widened.low, 2), round(widened.high, 2)]


def test_a_pair_outside_the_grid_stops_before_training(profile, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match="unknown method of a pair 'kdd': did you mean 'kd'"):
        compare(profile, ["plain", "kd"], [0], ["v2"], [("plain", "kdd")], tmp_path)


@pytest.mark.parametrize(("methods", "seeds"), [(["plain"], [0, 0]), (["plain", "plain"], [0])])
def test_what_is_named_twice_stops_before_training(methods, seeds, profile, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match="one is named twice"):
        compare(profile, methods, seeds, ["v2"], [], tmp_path)


def test_splits_of_other_lengths_are_not_joined(profile, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"'studio\+v2': .* the same photographs, not studio 2,000, v2 1,000"):
        compare(profile, ["plain"], [0], ["v2", "studio+v2"], [], tmp_path)


def test_nothing_to_corrupt_is_said_before_training(tmp_path, monkeypatch):
    (tmp_path / "train").mkdir()
    monkeypatch.setattr(module, "check", lambda *args: None)
    monkeypatch.setattr(module, "measure", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match="no val, validation or test split: it has train"):
        compare(make_profile(data=str(tmp_path)), ["plain"], [0], ["train"], [], tmp_path, corruptions=True)


def test_table_says_what_made_it(grid, profile):
    assert grid["profile"]["epochs"] == profile.epochs
    assert "torch" in grid["machine"]
    assert grid["seeds"] == [2, 0]
    assert grid["mce"] == {}
    assert grid["corruption_error"] == {}
    assert grid["corruption_differences"] == []
    assert [found["seeds"] for found in grid["trained"]["plain"]] == [[2, 0]]


def test_errors_under_corruption_differ_image_by_image(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda run, runs_dir, splits: {split: np.ones(4, bool) for split in splits})
    monkeypatch.setattr(module, "check", lambda *args: None)
    wrong = {
        key: np.random.default_rng(k).random(50) for k, key in enumerate(itertools.product(("kd", "plain"), (1, 0)))
    }
    errors = lambda run, runs_dir: {"fog": wrong[run.method, run.seed], "snow": np.zeros(50)}  # noqa: E731
    monkeypatch.setattr(module, "measure_corrupted", errors)
    results = compare(make_profile(), ["kd", "plain"], [1, 0], ["val"], [("kd", "plain")], tmp_path, corruptions=True)
    (found,) = results["corruption_differences"]
    kd, plain = (np.stack([wrong[method, seed] / 2 for seed in (0, 1)]) for method in ("kd", "plain"))
    expected = difference(kd, plain)
    assert (found["first"], found["second"]) == ("kd", "plain")
    assert (found["mean"], found["low"]) == (round(expected.mean, 2), round(expected.low, 2))
    told = results["corruption_error"]["kd"]
    assert (told["mean"], told["high"]) == (round(accuracy(kd).mean, 2), round(accuracy(kd).high, 2))
    assert told["seeds"] == {"0": round(100 * kd[0].mean(), 2), "1": round(100 * kd[1].mean(), 2)}


@pytest.mark.parametrize(("data", "has_mce"), [("fashion", True), ("my_photos", False), ("imagenet:/data", True)])
def test_raw_error_always_mce_where_there_is_a_baseline(data, has_mce, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda run, runs_dir, splits: {split: np.ones(4, bool) for split in splits})
    monkeypatch.setattr("dadlab.run.identity", lambda *_: "made up")
    monkeypatch.setattr(module, "check", lambda *args: None)
    monkeypatch.setattr(module, "home_split", lambda data: "val")
    errors = dict.fromkeys(mce_baseline("imagenet:/data"), 0.5)
    wrong = {kind: np.array([0.0, 1.0]) for kind in errors}
    monkeypatch.setattr(module, "measure_corrupted", lambda run, runs_dir: wrong)
    found = compare(make_profile(data=data), ["kd"], [0], ["val"], [], tmp_path, corruptions=True)
    assert found["corruption_error"]["kd"]["mean"] == 50.0
    told = {"kd": round(mce(errors, mce_baseline(data)), 2)} if has_mce else {}
    assert {method: cell["mean"] for method, cell in found["mce"].items()} == told
    assert ("mCE" in markdown_table(found)) == has_mce
    assert "C, error ↓ |" in markdown_table(found)


def test_a_student_trained_on_imagenet_is_tested_on_all_its_shifts(toy_imagenet, tmp_path):
    """Ten classes of flat greys: a few steps tell some of them apart, and everything is read from the toy tree."""
    profile = make_profile(data=f"imagenet:{toy_imagenet}", image_size=64, epochs=1, batch=10, views=2)
    splits = [name for name in SPLITS if name != "train"]
    found = compare(profile, ["plain"], [0], splits, [], tmp_path, corruptions=True)
    assert {row["split"]: row["n"] for row in found["rows"]} == {
        name: 8 if name.startswith(("a", "rendition")) else 20 for name in splits
    }
    top1 = {row["split"]: row["top1"]["mean"] for row in found["rows"]}
    assert top1["a"] >= top1["a-1000"]
    assert 0 < found["corruption_error"]["plain"]["mean"] <= 100
    assert (
        found["mce"]["plain"]["mean"] > found["corruption_error"]["plain"]["mean"]
    )  # AlexNet's errors are below 100 %


def test_missing_shifts_are_said_before_training(toy_imagenet, tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.results.train", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"c/rain/1: no folder .*; c/hail/1: no folder"):
        measure(Run(make_profile(data=f"imagenet:{toy_imagenet}"), "plain"), tmp_path, ["val", "c/rain/1", "c/hail/1"])
    shown = compare(make_profile(data=f"imagenet:{toy_imagenet}"), [], [], ["val"], [], tmp_path, corruptions=True)
    assert shown["rows"] == []
    with pytest.raises(ValueError, match="no folder"):
        compare(make_profile(data=f"imagenet:{tmp_path}"), ["kd"], [0], ["val"], [], tmp_path, corruptions=True)


def test_the_record_names_the_commit(grid):
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|unknown", grid["commit"])
