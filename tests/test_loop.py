import json
import os
import signal
import time
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_training import ATTACKING, Stopped, losses, stop_at

from dadlab import train as module
from dadlab.loop import Loop, Service
from dadlab.run import Run
from dadlab.snapshot import load_snapshot, save_snapshot
from dadlab.students import Student
from dadlab.train import train

pytestmark = pytest.mark.usefixtures("materials_made_once")
ALL_AT_ONCE = {"ema": 0.7, "accumulate": 2, "augreg": "medium2", "top_logits": 4}
ALL_AT_ONCE |= {"optimizer": "lamb", "schedule": "warm_cosine"}


@pytest.mark.parametrize("method", ["augmix", "dad_augmix", "debiased"])
def test_stopped_runs_of_later_methods_end_the_same(profile, method, tmp_path):
    run = Run(replace(profile, augreg="medium2", dropout=0.1, epochs=2), method, "resnet_s")
    calm = train(run, tmp_path / "calm").state_dict()
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(Stopped):
            train(run, tmp_path, Service(checkpoint_seconds=0))
    resumed = train(run, tmp_path).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in calm.items())


@pytest.mark.parametrize("options", [{}, ALL_AT_ONCE], ids=["default", "everything"])
@pytest.mark.parametrize("method", ["plain", "dad"])
def test_a_run_stopped_after_any_step_ends_the_same(profile, method, options, tmp_path):
    run = Run(replace(profile, **options), method)
    calm = train(run, tmp_path / "calm").state_dict()
    for step, seconds in ((1, 0.0), (5, 0.0), (7, 0.0), (14, 0.0), (9, 1e9)):
        folder = tmp_path / f"stopped-{step}"
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, step)
            with pytest.raises(Stopped):
                train(run, folder, Service(checkpoint_seconds=seconds))
        resumed = train(run, folder).state_dict()
        assert all(torch.equal(value, resumed[name]) for name, value in calm.items())
        assert losses(run, folder) == losses(run, tmp_path / "calm")


@pytest.mark.parametrize("method", ATTACKING)
def test_a_run_that_attacks_its_student_resumes_exactly(profile, method, tmp_path, monkeypatch):
    """Also: what is kept in the end is a student like any other, without auxiliary batch norms."""
    run = Run(replace(profile, limit=20, epochs=2, **ALL_AT_ONCE), method)  # two steps an epoch
    calm = train(run, tmp_path / "calm").state_dict()
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Stopped):
            train(run, tmp_path, Service(checkpoint_seconds=0))
    resumed = train(run, tmp_path).state_dict()
    assert list(resumed) == list(Student("resnet_s", 10).state_dict())
    assert all(torch.equal(value, resumed[name]) for name, value in calm.items())
    assert losses(run, tmp_path) == losses(run, tmp_path / "calm")


def test_a_resumed_run_does_not_repeat_what_is_in_its_checkpoint(profile, tmp_path, monkeypatch):
    run = Run(profile, "plain")
    with monkeypatch.context() as patch:
        stop_at(patch, 9)
        with pytest.raises(Stopped):
            train(run, tmp_path, Service(checkpoint_seconds=0))
    done, real = [], Loop.learn
    monkeypatch.setattr(Loop, "learn", lambda loop, batches: done.append(loop.progress.steps) or real(loop, batches))
    train(run, tmp_path)
    assert done == list(range(9, 15))


def test_a_run_is_not_finished_in_another_precision_or_with_another_loss(profile, tmp_path, monkeypatch):
    run = Run(replace(profile, epochs=1), "plain")
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Stopped):
            train(run, tmp_path, Service(checkpoint_seconds=0))
    path = run.folder(tmp_path) / "training.safetensors"
    saved = load_snapshot(path)
    assert saved.pop("precision") == module.precision()
    save_snapshot(path, {**saved, "precision": "fp16"})
    with pytest.raises(ValueError, match=r"training\.safetensors: begun in precision 'fp16'.*MIXED_PRECISION=fp16, or"):
        train(run, tmp_path)
    save_snapshot(path, {**saved, "loss": "another"})
    with pytest.raises(
        ValueError, match=r"training\.safetensors: begun before the loss of 'plain' was changed; delete"
    ):
        train(run, tmp_path)
    assert saved.pop("loss")
    save_snapshot(path, saved)  # as one was before it said so
    train(run, tmp_path)
    assert not path.exists()


