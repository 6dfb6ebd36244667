"""Tiny stand-ins of the real pieces: forty photographs, a random VQGAN, a teacher that is a small untrained student."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from published_imagenet import TOY, write_toy_imagenet
from torchvision.datasets import Flowers102
from toy_benchmarks import toy_sizes

from dadlab import train
from dadlab.adain import StyleTransfer
from dadlab.data import load_split
from dadlab.dataset import Dataset
from dadlab.discretizer import VQGAN, FrozenVQGAN
from dadlab.disk import imagenet
from dadlab.files import save_weights
from dadlab.profile import Profile, make_profile
from dadlab.students import Student, save_student
from dadlab.teacher import StudentTeacher
from dadlab.vlm import benchmarks

SUMS = dict(Flowers102._file_dict)
TINY_VQGAN = {
    "ddconfig": {
        "double_z": False,
        "z_channels": 4,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1],
        "num_res_blocks": 0,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    "n_embed": 16,
    "embed_dim": 4,
}


@pytest.fixture(autouse=True, scope="session")
def _interrupts():
    """A shell that starts tests in the background has them ignore interrupts, which some tests send."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def photos40() -> Dataset:
    return load_split("fashion", "val", limit=40)


@pytest.fixture(scope="session")
def tiny_student() -> Student:
    torch.manual_seed(0)
    return Student("resnet_s", 10).eval()


@pytest.fixture(scope="session")
def tiny_teacher(tiny_student: Student) -> StudentTeacher:
    return StudentTeacher(tiny_student)


@pytest.fixture(scope="session")
def tiny_vqgan() -> FrozenVQGAN:
    torch.manual_seed(0)
    vqgan = FrozenVQGAN(**TINY_VQGAN)
    vqgan.quantize.embedding.weight.data.normal_()
    return vqgan.freeze()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, tiny_student: Student, tiny_vqgan: VQGAN) -> dict[str, Path]:
    """Weight files that profiles can name."""
    folder = tmp_path_factory.mktemp("weights")
    save_student(folder / "teacher.safetensors", tiny_student)
    save_weights(folder / "vqgan.safetensors", tiny_vqgan.state_dict(), TINY_VQGAN)
    transfer = StyleTransfer([[4], [4]])
    save_weights(folder / "transfer.safetensors", transfer.state_dict(), {"stages": transfer.stages})
    return {name: folder / f"{name}.safetensors" for name in ("teacher", "vqgan", "transfer")}


@pytest.fixture
def profile(files: dict[str, Path]) -> Profile:
    """Forty photographs, five steps an epoch."""
    paths = {"teacher": files["teacher"], "discretizer": files["vqgan"], "transfer": files["transfer"]}
    return make_profile(limit=40, epochs=3, batch=8, views=2, **{name: str(path) for name, path in paths.items()})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Where the trainings of one test file keep their materials, and which they have."""
    return tmp_path_factory.mktemp("materials"), {}


@pytest.fixture
def materials_made_once(prepared: tuple[Path, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of one test file share stores and caches, which do not depend on how a student is optimized."""
    folder, found = prepared

    def prepare(profile, method, runs_dir):
        key = replace(profile, epochs=1, batch=8, accumulate=1, ema=0.0, optimizer="adamw", lr=1.0), method
        if key not in found:
            found[key] = real(profile, method, folder)
        return found[key]

    real = train.prepare
    monkeypatch.setattr(train, "prepare", prepare)


@pytest.fixture(scope="session")
def toy_imagenet_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_imagenet(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture
def toy_imagenet(toy_imagenet_files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ImageNet and its shifts as published, of ten classes, which the package takes for all there are."""
    monkeypatch.setattr(imagenet, "vocabulary", lambda: TOY)
    return toy_imagenet_files


@pytest.fixture
def toy_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Table 13 of stand-ins; torchvision's sums of the true label files are not asked for."""
    monkeypatch.setattr(benchmarks, "published_sizes", toy_sizes)
    monkeypatch.setattr(Flowers102, "_file_dict", {name: (file, None) for name, (file, _) in SUMS.items()})
