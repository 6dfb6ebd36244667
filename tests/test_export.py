import json
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from dadlab import export
from dadlab.disk.encoded import Framing, frame
from dadlab.export import export_student, push_student
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.students import Student, save_student


@pytest.fixture
def finished(tmp_path):
    def build(student, size=32):
        run = Run(make_profile(image_size=size), "kd", student)
        torch.manual_seed(0)
        net = Student(student, 10, size).eval()
        save_student(run.folder(tmp_path / "runs") / "student.safetensors", net)
        return run, net, tmp_path / "runs"

    return build


@pytest.mark.parametrize("name", ["resnet_s", "vit_s", "resnet10t"])
def test_export_is_the_same_network_in_timm(finished, tmp_path, name):
    run, student, runs_dir = finished(name)
    folder = export_student(run, runs_dir, tmp_path / "out")
    net = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    data = timm.data.resolve_model_data_config(net)
    assert {name: list(data[name]) for name in ("mean", "std")} == {"mean": [0.5] * 3, "std": [0.25] * 3}
    assert data["input_size"] == (3, 32, 32)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(net((images - 0.5) / 0.25), student(images))
    assert json.loads((folder / "config.json").read_text())["label_names"][9] == "ankle boot"
    assert not list(folder.glob("*.bin"))


@pytest.mark.parametrize("name", ["resnet10t", "resnet_s"])
@pytest.mark.parametrize(("side", "shape"), [(224, (320, 280)), (64, (80, 110)), (32, (64, 96))])
def test_timms_transform_is_the_one_of_the_cards_numbers(finished, tmp_path, name, side, shape):
    run, _, runs_dir = finished(name, side)
    folder = export_student(run, runs_dir, tmp_path / "out")
    data = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{folder}", pretrained=True))
    coarse = np.random.default_rng(0).integers(0, 256, (shape[1] // 4, shape[0] // 4, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(shape, Image.Resampling.BICUBIC)
    theirs = timm.data.create_transform(**data, is_training=False)(picture) * 0.25 + 0.5
    ours = torch.from_numpy(np.array(frame(picture, Framing(side), None))).permute(2, 0, 1) / 255
    assert (theirs - ours).abs().mean() < 0.01


def test_card_says_how_it_was_made_and_what_it_scored(finished, tmp_path):
    run, _, runs_dir = finished("resnet_s")
    correct = run.folder(runs_dir) / "correct"
    correct.mkdir()
    np.save(correct / "sketch.npy", np.array([True, True, True, False]))
    card = (export_student(run, runs_dir, tmp_path / "out", license="mit") / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    for part in ("license: mit", "| sketch | 75.00 | 4 |", "resnet_s, KD", "import dadlab.export", "temperature"):
        assert part in card


def test_card_shows_nobodys_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.run.identity", lambda *_: "of images that are not here")
    named = {"data": "imagenet:/home/jane/images", "teacher": "open_clip:ViT-L-14//home/jane/x.pt"}
    named |= {"discretizer": "/home/jane/q.safetensors", "start": "/home/jane/student.safetensors"}
    text = export.model_card(Run(make_profile(**named), "kd"), tmp_path)
    assert "jane" not in text
    assert text.count("open_clip:ViT-L-14/x.pt") == text.count("imagenet:images") == 2


def test_unfinished_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not trained yet"):
        export_student(Run(make_profile(), "kd"), tmp_path, tmp_path / "out")


class Hub:
    """The hub, offline."""

    calls: list

    def __init__(self, token=None):
        Hub.calls = [token]

    def create_repo(self, repo, private, exist_ok):
        self.calls.append((repo, private, exist_ok))
        return SimpleNamespace(repo_id=f"me/{repo}")

    def upload_folder(self, repo_id, folder_path, commit_message):
        self.calls.append((repo_id, sorted(path.name for path in folder_path.iterdir())))


def test_push_uploads_the_folder(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "HfApi", Hub)
    run, _, runs_dir = finished("resnet_s")
    push_student(export_student(run, runs_dir, tmp_path / "out"), "student")
    files = ["README.md", "config.json", "model.safetensors"]
    assert Hub.calls == [None, ("student", True, True), ("me/student", files)]


def test_push_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.safetensors, config\.json, README\.md missing"):
        push_student(tmp_path, "student")
