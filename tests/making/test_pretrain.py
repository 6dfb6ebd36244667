import numpy as np
import pytest
import torch

from dadlab.making import pretrain as module
from dadlab.making.pretrain import LABELS, draw_labelled, garments, pretrain
from dadlab.photos import ASSETS, CLASSES, load_photos
from dadlab.render import COLOURS, render
from dadlab.students import begin_student, check_start, load_student


class Stopped(Exception):
    """A kill."""


@pytest.fixture(scope="module")
def photos():
    return load_photos("val").take(np.arange(30))


def test_labels_are_what_is_drawn(photos):
    images, labels = draw_labelled(photos, seed=3)
    assert len(images) == len(labels) == 60
    for style, place in (("studio", 0), ("context", 30)):
        drawn, colours = render(photos.pixels, style, seed=3, index=photos.index)
        assert torch.equal(images[place : place + 30], drawn)
        expected = [f"{colour} {CLASSES[k]}" for colour, k in zip(colours, photos.labels, strict=True)]
        assert [LABELS[k] for k in labels[place : place + 30]] == expected


def test_a_garment_is_seen_over_all_its_colours():
    logits = torch.full((1, len(LABELS)), -9.0)
    logits[0, 2 * len(COLOURS)] = 1.0  # the likeliest label is a pullover's
    logits[0, 3 * len(COLOURS) : 3 * len(COLOURS) + 4] = 0.5  # four colours of dress are more together
    assert garments(lambda images: logits, torch.zeros(1, 3, 32, 32)).tolist() == [3]


def test_a_stopped_pretraining_ends_the_same(photos, tmp_path, monkeypatch):
    images, labels = draw_labelled(photos, seed=3)
    options = {"steps": 4, "batch": 8, "log": lambda line: None}
    pretrain(images, labels, "resnet_s", tmp_path / "calm.safetensors", **options)
    real = module.random_batch

    def batch(images, step, *rest):
        if step == 3:
            raise Stopped
        return real(images, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "SAVED", 1)
        patch.setattr(module, "random_batch", batch)
        with pytest.raises(Stopped):
            pretrain(images, labels, "resnet_s", tmp_path / "stopped.safetensors", **options)
    assert (tmp_path / "stopped.ckpt").is_file()
    pretrain(images, labels, "resnet_s", tmp_path / "stopped.safetensors", **options)
    one, other = (load_student(tmp_path / f"{name}.safetensors").state_dict() for name in ("calm", "stopped"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not (tmp_path / "stopped.ckpt").exists()


@pytest.mark.parametrize("path", sorted(ASSETS.glob("pretrained_*.safetensors")), ids=lambda path: path.stem)
def test_committed_weights_begin_a_student(path):
    name = path.stem.removeprefix("pretrained_")
    check_start(name, "pretrained")
    first, other = (begin_student(name, 10, 32, start=start) for start in ("pretrained", ""))
    assert first.state_dict().keys() == other.state_dict().keys()
    assert load_student(path).classes == len(LABELS)
    assert path.stat().st_size <= 2_000_000
