import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dadlab import train as module
from dadlab.methods import METHODS
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.train import batches, endless_order, epoch_order, train


@pytest.fixture
def profile(files):
    teacher, vqgan = str(files["teacher"]), str(files["vqgan"])
    return make_profile(limit=40, epochs=3, batch=8, views=2, teacher=teacher, discretizer=vqgan)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_is_trained_once(profile, method, tmp_path, monkeypatch):
    run = Run(profile, method)
    train(run, tmp_path)
    curve = [json.loads(line) for line in (run.folder(tmp_path) / "loss.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in curve] == [0, 1, 2]
    assert curve[-1]["loss"] < curve[0]["loss"]
    monkeypatch.setattr(module, "_fit", lambda *args: pytest.fail("trained again"))
    train(run, tmp_path)


@pytest.mark.parametrize("method", ["plain", "dad"])
def test_a_stopped_run_goes_on_to_the_same_weights(profile, method, tmp_path, monkeypatch):
    calm = train(Run(profile, method), tmp_path / "calm").state_dict()
    real = module.batches

    def stop_in_second_epoch(run, materials, epoch, *rest):
        if epoch == 1:
            raise KeyboardInterrupt
        return real(run, materials, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "batches", stop_in_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(Run(profile, method), tmp_path / "stopped")
    resumed = train(Run(profile, method), tmp_path / "stopped").state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in calm.items())


def test_training_never_runs_the_teacher(profile, tmp_path, monkeypatch):
    run = Run(profile, "dad")
    materials = module.prepare(run.profile, METHODS["dad"], tmp_path)
    monkeypatch.setattr("dadlab.teacher.StudentTeacher.forward", lambda *args: pytest.fail("the teacher ran"))
    assert sum(len(batch.images) for batch in module.batches(run, materials, 0)) == 40


def test_two_processes_share_a_batch(profile, tmp_path):
    run = Run(profile, "kd")
    materials = module.prepare(run.profile, METHODS["kd"], tmp_path)
    whole = [batch.labels for batch in module.batches(run, materials, 1)]
    halves = [[batch.labels for batch in module.batches(run, materials, 1, rank, 2)] for rank in range(2)]
    for all_of_it, even, odd in zip(whole, *halves, strict=True):
        assert torch.equal(all_of_it[0::2], even)
        assert torch.equal(all_of_it[1::2], odd)


def test_orders_are_permutations():
    assert torch.equal(torch.cat(epoch_order(12, 4, 0, 0)).sort().values, torch.arange(12))
    assert [len(part) for part in epoch_order(14, 4, 0, 0)] == [4, 4, 4]
    assert torch.bincount(endless_order(3, 9, 0, 0)).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("method", "options", "names"),
    [
        ("kdd", {}, "did you mean 'kd'"),
        ("kd_two_views", {"views": 1}, "at least 2"),
        ("plain", {"data": "no/such/folder"}, "no such folder"),
        ("plain", {"train": "trian"}, "unknown split 'trian'"),
        ("kd", {"teacher": "clipp"}, "unknown teacher 'clipp'"),
    ],
)
def test_bad_runs_stop_before_work(tmp_path, method, options, names):
    with pytest.raises(ValueError, match=names):
        train(Run(make_profile(limit=20, **options), method), tmp_path)


def test_unknown_student_stops_before_the_teacher_works(profile, tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.teacher.StudentTeacher.forward", lambda *args: pytest.fail("the teacher worked"))
    with pytest.raises(ValueError, match=r"unknown student 'resnet_x'.*resnet_s"):
        train(Run(profile, "kd", student="resnet_x"), tmp_path)


@pytest.mark.parametrize("epochs", [1, 2, 4, 5])
def test_any_number_of_steps_can_be_scheduled(profile, tmp_path, epochs):
    """5 steps an epoch: shorter than the warm-up's twentieth, exactly as long (20 steps), longer."""
    train(Run(replace(profile, epochs=epochs), "plain"), tmp_path)


def test_torn_loss_curve_does_not_stop_a_resumed_run(profile, tmp_path, monkeypatch):
    """What a kill in the middle of writing the curve leaves behind."""
    run = Run(profile, "plain")

    def stop(run, materials, epoch, *rest):
        if epoch == 1:
            raise KeyboardInterrupt
        return batches(run, materials, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "batches", stop)
        with pytest.raises(KeyboardInterrupt):
            train(run, tmp_path)
    curve = run.folder(tmp_path) / "loss.jsonl"
    curve.write_text(curve.read_text()[:10])
    train(run, tmp_path)
    assert json.loads(curve.read_text().splitlines()[-1])["epoch"] == 2


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


def test_epochs_see_other_orders_and_views(profile, tmp_path):
    run = Run(profile, "plain")
    materials = module.prepare(run.profile, METHODS["plain"], tmp_path)
    first, second = (torch.cat([b.labels for b in batches(run, materials, epoch)]) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)


def test_second_view_is_of_the_same_photographs_and_another_view(profile, tmp_path):
    run = Run(profile, "kd_two_views")
    materials = module.prepare(run.profile, METHODS["kd_two_views"], tmp_path)
    for batch in batches(run, materials, 0):
        assert torch.equal(batch.labels, batch.second_labels)
        assert not torch.equal(batch.images, batch.second_images)


@pytest.mark.parametrize("method", ["kd", "kd_two_views", "dad_q", "dad"])
def test_cached_logits_belong_to_the_very_pixels_of_the_batch(profile, tmp_path, tiny_teacher, method):
    run = Run(profile, method)
    materials = module.prepare(run.profile, METHODS[method], tmp_path)
    for epoch in (0, 1):
        batch = next(batches(run, materials, epoch))
        torch.testing.assert_close(tiny_teacher(batch.images), batch.teacher, rtol=1e-3, atol=1e-3)
        if len(batch.second_images):
            torch.testing.assert_close(tiny_teacher(batch.second_images), batch.second_teacher, rtol=1e-3, atol=1e-3)


_TWO = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from dadlab import Run, make_profile
from dadlab.train import train
train(Run(make_profile(limit=40, epochs=1, batch=8, views=2), "plain"), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path):
    (tmp_path / "two.py").write_text(_TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([*command, tmp_path / "two.py", tmp_path], env=env)
    try:
        assert process.wait(120) == 0
    finally:
        process.terminate()
        process.wait()
    assert len(list(tmp_path.glob("plain-*/student.safetensors"))) == 1
