import json
import shlex

import pytest
import torch
from PIL import Image

from benchmarks import stand_ins, training_step
from dadlab.adain import load_style_transfer
from dadlab.profile import make_profile
from dadlab.samples import ImageReader


@pytest.fixture
def tiny(files, monkeypatch):
    """JPEGs of another shape than square at 64 pixels, so that views are random resized crops of encoded files."""

    def shapes(folder, count):
        stand_ins.write_photographs(folder / "data" / "train", count, [*"abcdefghij"], (96, 72))
        given = {"data": str(folder / "data"), "teacher": str(files["teacher"]), "discretizer": str(files["vqgan"])}
        return {**given, "attack": {"epsilon": 0.0, "steps": 0}}

    monkeypatch.setitem(training_step.SHAPES, "tiny", shapes)
    monkeypatch.setattr("dadlab.generate.TILE", 8)


@pytest.mark.usefixtures("tiny")
def test_steps_memory_and_operations_are_measured_on_encoded_images(tmp_path, monkeypatch):
    seen, read = [], []
    reading = ImageReader.__call__
    monkeypatch.setattr(ImageReader, "__call__", lambda reader, rows: read.append(len(rows)) or reading(reader, rows))
    real = training_step.make_profile
    monkeypatch.setattr(training_step, "make_profile", lambda **given: seen.append(real(**given)) or seen[-1])
    shape = ["--shapes", "tiny", "--student", "resnet_s", "--limit", "20", "--batch", "4", "--image-size", "64"]
    arguments = [*shape, "--epochs", "2", "--note", "a test", "--out", str(tmp_path / "step.json")]
    assert training_step.main(arguments) == 0
    found = json.loads((tmp_path / "step.json").read_text())
    assert seen[0].image_size == 64
    assert read, "samples were not read from WebP"
    assert shlex.split(found["command"]) == ["python", "-m", "benchmarks.training_step", *arguments]
    assert found["settings"]["shapes"] == "tiny, random weights"
    assert "data" not in found["settings"]  # a folder that is gone by now
    assert found["steps an epoch"] == 5
    for method in training_step.METHODS:
        assert 0 < found["seconds a step"][method] * found["photographs a second"][method] / 4 < 1.1
        within = found["inside a step"][method]
        assert within["peak memory, GB"] > 0.1
        assert any("conv" in name for name in within["of the time, %"])
        assert 50 < sum(within["of the time, %"].values()) <= 100.5
    assert found["dad over plain, teacher in every step"] > found["dad over plain"]


def test_imagenets_stand_ins_have_its_shapes_and_formats(tmp_path, monkeypatch):
    asked = []
    small = torch.nn.Linear(1, 1)
    monkeypatch.setattr(stand_ins, "create_model", lambda name, **options: asked.append(name) or small)
    monkeypatch.setattr(stand_ins, "FrozenVQGAN", lambda **config: asked.append(config["n_embed"]) or small)
    profile = make_profile(**stand_ins.imagenet(tmp_path, 4))
    assert asked == ["ViT-L-14", 16384]
    assert profile.teacher == f"open_clip:ViT-L-14/{tmp_path}/vit_l_14.safetensors"
    assert load_style_transfer(profile.transfer).stages == [[64, 64], [128, 128], [256] * 4, [512]]
    (picture, *_) = pictures = sorted((tmp_path / "data" / "train").rglob("*.jpg"))
    assert len(pictures) == 4
    with Image.open(picture) as opened:
        assert opened.size == (500, 375)
    assert 50_000 < picture.stat().st_size < 200_000  # an ImageNet photograph has about 110 KB
