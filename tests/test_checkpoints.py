"""Checkpoints in the published format: Lightning 1.0's dictionary around CompVis' `VQModel`, losses included."""

import argparse
import copy
import hashlib
import os
import subprocess
import sys
import types
from fractions import Fraction

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from taming.modules.discriminator.model import NLayerDiscriminator
from torch import nn

from dadlab.checkpoints import VQGAN_F8, convert, main, read_checkpoint, read_config
from dadlab.discretizer import VQGAN, load_discretizer

SMALL = {
    "ddconfig": {**VQGAN_F8["ddconfig"], "ch": 32, "resolution": 32, "attn_resolutions": [4], "num_res_blocks": 1},
    "n_embed": 64,
    "embed_dim": 4,
}


def lpips() -> dict[str, torch.Tensor]:
    """Keys of taming's LPIPS (VGG16 in five slices, one linear layer each), at width 1."""
    convolutions = ((1, (0, 2)), (2, (5, 7)), (3, (10, 12, 14)), (4, (17, 19, 21)), (5, (24, 26, 28)))
    state = {f"net.slice{s}.{k}.{part}": torch.zeros(1) for s, ks in convolutions for k in ks
             for part in ("weight", "bias")}  # fmt: skip
    linear = {f"lin{k}.model.1.weight": torch.zeros(1, 1, 1, 1) for k in range(5)}
    return {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "scaling_layer.scale": torch.ones(1, 3, 1, 1),
            **state, **linear}  # fmt: skip


def lightning_checkpoint(vqgan: nn.Module, path, monkeypatch, **extra) -> None:
    """What `Trainer.save_snapshot` of that time wrote, its callbacks keyed by their class."""
    package = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": package})
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", package):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules[package].ModelCheckpoint = callback
        critic = NLayerDiscriminator(n_layers=2, ndf=4)
        state = {**vqgan.state_dict(), **{f"loss.perceptual_loss.{k}": v for k, v in lpips().items()},
                 **{f"loss.discriminator.{k}": v for k, v in critic.state_dict().items()}, **extra}  # fmt: skip
        optimizers = [torch.optim.Adam(part.parameters(), lr=4.5e-6, betas=(0.5, 0.9)) for part in (vqgan, critic)]
        best = {"monitor": "val/rec_loss", "best_model_score": torch.tensor(0.3), "best_model_path": "epoch=1.ckpt",
                "current_score": np.float64(0.3)}  # fmt: skip
        torch.save(
            {
                "epoch": 11,
                "global_step": 1000,
                "pytorch-lightning_version": "1.0.8",
                "callbacks": {callback: best},
                "optimizer_states": [optimizer.state_dict() for optimizer in optimizers],
                "lr_schedulers": [],
                "state_dict": state,
                "hparams_name": "kwargs",
                "hyper_parameters": argparse.Namespace(embed_dim=4),
            },
            path,
        )


@pytest.fixture(scope="module")
def vqgan() -> VQGAN:
    torch.manual_seed(0)
    made = VQGAN(**SMALL).eval()
    made.quantize.embedding.weight.data.normal_()
    return made


@pytest.fixture
def published(vqgan, tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    lightning_checkpoint(vqgan, path, monkeypatch)
    assert "pytorch_lightning" not in sys.modules
    return path


def test_converted_checkpoint_is_the_same_discretizer(published, vqgan, tmp_path):
    target = tmp_path / "vqgan.safetensors"
    report = convert(published, target, SMALL)
    found, images = load_discretizer(str(target)), torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        codes = vqgan.encode(images)
        assert codes.shape == (2, 6, 5)
        assert torch.equal(found.encode(images), codes)
        assert torch.equal(found.decode(codes), vqgan.decode(codes))
    kept = len(vqgan.state_dict())
    assert f"f = 8, d = 4, K = 64: {kept} tensors kept" in report
    for path in (published, target):
        assert f"{path}  sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" in report


def test_same_checkpoint_same_bytes_and_no_precision_lost(published, tmp_path, vqgan):
    for name in "ab":
        convert(published, tmp_path / f"{name}.safetensors", SMALL)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    state = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(state[key], value) for key, value in vqgan.state_dict().items())


