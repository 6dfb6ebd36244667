from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dadlab.fingerprints import fingerprint
from dadlab.snapshot import load_snapshot, restore, restore_training, save_snapshot, save_training


def test_tree_comes_back(tmp_path):
    tree = {
        "a": [1, 2.5, None, True, "x"],
        "state": {0: {"step": torch.tensor(3.0)}, 1: torch.arange(4)},
        "betas": (0.9, 0.1),
    }
    save_snapshot(tmp_path / "c", tree)
    found = load_snapshot(tmp_path / "c")
    assert found["a"] == tree["a"]
    assert found["betas"] == [0.9, 0.1]
    assert list(found["state"]) == [0, 1]
    assert torch.equal(found["state"][0]["step"], torch.tensor(3.0))
    assert torch.equal(found["state"][1], torch.arange(4))


def test_numbers_are_exact(tmp_path):
    values = [0.1 + 0.2, 1e-300, 6e-3 / 25]
    save_snapshot(tmp_path / "c", values)
    assert load_snapshot(tmp_path / "c") == values


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "adafactorbv"])
def test_optimizer_goes_on_as_if_it_had_not_stopped(tmp_path, name):
    from timm.optim import create_optimizer_v2

    def step(weight, optimizer):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()

    weight = torch.nn.Parameter(torch.arange(5.0))
    optimizer = create_optimizer_v2([weight], name, 0.1, weight_decay=0.01)
    step(weight, optimizer)
    save_snapshot(tmp_path / "c", {"weight": weight, "optimizer": optimizer.state_dict()})
    step(weight, optimizer)
    saved = load_snapshot(tmp_path / "c")
    again = torch.nn.Parameter(saved["weight"])
    resumed = create_optimizer_v2([again], name, 0.1, weight_decay=0.01)
    resumed.load_state_dict(saved["optimizer"])
    step(again, resumed)
    assert torch.equal(again, weight)


@pytest.mark.parametrize("content", ["torn", "other"])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "training.safetensors"
    if content == "torn":
        save_snapshot(path, {"x": torch.zeros(1000)})
        path.write_bytes(path.read_bytes()[:500])
    else:
        save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"training\.safetensors: not a readable checkpoint .*delete it"):
        load_snapshot(path)


def test_a_checkpoint_from_before_a_part_was_kept_is_named(tmp_path):
    part = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"training\.safetensors: an older checkpoint without scaler; delete it"):
        restore(tmp_path / "training.safetensors", {"student": part, "scaler": part}, {"student": part.state_dict()})


def test_an_optimizers_state_lies_as_its_parameters_do():
    """Sums depend on it, and so a resumed training's last bytes."""
    layers = [nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    made, fresh = (torch.optim.AdamW(layer.parameters()) for layer in layers)
    layers[0](torch.ones(1, 3, 3, 3)).sum().backward()
    made.step()
    saved = made.state_dict()
    for state in saved["state"].values():
        state |= {key: value.contiguous() for key, value in state.items()}
    restore(Path("c"), {"optimizer": fresh}, {"optimizer": saved})
    average = fresh.state[layers[1].weight]["exp_avg"]
    assert average.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(average, saved["state"][0]["exp_avg"])


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    module = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return module, optimizer


def test_training_is_restored_with_its_step(tmp_path):
    saved, fresh = parts(), parts()
    save_training(tmp_path / "ckpt", saved, 5, "a")
    assert restore_training(tmp_path / "ckpt", fresh, "a") == 5
    assert torch.equal(saved[0].weight, fresh[0].weight)
    assert torch.equal(saved[1].state_dict()["state"][0]["exp_avg"], fresh[1].state_dict()["state"][0]["exp_avg"])


def test_no_checkpoint_is_step_zero(tmp_path):
    module = nn.Linear(2, 1)
    before = module.weight.clone()
    assert restore_training(tmp_path / "none", [module], "a") == 0
    assert torch.equal(module.weight, before)


def test_a_checkpoint_of_another_training_is_not_gone_on_with(tmp_path):
    save_training(tmp_path / "ckpt", parts(), 5, fingerprint("one"))
    fresh = parts()
    before = fresh[0].weight.clone()
    with pytest.raises(ValueError, match="ckpt: of a training with other data or settings; delete it"):
        restore_training(tmp_path / "ckpt", fresh, fingerprint("other"))
    assert torch.equal(fresh[0].weight, before)
