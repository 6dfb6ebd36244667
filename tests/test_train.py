import json
import math
from dataclasses import replace

import pytest
import torch
from toy_training import ATTACKING, losses

from dadlab import train as module
from dadlab.loop import Service
from dadlab.methods import METHODS, Method
from dadlab.profile import make_profile
from dadlab.provenance import commit, machine, trained_by
from dadlab.results import measure
from dadlab.run import Run
from dadlab.train import train

pytestmark = pytest.mark.usefixtures("materials_made_once")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_is_trained_once(profile, method, tmp_path, monkeypatch):
    run = Run(profile, method)
    train(run, tmp_path)
    curve = [json.loads(line) for line in (run.folder(tmp_path) / "loss.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in curve] == [0, 1, 2]
    assert curve[-1]["loss"] < curve[0]["loss"]
    monkeypatch.setattr(module, "_train", lambda *args: pytest.fail("trained again"))
    train(run, tmp_path)


@pytest.mark.parametrize("method", [name for name in ATTACKING if not METHODS[name].needs_batch_norm])
def test_a_vit_is_attacked_too(profile, method, tmp_path):
    run = Run(replace(profile, limit=16, epochs=1), method, student="vit_s")
    train(run, tmp_path)
    assert [math.isfinite(loss) for loss in losses(run, tmp_path)] == [True]


NEW = ("dad_augmentation", "augmix", "kd_augmix", "dad_augmix", "debiased", "dist", "ard", "rslad")


@pytest.mark.parametrize("method", NEW)
def test_methods_train_a_vit_on_mixed_labels_with_dropout(profile, method, tmp_path):
    longer = replace(profile, epochs=7, lr=1e-3)  # the last epoch sees the first one's view again
    run = Run(replace(longer, augreg="medium2", dropout=0.1, drop_path=0.1), method, "vit_s")
    train(run, tmp_path)
    assert losses(run, tmp_path)[-1] < losses(run, tmp_path)[0]


def test_a_run_starts_from_another(profile, tmp_path):
    """One step at a tiny rate keeps what it starts from, whichever method it was."""
    first = train(Run(profile, "plain"), tmp_path)
    weights = Run(profile, "plain").folder(tmp_path) / "student.safetensors"
    still = replace(profile, start=str(weights), lr=1e-9, epochs=1, batch=40)
    begun, parameters = train(Run(still, "dist"), tmp_path), dict(first.named_parameters())
    for name, value in begun.named_parameters():
        torch.testing.assert_close(value, parameters[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["fusedadam", "adahessian"])
def test_optimizer_that_cannot_be_used_stops_before_work(profile, tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr(module, "prepare", lambda *args: pytest.fail("work began"))
    with pytest.raises(ValueError, match=f"optimizer '{optimizer}' cannot be used here"):
        train(Run(replace(profile, optimizer=optimizer), "plain"), tmp_path)


def test_worker_processes_change_nothing(profile, tmp_path):
    run = Run(profile, "dad")
    none, two = (train(run, tmp_path / str(n), Service(workers=n)).state_dict() for n in (0, 2))
    assert all(torch.equal(value, two[name]) for name, value in none.items())


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


def test_finished_run_is_loaded_exactly_and_leaves_no_checkpoint(profile, tmp_path):
    run = Run(profile, "plain")
    first, again = train(run, tmp_path), train(run, tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert not again.training
    assert {path.name for path in run.folder(tmp_path).iterdir()} - {".lock"} == {
        "run.json", "loss.jsonl", "student.safetensors", "trained.json",
    }  # fmt: skip
    told = {"commit": commit(), "machine": machine(), "precision": module.precision()}
    told["loss"] = METHODS["plain"].code
    assert trained_by(run.folder(tmp_path)) == told


def test_seeds_train_other_students(profile, tmp_path):
    one, other = (train(Run(profile, "plain", seed=seed), tmp_path).state_dict() for seed in (0, 1))
    assert not torch.equal(one["net.head.fc.weight"], other["net.head.fc.weight"])


def test_images_that_change_meanwhile_do_not_part_weights_from_their_record(profile, tmp_path, monkeypatch):
    """The run has another name then; what was trained stays together under the one that it began with."""
    name, fit = ["begun"], module.Loop.fit

    def renamed(loop):
        fit(loop)
        name[0] = "changed"

    monkeypatch.setattr(Run, "fingerprint", property(lambda run: name[0]))
    monkeypatch.setattr(module.Loop, "fit", renamed)
    train(Run(profile, "plain"), tmp_path)
    (folder,) = tmp_path.glob("plain-*")
    assert folder.name.endswith("begun")
    assert {"run.json", "trained.json", "student.safetensors"} <= {path.name for path in folder.iterdir()}


def mine(student, batch, tools):
    """Of nobody's."""
    return METHODS["plain"].loss(student, batch, tools)


def mine_changed(student, batch, tools):
    return 2 * METHODS["plain"].loss(student, batch, tools)


def test_a_method_of_ones_own_is_trained_and_says_when_its_loss_has_changed_since(profile, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "mine", Method("Mine", mine, uses_teacher=False))
    run = Run(replace(profile, epochs=1), "mine")
    first = measure(run, tmp_path, ["val"])
    measure(run, tmp_path, ["val"])  # says nothing
    monkeypatch.setitem(METHODS, "mine", Method("Mine", mine_changed, uses_teacher=False))
    said = r"mine-.*: trained before the loss of 'mine' was changed; delete the folder"
    with pytest.warns(UserWarning, match=said):
        train(run, tmp_path)
    with pytest.warns(UserWarning, match=said):
        again = measure(run, tmp_path, ["val"])
    assert (again["val"] == first["val"]).all()


def test_what_other_weights_answered_goes_when_a_run_is_trained(profile, tmp_path):
    run = Run(replace(profile, epochs=1), "plain")
    answers = [run.folder(tmp_path) / name for name in ("correct/val.npy", "logits/val.npy", "corruptions.json")]
    for path in answers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    train(run, tmp_path)
    assert not any(path.exists() for path in answers)
