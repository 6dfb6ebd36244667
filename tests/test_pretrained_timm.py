"""timm's models as teachers, by file and folder, offline: its `test_vit`."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from dadlab.captions import CLASSES
from dadlab.fingerprints import content_of, module_fingerprint
from dadlab.pretrained import load_timm
from dadlab.teacher import Classifier, load_teacher

THOUSAND = tuple(f"class {k}" for k in range(1000))
pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def test_vit(tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=10).eval()
    save_file(net.state_dict(), tmp_path / "vit.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "vit.pth")
    return net, tmp_path


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_timm_file_is_a_teacher_with_timms_preprocessing(test_vit, suffix):
    net, folder = test_vit
    found, images = load_teacher(f"timm:test_vit/{folder / 'vit'}.{suffix}"), torch.rand(2, 3, 160, 160)
    assert isinstance(found, Classifier)
    torch.testing.assert_close(found(images), net((images - 0.5) / 0.5))
    assert found.preprocess.interpolation == "bicubic"
    assert found(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_what_a_files_pixels_are_taken_for_is_said(test_vit, capsys):
    """timm's ViTs are used to 0.5, those of many authors to ImageNet's mean."""
    folder, told = test_vit[1], "pixels of test_vit, mean 0.5, 0.5, 0.5 and deviation 0.5, 0.5, 0.5; config.json beside"
    load_timm(f"test_vit/{folder / 'vit.pth'}", 10)
    assert told in capsys.readouterr().out
    (folder / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": {"mean": [0.4] * 3}}))
    load_timm(f"test_vit/{folder / 'vit.pth'}", 10)
    assert capsys.readouterr().out == ""


def test_timm_teacher_is_frozen_and_its_preprocessing_counts(test_vit):
    found = load_teacher(f"timm:test_vit/{test_vit[1] / 'vit.pth'}")
    assert not found.train().training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    first = module_fingerprint(found)
    found.preprocess.interpolation = "bilinear"
    assert module_fingerprint(found) != first


def test_exported_folder_is_a_teacher(test_vit):
    net, folder = test_vit
    (folder / "vit.safetensors").rename(folder / "model.safetensors")
    pixels = {"input_size": [3, 160, 160], "mean": [0.25] * 3, "std": [0.5] * 3, "num_classes": 10}
    config = {"architecture": "test_vit", "num_classes": 10, "pretrained_cfg": pixels, "model_args": {"img_size": 160}}
    (folder / "config.json").write_text(json.dumps(config))
    found, images = load_teacher(f"timm:local-dir:{folder}"), torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(found(images), net((images - 0.25) / 0.5))
    with pytest.raises(ValueError, match="teacher knows 10 classes, the data has 1,000"):
        load_teacher(f"timm:local-dir:{folder}", THOUSAND)


def test_a_file_is_prepared_as_the_config_beside_it_says(test_vit):
    net, folder = test_vit
    beside = folder / "config.json"
    pixels = {"input_size": [3, 160, 160], "mean": [0.25] * 3, "std": [0.5] * 3, "num_classes": 10}
    beside.write_text(json.dumps({"architecture": "test_vit", "num_classes": 10, "pretrained_cfg": pixels}))
    found, images = load_teacher(f"timm:test_vit/{folder / 'vit.pth'}"), torch.rand(2, 3, 160, 160)
    torch.testing.assert_close(found(images), net((images - 0.25) / 0.5))
    beside.write_text(json.dumps({"architecture": "resnet50", "pretrained_cfg": pixels}))
    with pytest.raises(ValueError, match=r"config\.json: describes resnet50, not test_vit"):
        load_teacher(f"timm:test_vit/{folder / 'vit.pth'}")
    beside.write_text(json.dumps({"architectures": ["ViTForImageClassification"]}))
    found = load_teacher(f"timm:test_vit/{folder / 'vit.pth'}")
    torch.testing.assert_close(found(images), net((images - 0.5) / 0.5))


def test_timm_classes_are_counted_in_the_file(test_vit):
    with pytest.raises(ValueError, match=r"vit\.pth: teacher knows 10 classes, the data has 1,000"):
        load_timm(f"test_vit/{test_vit[1] / 'vit.pth'}", 1000)


def test_timm_classes_are_counted_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: pytest.fail("built"))
    with pytest.raises(ValueError, match="teacher knows 1,000 classes, the data has 10"):
        load_teacher("timm:resnet50", CLASSES)


def test_file_of_another_architecture_is_named(test_vit):
    with pytest.raises(ValueError, match=r"vit\.pth: weights of another kind.*missing, first"):
        load_teacher(f"timm:test_resnet/{test_vit[1] / 'vit.pth'}")


def test_a_teachers_name_counts_by_its_file(test_vit):
    folder = test_vit[1]
    one, other = (content_of(f"timm:test_vit/{folder / name}") for name in ("vit.pth", "vit.safetensors"))
    assert one != other
    assert all(found.startswith("timm:test_vit/") and str(folder) not in found for found in (one, other))
