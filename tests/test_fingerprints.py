import hashlib

import pytest
import torch
from torch import nn

from dadlab.fingerprints import content_of, fingerprint, module_fingerprint, sha256

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
    (tmp_path / "data" / "one" / "val").symlink_to(tmp_path / "one")  # twice the same
    assert content_of(str(tmp_path / "data" / "one")) != content_of(str(tmp_path / "one"))
    both = content_of(str(tmp_path / "data" / "one"))
    (tmp_path / "data" / "one" / "val").unlink()
    assert content_of(str(tmp_path / "data" / "one")) != both
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
    monkeypatch.setattr("dadlab.fingerprints._SLOW_TO_READ", 0)
    path = tmp_path / "large"
    for content in (b"one", b"three"):
        path.write_bytes(content)
        assert sha256(path) == hashlib.sha256(content).hexdigest()