def test_the_scale_of_half_precisions_loss_is_in_the_checkpoint(profile, tmp_path):
    """fp16 wants a GPU; here the scaler alone is looked at."""
    loops = []
    for scale in (2.0, 64.0):
        accelerator = Accelerator(mixed_precision=module.precision())
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        loops.append(module.begin_training(Run(profile, "plain"), tmp_path, tmp_path, accelerator, Service()))
        loops[-1]._save()
    assert loops[1].accelerator.scaler.get_scale() == 2.0


def test_sigterm_saves_the_last_step_and_ends(profile, tmp_path, monkeypatch):
    run, real = Run(profile, "plain"), Loop.learn

    def learn(loop, batches):
        if loop.progress.steps == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(loop, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "learn", learn)
        with pytest.raises(SystemExit, match="143"):
            train(run, tmp_path)
    assert load_snapshot(run.folder(tmp_path) / "training.safetensors")["progress"]["steps"] == 7
    calm = train(run, tmp_path / "calm").state_dict()
    assert all(torch.equal(value, calm[name]) for name, value in train(run, tmp_path).state_dict().items())


def test_parts_of_a_batch_add_up_to_it(profile, tmp_path, monkeypatch):
    """A ViT has no batch statistics: only rounding differs. 3 parts of 8 samples are of unequal size."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    AcceleratorState._reset_state(reset_partial_state=True)
    whole, parts = (Run(replace(profile, accumulate=n), "dad", student="vit_s") for n in (1, 3))
    train(whole, tmp_path)
    train(parts, tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert losses(parts, tmp_path) == pytest.approx(losses(whole, tmp_path), rel=1e-4)


def test_a_part_is_read_ahead_and_not_a_step(profile, tmp_path, monkeypatch):
    """5 steps of 8 samples: what lies ahead is in memory many times over."""
    read = []

    def note(function, items, workers):
        for item in items:
            read.append(function(item))
            yield read[-1]

    monkeypatch.setattr("dadlab.loop.ahead", note)
    train(Run(replace(profile, accumulate=3, epochs=1), "plain"), tmp_path)
    assert [len(part.images) for part in read] == 5 * [3, 3, 2]


def test_gradients_are_clipped_to_norm_1(profile, tmp_path):
    loop = module.begin_training(Run(profile, "plain"), tmp_path, tmp_path, Accelerator(cpu=True), Service())
    with torch.no_grad():
        loop.student.net.get_classifier().weight.mul_(1000)
    loop.learn(loop.steps[0])
    gradient = torch.cat([parameter.grad.flatten() for parameter in loop.student.parameters()])
    assert float(gradient.norm()) == pytest.approx(1.0, abs=1e-3)


def test_average_of_weights_becomes_the_student(profile, tmp_path):
    one_step = replace(profile, epochs=1, batch=40)
    last, averaged = (train(Run(replace(one_step, ema=ema), "plain"), tmp_path).state_dict() for ema in (0.0, 0.9))
    assert all(torch.equal(value, averaged[name]) for name, value in last.items())  # the first value is taken over
    last, averaged = (train(Run(replace(profile, ema=ema), "plain"), tmp_path).state_dict() for ema in (0.0, 0.9))
    assert not torch.equal(last["net.head.fc.weight"], averaged["net.head.fc.weight"])


def test_a_cpu_trains_without_fused_attention(profile, tmp_path, monkeypatch):
    monkeypatch.setattr(Loop, "fit", lambda loop: seen.append(loop.student))
    seen: list[Student] = []
    train(Run(profile, "plain", "vit_s"), tmp_path)
    assert not any(block.attn.fused_attn for block in seen[0].net.blocks)


@pytest.mark.parametrize("optimizer", ["sgd", "lamb", "lion", "adafactor"])
def test_other_optimizers_learn(profile, tmp_path, optimizer):
    run = Run(replace(profile, optimizer=optimizer, lr=1e-2), "plain")
    train(run, tmp_path)
    assert losses(run, tmp_path)[-1] < losses(run, tmp_path)[0]


class Notes(GeneralTracker):
    """A tracker that remembers."""

    name = "notes"
    requires_logging_directory = False
    logged: ClassVar[list] = []

    def __init__(self, run_name=None, **options):
        super().__init__()

    @property
    def tracker(self):
        return None

    def store_init_configuration(self, values):
        self.logged.append(values)

    def log(self, values, step=None, **options):
        self.logged.append((step, values))


def test_tracker_gets_settings_and_values(profile, tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.loop.LOGGED", 5)
    monkeypatch.setattr(module, "tracker_name", lambda name: Notes())
    train(Run(profile, "kd"), tmp_path, Service(tracker="notes"))
    settings, *values = Notes.logged
    assert settings["method"] == "kd"
    assert settings["batch"] == 8
    assert [step for step, _ in values] == [5, 10, 15]
    assert set(values[0][1]) == {"loss", "lr"}


def test_tensorboard_reads_back_what_was_learnt(profile, tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.loop.LOGGED", 1)
    run = Run(replace(profile, epochs=2), "plain")
    train(run, tmp_path, Service(tracker="auto"))
    events = EventAccumulator(str(run.folder(tmp_path) / "dadlab")).Reload()
    found = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in ("loss", "lr")}
    assert [[step for step, _ in values] for values in found.values()] == [list(range(1, 11))] * 2
    epochs = torch.tensor([loss for _, loss in found["loss"]]).view(2, 5).mean(1)
    assert epochs.tolist() == pytest.approx(losses(run, tmp_path), rel=1e-5)


def test_an_epochs_seconds_end_with_its_last_step(profile, tmp_path, monkeypatch):
    """A GPU answers later than it is asked; reading the loss waits for it."""
    read = torch.Tensor.__float__

    def late(tensor):
        time.sleep(1.0)
        return read(tensor)

    run = Run(replace(profile, epochs=1), "plain")
    monkeypatch.setattr(torch.Tensor, "__float__", late)
    train(run, tmp_path)
    assert json.loads((run.folder(tmp_path) / "loss.jsonl").read_text())["seconds"] >= 1.0


def test_lines_tell_of_every_epoch(profile, tmp_path, capsys):
    train(Run(profile, "plain"), tmp_path, Service(lines=True))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


@pytest.mark.parametrize("epochs", [1, 2, 4, 5])
def test_any_number_of_steps_ends_at_the_bottom_of_the_schedule(profile, tmp_path, monkeypatch, epochs):
    """5 steps an epoch: shorter than the warm-up's twentieth, exactly as long (20 steps), longer."""
    rates, real = [], Loop.learn
    monkeypatch.setattr(
        Loop, "learn", lambda loop, batches: rates.append(loop.schedule.get_last_lr()[0]) or real(loop, batches)
    )
    train(Run(replace(profile, epochs=epochs), "plain"), tmp_path)
    assert max(rates) == pytest.approx(profile.lr, rel=0.1)
    assert rates[-1] < 1e-3 * profile.lr


def test_a_training_that_diverges_is_not_kept(profile, tmp_path, monkeypatch):
    monkeypatch.setattr(Loop, "learn", lambda loop, batches: torch.tensor(float("nan")))
    run = Run(profile, "plain")
    with pytest.raises(ValueError, match="loss of epoch 1 is nan: the training diverged; lower lr"):
        train(run, tmp_path)
    assert not run.weights(tmp_path).exists()
