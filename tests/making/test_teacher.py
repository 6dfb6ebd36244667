import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published import a_class
from torch import nn

from dadlab.captions import tokenizer
from dadlab.files import load_weights
from dadlab.making import teacher as module
from dadlab.making.teacher import CONFIGS, STYLES, clip_loss, draw_corpus, train_clip
from dadlab.photos import load_photos
from dadlab.teacher import build_clip, load_teacher

TEXT = {"context_length": 24, "width": 16, "heads": 2, "layers": 1}
PIXELS = {"mean": [0.5] * 3, "std": [0.25] * 3}
TINY = {
    "vit": {
        "embed_dim": 8,
        "vision_cfg": {
            "layers": 1,
            "width": 16,
            "head_width": 8,
            "patch_size": 16,
            "image_size": 32,
            "patch_dropout": 0.5,
        },
        "text_cfg": TEXT,
        **PIXELS,
    },
    "resnet": {
        "embed_dim": 8,
        "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 32},
        "text_cfg": TEXT,
        **PIXELS,
    },
}


@pytest.fixture(scope="module")
def photos():
    return a_class(load_photos("val"), 1)


def fit(photos, tower, out, steps, log=lambda line: None):
    return train_clip(photos, TINY[tower], out, draws=1, steps=steps, batch=4, log=log)


@pytest.mark.parametrize("tower", TINY)
def test_a_few_steps_write_a_teacher_that_loads(photos, tower, tmp_path):
    out = tmp_path / "clip.safetensors"
    clip = fit(photos, tower, out, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.safetensors"]
    teacher = load_teacher(str(out), ("owl", "bag"), ("a {}",))
    images = torch.rand(2, 3, 32, 32)
    assert teacher(images).shape == (2, 2)
    torch.testing.assert_close(teacher.clip.logit_scale, clip.logit_scale, rtol=1e-3, atol=0)
    assert load_weights(out)[1]["text_cfg"]["vocab_size"] == tokenizer().vocab_size


def test_same_seed_same_bytes(photos, tmp_path):
    for name in ("a", "b"):
        fit(photos, "vit", tmp_path / f"{name}.safetensors", 2)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("tower", ["vit", pytest.param("resnet", marks=pytest.mark.slow)])
def test_stopped_training_goes_on_to_the_same_bytes(photos, tower, tmp_path, monkeypatch):
    """Stopped after the checkpoint of step 200; `vit` drops random patches in every step."""
    fit(photos, tower, tmp_path / "calm.safetensors", 203)
    save = module.save_training

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_training", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            fit(photos, tower, tmp_path / "stopped.safetensors", 203)
    lines: list[str] = []
    fit(photos, tower, tmp_path / "stopped.safetensors", 203, lines.append)
    assert [line.split()[1] for line in lines] == ["203/203"]
    assert (tmp_path / "stopped.safetensors").read_bytes() == (tmp_path / "calm.safetensors").read_bytes()


def test_corpus_has_every_photograph_in_every_style(photos):
    images, index, facts = draw_corpus(photos, 2, seed=0)
    assert images.shape == (10 * 2 * 4, 3, 32, 32)
    assert index.tolist() == list(range(80))
    assert [style for _, _, style in facts] == [style for _ in range(2) for style in STYLES for _ in range(10)]
    assert [label for label, _, _ in facts] == photos.labels.tolist() * 8
    assert not torch.equal(images[:40], images[40:])


def test_corpus_of_one_style_is_that_style_alone(photos):
    images, _, facts = draw_corpus(photos, 2, seed=0, styles=["sketch"])
    assert {style for _, _, style in facts} == {"sketch"}
    every, _, drawn = draw_corpus(photos, 1, seed=0)
    assert torch.equal(images[:10], every[torch.tensor([style == "sketch" for _, _, style in drawn])])


def test_teacher_never_sees_the_held_out_styles():
    assert set(STYLES) == {"studio", "context", "rendition", "sketch"}


class Lookup(nn.Module):
    """Stands in for CLIP: pixels and tokens are already features."""

    logit_scale = torch.tensor(0.0)

    def encode_image(self, pixels, normalize):
        return F.normalize(pixels, dim=-1)

    def encode_text(self, tokens, normalize):
        return F.normalize(tokens, dim=-1)


def test_loss_by_hand():
    """Two images at their captions, orthogonal: each softmax is over logits 1 and 0."""
    eye = torch.eye(2)
    assert clip_loss(Lookup(), eye, eye).item() == pytest.approx(np.log(1 + np.exp(-1)))


def test_repeated_caption_is_one_target():
    """Three images, two of them with one caption: no image is pushed away from its own caption."""
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = clip_loss(Lookup(), texts, texts)
    rows = np.log(1 + np.exp(-1))  # every image over two captions
    shared, alone = np.log(2 + np.exp(-1)), np.log(1 + 2 * np.exp(-1))  # both captions over three images
    assert loss.item() == pytest.approx((rows + (shared + alone) / 2) / 2)


def test_order_of_the_batch_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator)
    swap = torch.tensor([3, 5, 0, 1, 4, 2])
    torch.testing.assert_close(clip_loss(Lookup(), images[swap], texts[swap]), clip_loss(Lookup(), images, texts))


@pytest.mark.parametrize("tower", CONFIGS)
def test_embedded_configurations_build(tower):
    config = copy.deepcopy(CONFIGS[tower])
    config["text_cfg"]["vocab_size"] = tokenizer().vocab_size
    clip, size = build_clip(config).eval(), config["vision_cfg"]["image_size"]
    assert clip.encode_image(torch.rand(1, 3, size, size)).shape == (1, 64)
    assert sum(p.numel() for p in clip.parameters()) * 2 < 5_000_000  # bytes in half precision
