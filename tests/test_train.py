import json

import pytest
import torch

from dadlab import train as module
from dadlab.methods import METHODS
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.train import endless_order, epoch_order, train


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
