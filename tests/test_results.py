import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from published_imagenet import WNIDS, picture, write_toy_imagenet

from dadlab import results as module
from dadlab.disk import imagenet
from dadlab.profile import make_profile
from dadlab.results import answered, combined, measure, measure_corrupted, measure_corruptions, stack
from dadlab.run import Run
from dadlab.students import Student, save_student


def test_combined_averages_photograph_by_photograph():
    measured = {"a": np.array([True, True, False]), "b": np.array([True, False, False])}
    assert combined(measured, "a+b").tolist() == [1.0, 0.5, 0.0]
    assert combined(measured, "a").tolist() == [1.0, 1.0, 0.0]


def test_stack_orders_seeds():
    assert stack({3: {"a": np.array([1])}, 0: {"a": np.array([0])}}, "a").tolist() == [[0], [1]]


@pytest.fixture
def profile():
    return make_profile(limit=40, epochs=1, batch=8, views=2)


def test_measure_keeps_what_it_found(profile, tmp_path, monkeypatch):
    first = measure(Run(profile, "plain"), tmp_path, ["val"])
    monkeypatch.setattr(module, "correct", lambda *args: pytest.fail("measured again"))
    monkeypatch.setattr(module, "train", lambda *args: pytest.fail("trained again"))
    again = measure(Run(profile, "plain"), tmp_path, ["val"])
    assert first["val"].shape == (1000,)
    assert np.array_equal(first["val"], again["val"])


def test_a_split_named_twice_is_asked_once_by_every_process(profile, tmp_path, monkeypatch):
    """Also by one that has not seen yet what the first has kept: it would wait for the others without end."""
    asked, answers = [], torch.ones(1000, dtype=torch.bool)
    monkeypatch.setattr(module, "_is_kept", lambda *args: False)
    monkeypatch.setattr(module, "trained", lambda *args: None)
    monkeypatch.setattr(module, "correct", lambda student, dataset: asked.append(dataset.name) or answers)
    measure(Run(profile, "plain"), tmp_path, ["val", "a", "val"])
    assert len(asked) == 2


def test_a_run_whose_file_changed_is_trained_before_it_is_measured(profile, tmp_path):
    """The run is called the same, but it is another: it starts from other weights."""
    start = tmp_path / "start.safetensors"
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_student(start, Student("resnet_s", 10))
        run = Run(replace(profile, start=str(start)), "plain")
        measure(run, tmp_path, ["a"])
        assert (run.folder(tmp_path) / "student.safetensors").is_file()


def test_a_run_that_was_deleted_is_trained_anew(profile, tmp_path):
    run = Run(profile, "plain")
    for split in ("a", "a"):
        measure(run, tmp_path, [split])
        assert run.weights(tmp_path).is_file()
        shutil.rmtree(run.folder(tmp_path))


def test_imagenet_c_is_read_not_drawn(toy_imagenet, tmp_path, monkeypatch):
    """A student that is right on fog alone, split by split, each kept."""
    profile = make_profile(data=f"imagenet:{toy_imagenet}", image_size=64)
    seen = []

    def right(student, dataset):
        seen.append(dataset.name)
        return torch.full((len(dataset),), dataset.name.startswith("c/fog"))

    monkeypatch.setattr(module, "correct", right)
    monkeypatch.setattr(module, "train", lambda run, runs_dir: torch.nn.Identity())
    module._trained.cache_clear()
    run = Run(profile, "plain")
    found = measure_corruptions(run, tmp_path)
    assert {kind: error for kind, error in found.items() if error != 1} == {"fog": 0}
    assert (len(found), len(seen), len(set(seen))) == (15, 75, 75)
    (run.folder(tmp_path) / "corruptions.json").write_text("{}")  # of other images
    (run.folder(tmp_path) / "correct" / "c" / "snow" / "3.npy").unlink()
    assert measure_corruptions(run, tmp_path) == found
    assert seen[75:] == ["c/snow/3"]


def test_every_severity_counts_alike(toy_imagenet, tmp_path, monkeypatch):
    """Right under the mildest and the strongest snow alone: wrong on three fifths."""
    right = {"c/snow/1", "c/snow/5"}
    monkeypatch.setattr(module, "measure", lambda run, _, splits: {name: np.array([name in right]) for name in splits})
    run = Run(make_profile(data=f"imagenet:{toy_imagenet}", image_size=64), "plain")
    run.folder(tmp_path).mkdir()
    found = measure_corrupted(run, tmp_path)
    assert found.pop("snow") == pytest.approx(3 / 5)
    assert set(np.concatenate([*found.values()])) == {1.0}


