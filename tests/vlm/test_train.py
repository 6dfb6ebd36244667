import itertools
import json
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dadlab.snapshot import save_snapshot
from dadlab.students import Student, save_student
from dadlab.vlm import train as module
from dadlab.vlm.label_texts import label_texts
from dadlab.vlm.material import dataset_for, sources, teacher_of
from dadlab.vlm.openvocab import labels_of
from dadlab.vlm.run import AlignRun
from dadlab.vlm.train import Loop, train_aligned

SEEN = labels_of("train")
TOY = AlignRun("cls+mse+cst+vlprox+cap", epochs=2, batch=16, views=2, limit=55)


class Shown:
    """Stands in for images and their teacher; remembers which rows were read, in which view."""

    captions = None

    def __init__(self, count: int):
        self.dataset, self.asked = torch.arange(count), list[tuple[list[int], int]]()

    def read(self, rows: torch.Tensor, view: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        self.asked.append((rows.tolist(), view))
        return torch.randn(len(rows), 64), rows % 2, torch.randn(len(rows), 64)


class Known(torch.nn.Module):
    """Stands in for the texts of two labels."""

    def forward(self) -> torch.Tensor:
        return torch.eye(2, 64)


def toy_loop(folder: Path, material: Shown, **settings) -> Loop:
    run = AlignRun("cls", epochs=3, batch=4, views=2)
    return Loop(run, torch.nn.Linear(64, 64), Known(), SEEN, material, folder, **settings)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(runs: Path) -> dict[str, torch.Tensor]:
    return dict(train_aligned(TOY, runs)[0].state_dict())


def test_a_run_is_trained_once_and_says_how_it_went(runs, trained, monkeypatch):
    lines = [json.loads(line) for line in (TOY.folder(runs) / "loss.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert 0 < lines[0]["filtered"] < 1
    assert json.loads((TOY.folder(runs) / "run.json").read_text())["losses"] == TOY.losses
    assert not (TOY.folder(runs) / "training.safetensors").exists()
    monkeypatch.setattr(Loop, "fit", lambda self: pytest.fail("trained again"))
    again, texts = train_aligned(TOY, runs)
    assert all(torch.equal(value, trained[name]) for name, value in again.state_dict().items())
    assert texts().shape == (55, 64)


@pytest.mark.parametrize(
    "fields", [{}, {"context": 4}, {"context": 4, "context_rate": 0.1}, {"recipe": "steps", "lr": 0.05}]
)
def test_a_run_stopped_anywhere_ends_as_one_that_was_not(runs, tmp_path, trained, monkeypatch, fields):
    run = replace(TOY, **fields)
    whole, texts = train_aligned(run, runs)
    (tmp_path / "cache").symlink_to(runs / "cache")
    counted, step = itertools.count(1), Loop._step

    def stopping(loop: Loop, number: int) -> None:
        step(loop, number)
        if next(counted) == 4:
            signal.raise_signal(signal.SIGTERM)

    assert threading.current_thread() is threading.main_thread()
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", stopping)
        with pytest.raises(SystemExit):
            train_aligned(run, tmp_path)
    assert (run.folder(tmp_path) / "training.safetensors").is_file()
    resumed, its_texts = train_aligned(run, tmp_path)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())
    assert torch.equal(its_texts(), texts())
    assert (run.folder(tmp_path) / "loss.jsonl").read_text() == (run.folder(runs) / "loss.jsonl").read_text()


def test_a_run_is_not_finished_in_another_precision(runs, tmp_path, trained):
    (tmp_path / "cache").symlink_to(runs / "cache")
    TOY.folder(tmp_path).mkdir()
    save_snapshot(TOY.folder(tmp_path) / "training.safetensors", {"precision": "fp16"})
    with pytest.raises(ValueError, match=r"training\.safetensors: begun in precision 'fp16'.*delete it"):
        train_aligned(TOY, tmp_path)


def test_a_context_is_learnt_at_a_rate_of_its_own(runs, tmp_path):
    run = replace(TOY, context=4, context_rate=0.1)
    material, texts = sources(run, dataset_for(run, "train"), runs), label_texts(run, teacher_of(run), SEEN)
    loop = Loop(run, Student("resnet_s", 64), texts, SEEN, material, tmp_path)
    student, context = loop.optimizer.param_groups
    assert context["params"] == [texts.prompt.context]
    assert context["lr"] == pytest.approx(0.1 * student["lr"])


def test_steps_are_the_papers_recipe_and_shots_have_one_cycle(runs, tmp_path):
    run = replace(TOY, losses="cls", recipe="steps", lr=0.05, weight_decay=1e-4)
    material, texts = sources(run, dataset_for(run, "train"), runs), label_texts(run, teacher_of(run), SEEN)
    loop = Loop(run, Student("resnet_s", 64), texts, SEEN, material, tmp_path, steps=9)
    group, rates = loop.optimizer.param_groups[0], []
    assert (group["momentum"], group["weight_decay"]) == (0.9, 1e-4)
    for _ in range(9):
        rates.append(group["lr"])
        loop.optimizer.step()
        loop.schedule.step()
    assert rates == pytest.approx([0.05] * 3 + [0.005] * 3 + [0.0005] * 3)
    few = Loop(run, Student("resnet_s", 64), texts, SEEN, material, tmp_path, beside=material, steps=9, lr=0.003)
    assert few.schedule.get_last_lr()[0] < 0.003, "a cycle begins below its peak"


def test_one_cycle_is_adamw_with_the_runs_rate_and_decay(tmp_path):
    loop = toy_loop(tmp_path, Shown(8))
    (group,) = loop.optimizer.param_groups
    assert isinstance(loop.optimizer, torch.optim.AdamW)
    assert (group["max_lr"], group["weight_decay"]) == (loop.run.lr, loop.run.weight_decay)


def test_an_epoch_shows_every_image_once_in_one_view(tmp_path):
    shown = Shown(8)
    toy_loop(tmp_path, shown).fit()
    assert [view for _, view in shown.asked] == [0, 0, 1, 1, 0, 0]
    batches = [rows for rows, _ in shown.asked]
    assert [sorted(batches[k] + batches[k + 1]) for k in (0, 2, 4)] == [list(range(8))] * 3


def test_half_of_every_batch_is_drawn_anew_from_what_stands_beside(tmp_path):
    own, beside = Shown(8), Shown(100)
    toy_loop(tmp_path, own, beside=beside).fit()
    assert [len(rows) for rows, _ in own.asked] == [len(rows) for rows, _ in beside.asked] == [2] * 12
    assert len({tuple(rows) for rows, _ in beside.asked}) > 10
    assert [view for _, view in beside.asked] == [0, 1] * 6


def test_every_step_is_a_step_of_training_and_of_the_rate(tmp_path):
    loop, modes = toy_loop(tmp_path, Shown(8)), []
    loop.student.eval()  # as a student is that comes from its file, for few shots
    loop.student.register_forward_hook(lambda student, *_: modes.append(student.training))
    loop.fit()
    assert modes == [True] * 6
    assert not loop.student.training, "it is measured as it is"
    assert loop.schedule.last_epoch == loop.steps == 6


def test_the_curve_is_the_mean_of_an_epoch_and_of_one_cut_short(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "objective", lambda run, features, batch: (0 * features.sum() + 3, torch.tensor(0.25)))
    loop = toy_loop(tmp_path, Shown(8), steps=3)
    loop.fit()
    assert loop.curve == [{"epoch": epoch, "loss": 3, "filtered": 0.25} for epoch in (0, 1)]


def test_every_image_is_shown_with_one_of_its_labels_captions(tmp_path):
    loop, labels = toy_loop(tmp_path, Shown(8)), torch.tensor([0, 1] * 40)
    loop.captions = torch.arange(16.0).view(2, 8, 1)
    first, again, other = (loop._caption_of(labels, step)[:, 0] for step in (0, 0, 1))
    assert torch.equal(first // 8, labels.float())
    assert len(first.unique()) > 10
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_training_that_diverges_is_not_kept(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "objective", lambda run, features, batch: (features.sum() * torch.nan, features.sum()))
    material, texts = sources(TOY, dataset_for(TOY, "train"), runs), label_texts(TOY, teacher_of(TOY), SEEN)
    loop = Loop(TOY, Student("resnet_s", 64), texts, SEEN, material, tmp_path)
    with pytest.raises(ValueError, match="loss of epoch 1 is nan: the training diverged; lower lr"):
        loop.fit()
    assert not list(tmp_path.glob("*.safetensors"))


def test_randaugment_changes_views_alike_for_student_and_teacher(runs):
    run = replace(TOY, magnitude=9)
    rows, dataset = torch.arange(16), dataset_for(TOY, "train")
    plain, changed = (sources(r, dataset, runs).read(rows, 0) for r in (TOY, run))
    assert 0 < (plain[0] != changed[0]).flatten(1).any(1).float().mean() < 1, "each operation half of the time"
    assert changed[2] == pytest.approx(teacher_of(run).features(changed[0]).detach(), abs=2e-3)


def test_the_last_epochs_are_kept(runs, trained):
    run = replace(TOY, last=2)
    before, last = (train_aligned(run, runs, before=k)[0].state_dict() for k in (1, 0))
    assert all(torch.equal(value, trained[name]) for name, value in last.items()), "keeping changes nothing"
    assert any(not torch.equal(value, before[name]) for name, value in last.items())
    assert sorted(path.name for path in run.folder(runs).glob("student*")) == [
        "student-1.safetensors",
        "student.safetensors",
    ]


def test_a_teacher_without_texts_is_refused_before_training(tmp_path, tiny_student):
    save_student(tmp_path / "student.safetensors", tiny_student)
    with pytest.raises(ValueError, match="has no text encoder"):
        train_aligned(replace(TOY, teacher=str(tmp_path / "student.safetensors")), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_cached_features_are_the_teachers(runs, trained):
    dataset = dataset_for(TOY, "train")
    material = sources(TOY, dataset, runs)
    rows = torch.tensor([3, 11])
    images, labels, features = material.read(rows, 1)
    assert torch.equal(labels, dataset.labels[rows])
    assert features == pytest.approx(teacher_of(TOY).features(images).detach(), abs=2e-3)