def test_what_belongs_to_training_is_left_out(vqgan, tmp_path, monkeypatch):
    names = ("model_ema.decay", "model_ema.encoderconv_inweight", "quantize.embedding.cluster_size",
             "quantize.embedding.embed_avg")  # fmt: skip
    extra = {name: torch.zeros(1) for name in names}
    lightning_checkpoint(vqgan, tmp_path / "ema.ckpt", monkeypatch, **extra)
    convert(tmp_path / "ema.ckpt", tmp_path / "ema.safetensors", SMALL)
    assert set(load_file(tmp_path / "ema.safetensors")) == set(vqgan.state_dict())


def test_safetensors_of_the_same_keys_convert_too(vqgan, tmp_path):
    save_file(vqgan.state_dict(), tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", SMALL)
    assert load_discretizer(str(tmp_path / "b.safetensors")).quantize.n_e == 64


def test_published_configuration_counts_the_published_parameters():
    with torch.device("meta"):
        made = VQGAN(**VQGAN_F8)
    assert round(sum(p.numel() for p in made.parameters()) / 1e6, 1) == 67.7
    assert made.quantize.embedding.weight.shape == (16384, 4)
    assert "encoder.down.3.attn.1.proj_out.weight" in made.state_dict()
    assert not any(".attn." in key for key in made.state_dict() if key.startswith(("encoder.down.2", "decoder.up.2")))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"n_embed": 32}, r"1 misshapen, first quantize.embedding.weight is \(64, 4\) instead of \(32, 4\)"),
        ({"embed_dim": 8}, r"misshapen.*quant"),
        ({"ddconfig": {**SMALL["ddconfig"], "ch": 64}}, r"first encoder.conv_in.weight is \(32, 3, 3, 3\) instead of"),
        ({"ddconfig": {**SMALL["ddconfig"], "attn_resolutions": []}}, r"unexpected, first encoder.down.3.attn.0"),
        ({"ddconfig": {**SMALL["ddconfig"], "num_res_blocks": 2}}, r"missing, first encoder.down.0.block.1"),
        ({"ddconfig": {"ch": 1}}, r"another kind or configuration"),
        ({"n_embed": 2**16 + 1}, r"codes are stored in 16 bits"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_wrong_configuration_names_the_difference(published, change, names, tmp_path):
    config = {**copy.deepcopy(SMALL), **change}
    with pytest.raises(ValueError, match=names) as caught:
        convert(published, tmp_path / "out.safetensors", config)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ({"quantize.proj.weight": torch.zeros(1), "quantize.embed.weight": torch.zeros(8192, 256)}, "Gumbel variant"),
        ({"quant_conv.weight": torch.zeros(1)}, r"no codebook \(quantize.embedding.weight\)"),
        ({"colorize": torch.zeros(1)}, "segmentation"),
    ],
    ids=["gumbel", "kl", "segmentation"],
)
def test_other_models_are_named(state, names, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=rf"other\.ckpt: .*{names}"):
        convert(tmp_path / "other.ckpt", tmp_path / "out.safetensors")


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", "empty file"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"nonsense" * 9, "not a readable checkpoint"),
    ],
    ids=["empty", "page", "pointer", "nonsense"],
)
def test_files_that_are_no_checkpoints_are_named_in_one_line(content, names, suffix, tmp_path):
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: {names}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_truncated_checkpoint_is_named(published, share):
    published.write_bytes(published.read_bytes()[: int(published.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"last\.ckpt: truncated after [\d,]+ bytes"):
        read_checkpoint(published)


def test_truncated_safetensors_is_named(vqgan, tmp_path):
    path = tmp_path / "cut.safetensors"
    save_file(vqgan.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"cut\.safetensors: .*truncated"):
        read_checkpoint(path)


def test_published_keys_given_as_a_discretizer_are_told_how_to_be_converted(vqgan, tmp_path):
    path, target = tmp_path / "vq.safetensors", tmp_path / "vq.converted.safetensors"
    save_file(vqgan.state_dict(), path)
    with pytest.raises(ValueError, match=f"convert it once: python -m dadlab.checkpoints convert {path} {target}"):
        load_discretizer(str(path))
    convert(path, target, SMALL)
    assert load_discretizer(str(target)).state_dict().keys() == vqgan.state_dict().keys()


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.ckpt: weights not found"):
        read_checkpoint(tmp_path / "none.ckpt")


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("foreign", "named"), [(Harmful(), "system"), (Fraction(1, 3), r"fractions\.Fraction")])
def test_code_in_a_checkpoint_is_refused_and_never_run(foreign, named, zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": {"a": torch.zeros(1)}, "x": foreign}
    torch.save(content, "bad.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"bad\.ckpt: .*{named}"):
        read_checkpoint("bad.ckpt")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "model": "resnet50"},
        lambda state: {"model": state, "optimizer": {}},
        lambda state: {"state_dict": {"w": torch.zeros(9)}, "state_dict_ema": state},
        lambda state: {"state_dict": state, "args": argparse.Namespace(lr=0.1), "best": np.float64(76.1)},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
    ],
    ids=["bare", "state_dict", "model", "ema", "foreign", "parallel", "compiled"],
)
def test_weights_are_found_where_training_code_puts_them(wrap, zipped, tmp_path):
    torch.save(wrap({"w": torch.ones(2)}), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "a.pth")
    assert found.keys() == {"w"}
    assert torch.equal(found["w"], torch.ones(2))


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(1)]], ids=str)
def test_checkpoint_without_weights_is_named(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt: holds"):
        read_checkpoint(tmp_path / "a.pt")


def test_configuration_is_read_from_the_published_yaml(tmp_path):
    params = {**VQGAN_F8, "monitor": "val/rec_loss", "lossconfig": {"target": "taming"}}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": {"base_learning_rate": 4.5e-6, "params": params}}))
    assert read_config(tmp_path / "model.yaml") == VQGAN_F8


@pytest.mark.parametrize("text", ["", "model: 3", "a: [", "model: {params: {n_embed: 3}}"], ids=repr)
def test_other_yaml_is_named_in_one_line(text, tmp_path):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"model\.yaml: no ddconfig") as caught:
        read_config(tmp_path / "model.yaml")
    assert "\n" not in str(caught.value)