def test_answers_to_images_that_have_changed_are_not_todays(toy_imagenet, tmp_path, monkeypatch):
    """A shift that was copied by half and is completed; one that is deleted afterwards keeps its answers."""
    root = write_toy_imagenet(tmp_path / "data", corruptions=("fog",))
    run, fog, tested = Run(make_profile(data=f"imagenet:{root}", image_size=64), "plain"), "c/fog/1", []

    def right(student, dataset):
        tested.append(dataset.name)
        return torch.ones(len(dataset))

    def lengths():
        found = measure(run, tmp_path, ["val", fog])
        assert answered(run, tmp_path, ["val", fog])
        return [len(right) for right in found.values()]

    monkeypatch.setattr(module, "correct", right)
    monkeypatch.setattr(module, "train", lambda run, runs_dir: torch.nn.Identity())
    module._trained.cache_clear()
    assert [lengths(), lengths(), tested] == [[20, 10], [20, 10], ["val", fog]]
    late = root / "imagenet-c" / "fog" / "1" / WNIDS[0] / "late.JPEG"
    picture(0, (224, 224)).save(late)
    assert not answered(run, tmp_path, [fog])
    assert [lengths(), lengths(), tested[2:]] == [[20, 11], [20, 11], [fog]]
    (run.folder(tmp_path) / "correct" / "val.json").unlink()  # answers from before it was kept
    assert [lengths(), tested[3:]] == [[20, 11], ["val"]]
    shutil.rmtree(late.parents[1])
    assert [lengths(), tested[4:]] == [[20, 11], []]


def test_answers_that_are_kept_cost_one_look_at_each_splits_folders(toy_imagenet, tmp_path, monkeypatch):
    run, splits = Run(make_profile(data=f"imagenet:{toy_imagenet}", image_size=64), "plain"), ["val", "c/fog/1"]
    monkeypatch.setattr(module, "correct", lambda student, dataset: torch.ones(len(dataset)))
    monkeypatch.setattr(module, "train", lambda run, runs_dir: torch.nn.Identity())
    module._trained.cache_clear()
    measure(run, tmp_path, splits)
    looked, stamp = [], imagenet.stamp
    monkeypatch.setattr(imagenet, "stamp", lambda root, split: looked.append(split) or stamp(root, split))
    measure(run, tmp_path, splits)
    assert looked == ["train", *splits]


SHARES = np.array([0.25, 0.75])


def test_own_images_are_corrupted_at_their_own_size(toy_imagenet, tmp_path, monkeypatch):
    """`val` of a folder, never the embedded benchmark's photographs."""
    seen = []
    monkeypatch.setattr(module, "train", lambda run, runs_dir: torch.nn.Identity())
    monkeypatch.setattr(module, "corrupted_errors", lambda model, data, folder: seen.append(data) or {"fog": SHARES})
    module._trained.cache_clear()
    run = Run(make_profile(data=str(toy_imagenet), image_size=48), "plain")
    assert measure_corruptions(run, tmp_path) == {"fog": 0.5}
    assert measure_corrupted(run, tmp_path)["fog"].tolist() == SHARES.tolist()
    assert len(seen) == 1
    assert (seen[0].name, seen[0].pixels.shape) == ("val", (20, 3, 48, 48))


def test_images_that_have_changed_are_corrupted_anew(tmp_path, monkeypatch):
    now, asked = ["one"], []
    monkeypatch.setattr(module, "images_of", lambda data, split: now[0])
    monkeypatch.setattr(module, "trained", lambda *args: None)
    monkeypatch.setattr(module, "drawn_errors", lambda *args: asked.append(now[0]) or {"fog": SHARES})
    Run(make_profile(), "plain").folder(tmp_path).mkdir()
    for now[0] in ("one", "one", "two"):
        measure_corrupted(Run(make_profile(), "plain"), tmp_path)
    assert asked == ["one", "two"]


def test_a_run_whose_mean_errors_alone_were_kept_is_measured_image_by_image(tmp_path, monkeypatch):
    run = Run(make_profile(), "plain")
    run.folder(tmp_path).mkdir()
    (run.folder(tmp_path) / "corruptions.json").write_text('{"fog": 0.25}')
    monkeypatch.setattr(module, "train", lambda run, runs_dir: torch.nn.Identity())
    monkeypatch.setattr(module, "corrupted_errors", lambda model, data, folder: {"fog": SHARES})
    module._trained.cache_clear()
    assert measure_corruptions(run, tmp_path) == {"fog": 0.25}
    assert measure_corrupted(run, tmp_path)["fog"].tolist() == SHARES.tolist()
