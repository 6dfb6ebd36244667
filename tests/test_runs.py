import json
import os
import time

import pytest
from filelock import FileLock

from dadlab import runs as module
from dadlab.run import Run
from dadlab.runs import clean_runs, list_runs
from dadlab.train import train


@pytest.fixture
def runs(tmp_path):
    """Runs a (10 days, 1 MB, finished) and b (1 day, 2 MB), a cache (5 days, 4 MB); a folder that is none of them."""

    def put(path, megabytes, days):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * int(1e6 * megabytes))
        for entry in path.parent.iterdir():
            os.utime(entry, (time.time() - 86_400 * days,) * 2)

    for name, method, file, megabytes, days in (
        ("a", "kd", "student.safetensors", 1, 10),
        ("b", "dad", "training.safetensors", 2, 1),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"method": method, "student": "vit_s", "seed": 3}))
        put(tmp_path / name / file, megabytes, days)
    put(tmp_path / "cache" / "c" / "view.npy", 4, 5)
    put(tmp_path / "figures" / "own.png", 9, 100)
    return tmp_path


def test_listing_tells_what_is_there(runs):
    found = list_runs(runs)
    assert found["folder"].tolist() == ["a", "cache/c", "b"]
    assert found["kind"].tolist() == ["run", "cache", "run"]
    assert found["megabytes"].round().tolist() == [1, 4, 2]
    assert found["days"].round().tolist() == [10, 5, 1]
    assert (found["method"][0], found["student"][0], found["seed"][0]) == ("kd", "vit_s", 3)
    assert (found["finished"][0], found["finished"][2]) == (True, False)


def test_empty_folder_has_no_rows(tmp_path):
    assert list_runs(tmp_path / "none").empty


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"days": 7}, ["a"]),
        ({"days": 0.5}, ["a", "cache/c", "b"]),
        ({"gigabytes": 0.0061}, ["a"]),
        ({"gigabytes": 0.003}, ["a", "cache/c"]),
        ({"gigabytes": 0.0061, "days": 7}, ["a"]),
        ({"gigabytes": 0.0}, ["a", "cache/c", "b"]),
        ({"days": 2, "kinds": ("cache",)}, ["cache/c"]),
        ({"days": 30}, []),
    ],
    ids=str,
)
def test_age_and_size_choose_and_nothing_is_deleted_unasked(runs, options, chosen):
    assert clean_runs(runs, **options)["folder"].tolist() == chosen
    assert len(list_runs(runs)) == 3
    assert clean_runs(runs, **options, delete=True)["folder"].tolist() == chosen
    assert len(list_runs(runs)) == 3 - len(chosen)
    assert (runs / "figures" / "own.png").is_file()


def test_a_run_being_trained_stays(runs):
    with FileLock(runs / "a" / ".lock"):
        assert clean_runs(runs, days=7, delete=True).empty
    assert clean_runs(runs, days=7)["folder"].tolist() == ["a"]


@pytest.mark.parametrize("lock", ["stores/s/.shard-00000-of-00002.parquet.claim", "stores/s.lock"])
def test_a_store_being_filled_stays(runs, lock):
    shard = runs / "stores" / "s" / "shard-00001-of-00002.parquet"
    shard.parent.mkdir(parents=True)
    shard.touch()
    os.utime(shard, (0, 0))
    (runs / lock).touch()  # as a killed process leaves it
    assert "stores/s" in clean_runs(runs, days=4)["folder"].tolist()
    with FileLock(runs / lock):
        assert clean_runs(runs, days=4, delete=True)["folder"].tolist() == ["a", "cache/c"]
    assert shard.is_file()


def test_a_store_goes_with_what_lies_beside_it(runs):
    for name in ("s", "other"):
        (runs / "stores" / name).mkdir(parents=True)
        for ending in (".json", ".lock", "-metrics.json"):
            (runs / "stores" / f"{name}{ending}").touch()
    os.utime(runs / "stores" / "s", (0, 0))
    assert clean_runs(runs, days=30, delete=True)["folder"].tolist() == ["stores/s"]
    left = ["other", "other-metrics.json", "other.json", "other.lock"]
    assert sorted(path.name for path in (runs / "stores").iterdir()) == left


def test_answers_of_teachers_are_listed_and_cleaned(runs):
    answers = runs / "teachers" / "t" / "val.npy"
    answers.parent.mkdir(parents=True)
    answers.touch()
    os.utime(answers, (0, 0))
    (runs / "teachers" / "trained.safetensors").touch()
    assert clean_runs(runs, days=30, delete=True)[["folder", "kind"]].values.tolist() == [["teachers/t", "teacher"]]
    assert [path.name for path in (runs / "teachers").iterdir()] == ["trained.safetensors"]


def test_a_cache_being_filled_stays(runs):
    with FileLock(runs / "cache" / "c" / "view-000-00001.lock"):
        assert clean_runs(runs, days=4, delete=True)["folder"].tolist() == ["a"]
    assert clean_runs(runs, days=4)["folder"].tolist() == ["cache/c"]


@pytest.mark.parametrize("training", ["b", "not-begun", "a/shots-3"])
def test_while_a_run_is_trained_what_runs_share_stays(runs, training):
    """It may read any of them, for days, without a trace."""
    (runs / training).mkdir(exist_ok=True)
    with FileLock(runs / training / ".lock"):
        assert "cache/c" not in clean_runs(runs, gigabytes=0.0, delete=True)["folder"].tolist()
    assert clean_runs(runs, gigabytes=0.0, kinds=("cache",))["folder"].tolist() == ["cache/c"]


def test_training_holds_the_lock_of_its_run(tmp_path, profile, monkeypatch):
    """From before its materials are made."""
    seen = []

    def stopped(*_):
        seen.append([module._held(lock) for lock in tmp_path.glob("*/.lock")])
        raise KeyboardInterrupt

    monkeypatch.setattr("dadlab.train.prepare", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(Run(profile, "kd"), tmp_path)
    assert seen == [[True]]


@pytest.mark.parametrize("options", [{}, {"days": -1}, {"gigabytes": -1.0}, {"days": 1, "kinds": ("runs",)}])
def test_bad_wishes_are_named(runs, options):
    with pytest.raises(ValueError, match="give days or gigabytes, not negative, and kinds among run, cache"):
        clean_runs(runs, **options)
