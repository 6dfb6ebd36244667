import json
import math
import os
import signal
import time
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker

from dadlab import train as module
from dadlab.loop import Loop, Service
from dadlab.methods import METHODS
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.snapshot import load_snapshot
from dadlab.students import Student
from dadlab.train import train


@pytest.fixture
def profile(files):
    teacher, vqgan = str(files["teacher"]), str(files["vqgan"])
    paths = {"teacher": teacher, "discretizer": vqgan, "transfer": str(files["transfer"])}
    return make_profile(limit=40, epochs=3, batch=8, views=2, **paths)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("materials"), {}


@pytest.fixture(autouse=True)
def _materials_made_once(made, monkeypatch):
    folder, found = made

    def prepare(profile, method, runs_dir):
        key = replace(profile, epochs=1, batch=8, accumulate=1, ema=0.0, optimizer="adamw", lr=1.0), method
        if key not in found:
            found[key] = real(profile, method, folder)
        return found[key]

    real = module.prepare
    monkeypatch.setattr(module, "prepare", prepare)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_is_trained_once(profile, method, tmp_path, monkeypatch):
    run = Run(profile, method)
    train(run, tmp_path)
    curve = [json.loads(line) for line in (run.folder(tmp_path) / "loss.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in curve] == [0, 1, 2]
    assert curve[-1]["loss"] < curve[0]["loss"]
    monkeypatch.setattr(module, "_train", lambda *args: pytest.fail("trained again"))
    train(run, tmp_path)


ATTACKING = [name for name, method in METHODS.items() if method.attack or "attack" in method.online]


@pytest.mark.parametrize("method", [name for name in ATTACKING if not METHODS[name].auxiliary_norm])
def test_a_vit_is_attacked_too(profile, method, tmp_path):
    run = Run(replace(profile, limit=16, epochs=1), method, student="vit_s")
    train(run, tmp_path)
    assert [math.isfinite(loss) for loss in losses(run, tmp_path)] == [True]


NEW = ("dad_augmentation", "augmix", "debiased", "dist", "ard", "rslad")


@pytest.mark.parametrize("method", NEW)
def test_methods_train_a_vit_on_mixed_labels_with_dropout(profile, method, tmp_path):
    run = Run(replace(profile, augreg="medium2", dropout=0.1, drop_path=0.1), method, "vit_s")
    train(run, tmp_path)
    assert losses(run, tmp_path)[-1] < losses(run, tmp_path)[0]


@pytest.mark.parametrize("method", ["augmix", "debiased"])
def test_stopped_runs_of_later_methods_end_the_same(profile, method, tmp_path):
    run = Run(replace(profile, augreg="medium2", dropout=0.1, epochs=2), method, "resnet_s")
    calm = train(run, tmp_path / "calm").state_dict()
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(Stopped):
            train(run, tmp_path, Service(checkpoint_seconds=0))
    resumed = train(run, tmp_path).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in calm.items())


def test_a_run_starts_from_another(profile, tmp_path):
    """One step at a tiny rate keeps what it starts from, whichever method it was."""
    first = train(Run(profile, "plain"), tmp_path)
    weights = Run(profile, "plain").folder(tmp_path) / "student.safetensors"
    still = replace(profile, start=str(weights), lr=1e-9, epochs=1, batch=40)
    begun, parameters = train(Run(still, "dist"), tmp_path), dict(first.named_parameters())
    for name, value in begun.named_parameters():
        torch.testing.assert_close(value, parameters[name], rtol=0, atol=1e-6)


class Stopped(Exception):
    """A kill."""


def stop_at(monkeypatch, step):
    """Die while a step is computed."""
    real = Loop.learn

    def learn(loop, batches):
        if loop.progress.steps == step:
            raise Stopped
        return real(loop, batches)

    monkeypatch.setattr(Loop, "learn", learn)


def losses(run, folder):
    return [json.loads(line)["loss"] for line in (run.folder(folder) / "loss.jsonl").read_text().splitlines()]


ALL_AT_ONCE = {"ema": 0.7, "accumulate": 2, "augreg": "medium2", "top_logits": 4, "optimizer": "lamb"}


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


def test_average_of_weights_becomes_the_student(profile, tmp_path):
    one_step = replace(profile, epochs=1, batch=40)
    last, averaged = (train(Run(replace(one_step, ema=ema), "plain"), tmp_path).state_dict() for ema in (0.0, 0.9))
    assert all(torch.equal(value, averaged[name]) for name, value in last.items())  # the first value is taken over
    last, averaged = (train(Run(replace(profile, ema=ema), "plain"), tmp_path).state_dict() for ema in (0.0, 0.9))
    assert not torch.equal(last["net.head.fc.weight"], averaged["net.head.fc.weight"])


@pytest.mark.parametrize("optimizer", ["sgd", "lamb", "lion", "adafactor"])
def test_other_optimizers_learn(profile, tmp_path, optimizer):
    run = Run(replace(profile, optimizer=optimizer, lr=1e-2), "plain")
    train(run, tmp_path)
    assert losses(run, tmp_path)[-1] < losses(run, tmp_path)[0]


@pytest.mark.parametrize("optimizer", ["fusedadam", "adahessian"])
def test_optimizer_that_cannot_be_used_stops_before_work(profile, tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr(module, "prepare", lambda *args: pytest.fail("work began"))
    with pytest.raises(ValueError, match=f"optimizer '{optimizer}' cannot be used here"):
        train(Run(replace(profile, optimizer=optimizer), "plain"), tmp_path)


def test_worker_processes_change_nothing(profile, tmp_path):
    run = Run(profile, "dad")
    none, two = (train(run, tmp_path / str(n), Service(workers=n)).state_dict() for n in (0, 2))
    assert all(torch.equal(value, two[name]) for name, value in none.items())


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


@pytest.mark.parametrize(
    ("method", "options", "names"),
    [
        ("kdd", {}, "did you mean 'kd'"),
        ("kd_two_views", {"views": 1}, "at least 2"),
        ("plain", {"data": "no/such/folder"}, "no such folder"),
        ("plain", {"train": "trian"}, "unknown split 'trian'"),
        ("plain", {"batch": 4, "accumulate": 5}, "a batch of 4 cannot be split over 1 processes × 5 parts"),
        ("dad", {"top_logits": 10}, "top_logits 10: must be below the number of classes, 10"),
        ("kd", {"teacher": "clipp"}, "unknown teacher 'clipp'"),
        ("plain", {"start": "no.safetensors"}, "no.safetensors: weights not found"),
        ("debiased", {"transfer": "vgg.pth"}, "vgg.pth: convert the published weights once"),
    ],
)
def test_bad_runs_stop_before_work(tmp_path, method, options, names):
    with pytest.raises(ValueError, match=names):
        train(Run(make_profile(limit=20, **options), method), tmp_path)


@pytest.mark.parametrize(
    ("student", "method", "options", "names"),
    [
        ("vit_tiny_patch16_224", "kd", {}, r"8 images of 32 pixels.*Input height \(32\) doesn't match model \(224\)"),
        ("vgg11", "kd", {"drop_path": 0.1}, "'vgg11' cannot be trained.*unexpected keyword.*'drop_path_rate'"),
        ("clip_resnet", "kd", {"image_size": 30}, "'clip_resnet' cannot be trained on 8 images of 30 pixels"),
        ("resnet10t", "kd", {"accumulate": 8}, "on 1 images of 32 pixels at once.*more than 1 value per channel"),
        ("resnet10t", "fast_advprop", {}, "on 1 images of 32 pixels at once.*more than 1 value per channel"),
        ("clip_resnet", "fast_advprop", {}, "on 0 images of 32 pixels at once"),
    ],
)
def test_student_that_cannot_pass_its_images_stops_before_work(
    profile, tmp_path, monkeypatch, student, method, options, names
):
    monkeypatch.setattr(module, "prepare", lambda *args: pytest.fail("work began"))
    with pytest.raises(ValueError, match=names):
        train(Run(replace(profile, **options), method, student), tmp_path)


def test_weights_that_cannot_be_fetched_stop_before_work(profile, tmp_path, monkeypatch):
    def unreachable(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(module, "prepare", lambda *args: pytest.fail("work began"))
    monkeypatch.setattr("timm.create_model", unreachable)
    run = Run(replace(profile, start="pretrained"), "kd", "resnet18")
    with pytest.raises(ValueError, match=r"start 'pretrained': timm's weights of resnet18 .* \(no network\)"):
        module.begin_training(run, tmp_path, tmp_path, None, None)


def test_unknown_student_stops_before_the_teacher_works(profile, tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.teacher.StudentTeacher.forward", lambda *args: pytest.fail("the teacher worked"))
    with pytest.raises(ValueError, match=r"unknown student 'resnet_x'.*resnet_s"):
        train(Run(profile, "kd", student="resnet_x"), tmp_path)


@pytest.mark.parametrize("epochs", [1, 2, 4, 5])
def test_any_number_of_steps_can_be_scheduled(profile, tmp_path, epochs):
    """5 steps an epoch: shorter than the warm-up's twentieth, exactly as long (20 steps), longer."""
    train(Run(replace(profile, epochs=epochs), "plain"), tmp_path)


def test_finished_run_is_loaded_exactly_and_leaves_no_checkpoint(profile, tmp_path):
    run = Run(profile, "plain")
    first, again = train(run, tmp_path), train(run, tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert not again.training
    assert {path.name for path in run.folder(tmp_path).iterdir()} - {".lock"} == {
        "run.json", "loss.jsonl", "student.safetensors",
    }  # fmt: skip


def test_seeds_train_other_students(profile, tmp_path):
    one, other = (train(Run(profile, "plain", seed=seed), tmp_path).state_dict() for seed in (0, 1))
    assert not torch.equal(one["net.head.fc.weight"], other["net.head.fc.weight"])
