import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dadlab.discretizer import load_discretizer
from dadlab.files import (
    atomic_path,
    fill,
    kept_array,
    kept_arrays,
    load_weights,
    misfit,
    save_weights,
    write_json,
)
from dadlab.teacher import load_teacher


def as_discretizer(path):
    return load_discretizer(str(path))


def as_teacher(path):
    return load_teacher(str(path))


def test_atomic_write_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert os.listdir(path.parent) == ["file.txt"]


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    """Else a machine that fails may leave its name with nothing in it."""
    done, path = [], tmp_path / "file.txt"
    monkeypatch.setattr(os, "fsync", lambda opened: done.append(os.readlink(f"/proc/self/fd/{opened}")))
    monkeypatch.setattr(os, "replace", lambda *names: done.append(names))
    with atomic_path(path) as temporary:
        temporary.write_text("done")
    assert done == [str(temporary), (temporary, path)]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_atomic_files_can_be_read_by_others(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1})
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1}


def test_misfit_names_every_kind_of_difference():
    wanted = {"a": torch.zeros(2), "b": torch.zeros(3, 1), "c": torch.zeros(1), "d": torch.zeros(1)}
    found = {"a": torch.zeros(2), "b": torch.zeros(1, 3), "e": torch.zeros(1)}
    assert misfit(wanted, found) == (
        "2 missing, first c; 1 unexpected, first e; 1 misshapen, first b is (1, 3) instead of (3, 1)"
    )
    assert misfit(wanted, dict(wanted)) == ""


def test_fitting_weights_are_loaded(tmp_path):
    weight = torch.tensor([[1.0, 2.0]])
    assert torch.equal(fill(tmp_path, lambda: nn.Linear(2, 1, bias=False), {"weight": weight}).weight, weight)


def test_unfitting_weights_are_named_with_their_file(tmp_path):
    with pytest.raises(ValueError, match=r"w\.pt: .*first weight is \(1, 2\) instead of \(2, 2\)"):
        fill(tmp_path / "w.pt", lambda: nn.Linear(2, 2, bias=False), {"weight": torch.zeros(1, 2)})


STATE = {"weight": torch.tensor([0.1, 1 / 3]), "count": torch.tensor(7)}


def test_weights_come_back_with_their_configuration(tmp_path):
    save_weights(tmp_path / "w.safetensors", STATE, {"width": 2}, half=False)
    state, config = load_weights(tmp_path / "w.safetensors")
    assert config == {"width": 2}
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_half_precision_rounds_floats_alone(tmp_path):
    save_weights(tmp_path / "w.safetensors", STATE, {})
    state, _ = load_weights(tmp_path / "w.safetensors")
    assert state["weight"].dtype == torch.float32
    assert torch.equal(state["weight"], STATE["weight"].half().float())
    assert torch.equal(state["count"], STATE["count"])


def test_same_weights_same_bytes(tmp_path):
    for name in "ab":
        save_weights(tmp_path / name, STATE, {"width": 2, "depth": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path / 'none'}: weights not found"):
        load_weights(tmp_path / "none")


@pytest.mark.parametrize(
    ("keep", "said"),
    [(0, "empty file"), (4, "not a readable safetensors file"), (60, "truncated after 60 bytes"), (-1, ".*truncated")],
)
def test_damaged_weights_are_named_in_one_line(tmp_path, keep, said):
    path = tmp_path / "w.safetensors"
    save_weights(path, STATE, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{path}: {said}") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"\x80\x02}q\x00.", "a pickled checkpoint, not safetensors; name it .ckpt or .pth"),
    ],
)
@pytest.mark.parametrize("load", [load_weights, as_discretizer, as_teacher])
def test_other_files_are_named_for_what_they_are(tmp_path, content, said, load):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: {said}"):
        load(path)


def test_foreign_weights_are_told_how_to_be_written(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"no configuration in the header; .*save_weights"):
        load_weights(tmp_path / "w.safetensors")


def test_arrays_are_made_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return np.arange(3)

    for _ in range(2):
        assert kept_array(tmp_path / "one.npy", make).tolist() == [0, 1, 2]
        assert {n: a.tolist() for n, a in kept_arrays(tmp_path / "all.npz", lambda: {"x": make()}).items()} == {
            "x": [0, 1, 2]
        }
    assert len(made) == 2


def test_killed_before_an_array_is_made_nothing_is_left(tmp_path):
    def stop():
        assert not list(tmp_path.iterdir())
        raise KeyboardInterrupt

    for keep in (kept_array, kept_arrays):
        with pytest.raises(KeyboardInterrupt):
            keep(tmp_path / "x", stop)
    assert not list(tmp_path.iterdir())
