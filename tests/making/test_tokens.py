"""A Discrete ViT of a few steps."""

from __future__ import annotations

import pytest
import torch

from dadlab.data import load_split
from dadlab.files import load_weights
from dadlab.making.tokens import train_token_teacher
from dadlab.photos import ASSETS
from dadlab.teacher import load_teacher

TINY = {"patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def images():
    return load_split("fashion", "train", limit=40)


def test_what_is_written_answers_as_what_was_trained_and_the_vqgan_stays(images, tmp_path):
    out = tmp_path / "teacher.safetensors"
    trained = train_token_teacher(images, out, vit=TINY, steps=2, batch=4, log=lambda line: None)
    loaded, shown = load_teacher(str(out)), images.images(torch.arange(3))
    torch.testing.assert_close(loaded(shown), trained(shown))
    assert [path.name for path in tmp_path.iterdir()] == ["teacher.safetensors"]


def test_the_backbone_is_trained_and_the_vqgan_is_not(images, tmp_path):
    before, after = (
        train_token_teacher(images, tmp_path / str(steps), vit=TINY, steps=steps, batch=4, log=lambda line: None)
        for steps in (0, 3)
    )
    moved = {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert not any(name.startswith("discretizer.") for name in moved)
    assert "backbone.vit.patch_embed.project.weight" in moved


def test_the_vqgan_is_the_one_named_and_pixels_are_the_students(images, tmp_path):
    teacher = train_token_teacher(images, tmp_path / "t.safetensors", vit=TINY, steps=0, log=lambda line: None)
    state = load_weights(ASSETS / "vqgan_studio.safetensors")[0]
    assert all(torch.equal(value, state[name]) for name, value in teacher.discretizer.state_dict().items())
    assert (float(teacher.backbone.preprocess.mean[0, 0]), float(teacher.backbone.preprocess.std[0, 0])) == (0.5, 0.25)
