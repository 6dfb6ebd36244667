"""open_clip and timm by name and file, offline: a tiny CLIP among open_clip's configurations, timm's `test_vit`."""

import hashlib
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP, QuickGELU
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dadlab.captions import CLASSES
from dadlab.compute import Compute, with_towers
from dadlab.fingerprints import module_fingerprint
from dadlab.pretrained import load_open_clip
from dadlab.teacher import CLIP_TEMPLATES, PublishedClip, load_teacher

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"layers": 1, "width": 64, "patch_size": 8, "image_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
FAMILIES = {
    "CoCa": {
        "embed_dim": 8,
        "multimodal_cfg": {"width": 64, "context_length": 76, "vocab_size": 49408, "layers": 1, "heads": 1},
        "vision_cfg": {"layers": 1, "width": 64, "patch_size": 8, "image_size": 16, "output_tokens": True}
        | {"attentional_pool": True, "attn_pooler_heads": 1, "attn_pooler_queries": 4},
        "text_cfg": {"context_length": 76, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
        | {"embed_cls": True, "output_tokens": True},
        "custom_text": True,
    },
    "ResNet": {**TINY, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}},
    "Timm": {  # as SigLIP, whose tokenizer is not here
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**TINY["text_cfg"], "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
}
THOUSAND = tuple(f"class {k}" for k in range(1000))
pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(autouse=True)
def tiny_models(tmp_path, monkeypatch):
    """`Tiny` with tags of both activations and `Quick` with OpenAI's alone, as open_clip lists its own."""
    known = {
        **open_clip.factory._MODEL_CONFIGS,
        "Tiny": TINY,
        "Quick": TINY,
        "Tiny-quickgelu": {**TINY, "quick_gelu": True},
    }
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", known)
    file, _ = write_clip(tmp_path / "tagged.pt")
    plain = {"file": str(file), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25), "interpolation": "bilinear"}
    quick = {**plain, "quick_gelu": True, "interpolation": "bicubic"}
    tags = {**open_clip.pretrained._PRETRAINED, "Tiny": {"plain": plain, "openai": quick}, "Quick": {"openai": quick}}
    monkeypatch.setattr(open_clip.pretrained, "_PRETRAINED", tags)


def write_clip(path):
    torch.manual_seed(0)
    clip = CLIP(**TINY)
    torch.save({"state_dict": clip.state_dict()}, path)
    return path, clip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_teaches_on_an_accelerator(family, tmp_path, monkeypatch):
    known = {**open_clip.factory._MODEL_CONFIGS, f"Tiny-{family}": FAMILIES[family]}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", known)
    torch.manual_seed(0)
    clip = open_clip.create_model(f"Tiny-{family}", load_weights=False)
    torch.save(clip.state_dict(), tmp_path / "weights.pt")
    teacher = load_teacher(f"open_clip:Tiny-{family}/{tmp_path / 'weights.pt'}", CLASSES, ["a photo of a {}"])
    low = with_towers(teacher, Compute("bfloat16", compiled=False))
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    found, expected = low(images), teacher(images)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()
    found.sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP/webli", "roberta-ViT-B-32/laion2b_s12b_b32k", "ViT-L-14-CLIPA/x.pt"])
