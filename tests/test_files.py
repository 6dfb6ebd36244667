import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dadlab.discretizer import load_discretizer
from dadlab.files import (
    atomic_path,
    content_of,
    fill,
    fingerprint,
    load_weights,
    misfit,
    module_fingerprint,
    restore_training,
    save_training,
    save_weights,
    sha256,
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


TENSOR = torch.arange(6.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1,), (2,)),
        (("1",), (1,)),
        (("ab", "c"), ("a", "bc")),
        ((1, 23), (12, 3)),
        ((TENSOR,), (TENSOR + 1,)),
        ((TENSOR,), (TENSOR.view(2, 3),)),
        ((TENSOR,), (TENSOR.view(torch.int32),)),
        (({"a": 1},), ({"a": 2},)),
    ],
    ids=repr,
)
def test_fingerprints_differ(one, other):
    assert fingerprint(*one) != fingerprint(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (TENSOR.view(2, 3).T, TENSOR.view(2, 3).T.contiguous()),
        (TENSOR.clone().requires_grad_(), TENSOR),
        (torch.tensor(True), torch.tensor(True)),
        (torch.zeros(0, 3), torch.zeros(0, 3)),
    ],
    ids=str,
)
def test_fingerprints_agree(one, other):
    assert fingerprint(one) == fingerprint(other)


def test_module_fingerprint_follows_weights_and_buffers():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = module_fingerprint(module)
    assert module_fingerprint(module) == before
    module[1].running_mean += 1
    assert module_fingerprint(module) != before


def test_content_of_a_name_is_the_name():
    assert content_of("resnet") == "resnet"


def test_a_name_of_our_own_is_no_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("fashion", "resnet", "vit", "studio", "broad", "identity", "pretrained", "diffusion", "diffusion-text")
    for name in (*names, "own"):
        (tmp_path / name).write_text(name)
    assert [content_of(name) for name in names] == [*names]
    assert content_of("own") != "own"
    assert content_of("./studio") == content_of(str(tmp_path / "studio")) != "studio"


def test_content_of_a_file_is_its_bytes(tmp_path):
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / name).write_text(text)
    assert content_of(str(tmp_path / "a")) == content_of(str(tmp_path / "b")) != content_of(str(tmp_path / "c"))


def test_content_of_a_folder_sees_new_files(tmp_path):
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "0.jpg").write_text("hoot")
    before = content_of(str(tmp_path))
    (tmp_path / "owl" / ".ipynb_checkpoints").mkdir()
    for hidden in (".DS_Store", "owl/.ipynb_checkpoints/0-checkpoint.jpg"):
        (tmp_path / hidden).write_text("hoot")
    assert content_of(str(tmp_path)) == before
    (tmp_path / "owl" / "1.jpg").write_text("hoot")
    assert content_of(str(tmp_path)) != before


def test_content_of_a_folder_is_what_its_links_lead_to(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "owl").mkdir(parents=True)
        (tmp_path / name / "owl" / "0.jpg").write_text(name * 2)
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "train").symlink_to(tmp_path / name)
    (tmp_path / "two" / "round").symlink_to(tmp_path / "two")  # no walk without an end
    one, two = (content_of(str(tmp_path / "data" / name)) for name in ("one", "two"))
    assert one != two
    (tmp_path / "one" / "owl" / "1.jpg").write_text("hoot")
    assert content_of(str(tmp_path / "data" / "one")) != one
    (tmp_path / "data" / "one" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"gone\.jpg: a link that leads nowhere"):
        content_of(str(tmp_path / "data" / "one"))


@pytest.mark.parametrize(
    ("source", "beside"), [("open_clip:RN50/", "open_clip_config.json"), ("timm:resnet50/", "config.json")]
)
def test_content_of_weights_is_also_the_configuration_beside_them(source, beside, tmp_path):
    (tmp_path / "a.safetensors").write_text("weights")
    name, found = f"{source}{tmp_path / 'a.safetensors'}", []
    for quick in (None, "true", "false"):
        if quick:
            (tmp_path / beside).write_text(f'{{"quick_gelu": {quick}}}')
        found.append(content_of(name))
    assert len(set(found)) == 3
    (tmp_path / "notes.json").write_text("{}")
    assert content_of(name) == found[-1]


@pytest.mark.parametrize("source", ["open_clip:ViT-L-14/", "timm:resnet50.a1_in1k/"])
def test_content_of_a_models_file_is_its_bytes(source, tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("one")
    first = content_of(f"{source}{tmp_path / 'a'}")
    assert first.startswith(source)
    assert content_of(f"{source}{tmp_path / 'b'}") == first
    (tmp_path / "a").write_text("two")
    assert content_of(f"{source}{tmp_path / 'a'}") != first
    assert content_of(f"open_clip:RN101/{tmp_path / 'b'}") != first


def test_content_of_a_models_folder_sees_new_files(tmp_path):
    name = f"timm:local-dir:{tmp_path}"
    before = content_of(name)
    (tmp_path / "model.safetensors").write_text("weights")
    assert content_of(name) != before


@pytest.mark.parametrize("name", ["open_clip:ViT-L-14/openai", "timm:resnet50", "timm:hf-hub:timm/resnet50", "s3:a/b"])
def test_content_of_a_published_models_name_is_the_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("openai", "timm", "resnet50", "b"):
        (tmp_path / folder).mkdir()
    assert content_of(name) == name


def test_large_files_are_hashed_again_when_they_change(tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.files._SLOW_TO_READ", 0)
    path = tmp_path / "large"
    for content in (b"one", b"three"):
        path.write_bytes(content)
        assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_misfit_names_every_kind_of_difference():
    wanted = {"a": torch.zeros(2), "b": torch.zeros(3, 1), "c": torch.zeros(1), "d": torch.zeros(1)}
    found = {"a": torch.zeros(2), "b": torch.zeros(1, 3), "e": torch.zeros(1)}
    assert misfit(wanted, found) == (
        "2 missing, first c; 1 unexpected, first e; 1 misshapen, first b is (1, 3) instead of (3, 1)"
    )
    assert misfit(wanted, dict(wanted)) == ""


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


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    module = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return module, optimizer


def test_training_is_restored_with_its_step(tmp_path):
    saved, fresh = parts(), parts()
    save_training(tmp_path / "ckpt", saved, 5)
    assert restore_training(tmp_path / "ckpt", fresh) == 5
    assert torch.equal(saved[0].weight, fresh[0].weight)
    assert torch.equal(saved[1].state_dict()["state"][0]["exp_avg"], fresh[1].state_dict()["state"][0]["exp_avg"])


def test_no_checkpoint_is_step_zero(tmp_path):
    module = nn.Linear(2, 1)
    before = module.weight.clone()
    assert restore_training(tmp_path / "none", [module]) == 0
    assert torch.equal(module.weight, before)