def test_command_converts_with_the_published_yaml(published, tmp_path, capsys):
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": {"params": SMALL}}))
    target = tmp_path / "out.safetensors"
    main(["convert", str(published), str(target), "--config", str(tmp_path / "model.yaml")])
    assert "K = 64" in capsys.readouterr().out
    assert load_discretizer(str(target)).quantize.n_e == 64


def test_command_ends_with_one_line_on_bad_input(published, tmp_path):
    with pytest.raises(SystemExit, match=r"last\.ckpt: weights of another kind"):
        main(["convert", str(published), str(tmp_path / "out.safetensors")])
    with pytest.raises(SystemExit, match=r"name the target \.safetensors"):
        main(["convert", str(published), str(tmp_path / "out.ckpt")])


def test_a_checkpoint_as_discretizer_says_how_to_convert_it(published):
    with pytest.raises(ValueError, match=r"convert it once: python -m dadlab.checkpoints convert .*last\.safetensors"):
        load_discretizer(str(published))


@pytest.mark.slow
def test_true_shapes_from_checkpoint_to_codes_and_back(tmp_path, monkeypatch):
    torch.manual_seed(0)
    made = VQGAN(**VQGAN_F8)
    lightning_checkpoint(made, tmp_path / "last.ckpt", monkeypatch)
    command = [sys.executable, "-m", "dadlab.checkpoints", "convert", "last.ckpt", "vqgan_f8.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "f = 8, d = 4, K = 16384" in done.stdout
    found = load_discretizer(str(tmp_path / "vqgan_f8.safetensors"))
    with torch.no_grad():
        for height, width in ((224, 224), (64, 96)):
            codes = found.encode(torch.rand(1, 3, height, width))
            assert codes.shape == (1, height // 8, width // 8)
            assert torch.equal(codes.to(torch.uint16).long(), codes)
            assert found.decode(codes).shape == (1, 3, height, width)