def test_what_needs_transformers_names_the_extra_before_weights_are_fetched(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(open_clip, "download_pretrained", lambda config: pytest.fail("fetched"))
    with pytest.raises(ValueError, match=rf"open_clip:{name}: needs transformers \(pip install 'dadlab\[teachers\]'\)"):
        load_open_clip(name)
    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert "transformers" in extras["optional-dependencies"]["teachers"][0]


def is_quick(clip) -> bool:
    found = {any(isinstance(m, QuickGELU) for m in tower.modules()) for tower in (clip.visual, clip.transformer)}
    assert len(found) == 1
    return found.pop()


def test_tag_brings_weights_activation_and_preprocessing(tmp_path):
    _, clip = write_clip(tmp_path / "same.pt")
    for tag, quick, interpolation in (("plain", False, "bilinear"), ("openai", True, "bicubic")):
        found, tokenizer, preprocess = load_open_clip(f"Tiny/{tag}")
        assert all(torch.equal(found.state_dict()[key], value) for key, value in clip.state_dict().items())
        assert is_quick(found) is quick
        assert tokenizer(["a bag"]).shape == (1, 77)
        assert preprocess.size == 16
        assert preprocess.interpolation == interpolation
        assert preprocess.mean.flatten().tolist() == pytest.approx((0.5, 0.4, 0.3))
        assert preprocess.std.flatten().tolist() == pytest.approx((0.2, 0.3, 0.25))


@pytest.mark.parametrize("name", ["ViT-L-14/openai", "RN101/openai"])
def test_the_papers_teachers_are_asked_for_as_openai_made_them(name, monkeypatch):
    asked = {}

    def create(model, **options):
        asked.update(options, model=model)
        raise RuntimeError("far away")

    monkeypatch.setattr(open_clip, "download_pretrained", lambda config: "")
    monkeypatch.setattr(open_clip, "create_model", create)
    with pytest.raises(ValueError, match=f"open_clip:{name}: cannot be loaded \\(far away\\)"):
        load_open_clip(name)
    model, tag = name.split("/")
    assert (asked["model"], asked["pretrained"], asked["force_quick_gelu"]) == (model, tag, True)


@pytest.mark.parametrize(
    ("name", "quick", "said"), [("Tiny", False, True), ("Tiny-quickgelu", True, False), ("Quick", True, False)]
)
def test_a_files_activation_follows_the_models_name(name, quick, said, tmp_path, capsys):
    path, _ = write_clip(tmp_path / "own.pt")
    found, _, preprocess = load_open_clip(f"{name}/{path}")
    assert is_quick(found) is quick
    assert ("Tiny-quickgelu" in capsys.readouterr().out) is said
    assert preprocess.interpolation == "bicubic"
    assert preprocess.mean.flatten().tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


def test_a_configuration_beside_the_file_decides(tmp_path):
    path, _ = write_clip(tmp_path / "open_clip_model.pt")
    pixels = {"mean": [0.1, 0.2, 0.3], "interpolation": "bilinear"}
    described = {"model_cfg": {**TINY, "quick_gelu": True}, "preprocess_cfg": pixels}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    (tmp_path / "tagged.pt").unlink()
    path = path.rename(tmp_path / "open_clip_pytorch_model.bin")
    for name in (f"Tiny/{path}", f"local-dir:{tmp_path}"):
        found, _, preprocess = load_open_clip(name)
        assert is_quick(found)
        assert preprocess.interpolation == "bilinear"
        assert preprocess.mean.flatten().tolist() == pytest.approx((0.1, 0.2, 0.3))


@pytest.mark.parametrize("tag", ["plain", "openai"])
@pytest.mark.parametrize("side", [16, 40])
def test_preprocessing_is_open_clips_on_square_photographs(tag, side):
    pixels = np.random.default_rng(0).integers(64, 192, (side, side, 3), dtype=np.uint8)
    _, _, transform = open_clip.create_model_and_transforms("Tiny", pretrained=tag, force_quick_gelu=tag == "openai")
    found = load_open_clip(f"Tiny/{tag}")[2](torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(found[0], transform(Image.fromarray(pixels)), atol=1.5 / 255 / 0.2, rtol=0)


def test_safetensors_load_too(tmp_path):
    _, clip = write_clip(tmp_path / "own.pt")
    save_file(clip.state_dict(), tmp_path / "own.safetensors")
    found, _, _ = load_open_clip(f"Quick/{tmp_path / 'own.safetensors'}")
    assert torch.equal(found.visual.proj, clip.visual.proj)


class Archive(nn.Module):
    """A tree of parameters, as the programs that OpenAI published are read here."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def write_program(path, state) -> None:
    root = Archive()
    for key, value in state.items():
        *parents, leaf = key.split(".")
        node = root
        for name in parents:
            if name not in dict(node.named_children()):
                node.add_module(name, Archive())
            node = getattr(node, name)
        node.register_buffer(leaf, value)
    torch.jit.save(torch.jit.trace(root, torch.zeros(1), check_trace=False), path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
def test_openais_own_archive_opens_only_with_openais_hash(tmp_path, monkeypatch):
    path, clip = tmp_path / "Tiny.pt", write_clip(tmp_path / "own.pt")[1]
    write_program(path, clip.state_dict())
    with pytest.raises(ValueError, match=r"Tiny\.pt: a TorchScript program, not OpenAI's Tiny"):
        load_open_clip(f"Tiny/{path}")
    url = f"https://example.org/{hashlib.sha256(path.read_bytes()).hexdigest()}/Tiny.pt"
    open_clip.pretrained._PRETRAINED["Tiny"]["openai"]["url"] = url
    found, _, preprocess = load_open_clip(f"Tiny/{path}")
    assert is_quick(found)
    assert preprocess.size == 16
    torch.testing.assert_close(found.visual.proj, clip.visual.proj, atol=1e-3, rtol=1e-2)  # OpenAI's are half precision


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("open_clip:ViT-L14/openai", "unknown open_clip model 'ViT-L14': did you mean 'ViT-L-14'"),
        ("open_clip:ViT-L-14/opnai", "unknown weights 'opnai' of ViT-L-14: did you mean 'openai'"),
        ("open_clip:RN101", "unknown weights '' of RN101: did you mean"),
        ("open_clip:RN101/none.pt", r"none\.pt: weights not found"),
        ("open_clip:RN101/openai", r"no weights here and timm/resnet101_clip.openai cannot be .* open_clip:RN101/PATH"),
        ("open_clip:hf-hub:none/none", "open_clip:hf-hub:none/none: cannot be loaded"),
        ("open_clip:local-dir:none", "open_clip:local-dir:none: cannot be loaded"),
        ("timm:resnet_50", "unknown timm model 'resnet_50': did you mean 'resnet50'"),
        ("timm:resnet50.a1_in1", "unknown weights of timm model 'resnet50.a1_in1': did you mean 'resnet50.a1_in1k'"),
        ("timm:resnet50/none.pth", r"none\.pth: weights not found"),
        ("timm:resnet50", r"no weights here and timm/resnet50.a1_in1k cannot be fetched .* timm:resnet50/PATH"),
        ("timm:vit_base_patch16_224.orig_in21k", "teacher knows 0 classes, the data has 1,000"),
        ("timm:hf-hub:none/none", "timm:hf-hub:none/none: no weights"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line_with_a_remedy(name, names):
    with pytest.raises(ValueError, match=names) as caught:
        load_teacher(name, THOUSAND)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["open_clip:Tiny", "timm:test_vit"])
def test_a_web_page_as_weights_is_named(name, tmp_path):
    (tmp_path / "page.pt").write_text("<html>")
    with pytest.raises(ValueError, match=r"page\.pt: a web page"):
        load_teacher(f"{name}/{tmp_path / 'page.pt'}", THOUSAND)


def test_weights_of_another_clip_are_named_in_one_line(tmp_path):
    torch.save({"visual.proj": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt: cannot be loaded \(.*") as caught:
        load_open_clip(f"Quick/{tmp_path / 'other.pt'}")
    assert "\n" not in str(caught.value)


def test_open_clip_teacher_answers_with_clips_prompts(monkeypatch):
    heads = []
    monkeypatch.setattr("dadlab.teacher.zero_shot_head", lambda *given: heads.append(given) or torch.eye(2, 8))
    found = load_teacher("open_clip:Tiny/openai", ("owl", "bag"))
    assert isinstance(found, PublishedClip)
    assert heads[0][2:] == (("owl", "bag"), CLIP_TEMPLATES)
    assert (len(CLIP_TEMPLATES), CLIP_TEMPLATES[0]) == (80, "a bad photo of a {}.")
    load_teacher("open_clip:Tiny/openai", ("owl", "bag"), ("one {}",))
    assert heads[1][3] == ("one {}",)


def test_open_clip_teacher_is_a_frozen_classifier_with_a_gradient():
    found = load_teacher("open_clip:Tiny/openai", ("owl", "bag"), ("a {}",))
    images = torch.rand(2, 3, 40, 40, requires_grad=True)
    found(images).square().sum().backward()
    assert found(images).shape == (2, 2)
    assert images.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_activation_and_preprocessing_count_in_the_fingerprint():
    plain, quick = (load_teacher(f"open_clip:Tiny/{tag}", ("owl", "bag"), ("a {}",)) for tag in ("plain", "openai"))
    assert module_fingerprint(plain) != module_fingerprint(quick)
    first = module_fingerprint(quick)
    quick.preprocess.mean += 0.1
    assert module_fingerprint(quick) != first
