"""Passes that a step really makes, counted by hooks, against those that its method declares."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dadlab.adain import load_style_transfer
from dadlab.auxiliary import add_auxiliary
from dadlab.batch import Batch, Tools
from dadlab.cost import Cost, step_cost, teacher_cost
from dadlab.materials import prepare
from dadlab.methods import METHODS
from dadlab.profile import ATTACKS, Attack, Profile
from dadlab.run import Run
from dadlab.store import open_dataset
from dadlab.students import Student
from dadlab.teacher import StudentTeacher

COUNT = 40


class Counter:
    """How many images pass a student forward and backward, and Q and the style transfer forward."""

    def __init__(self, student, vqgan, transfer, monkeypatch):
        self.forward = self.backward = self.discretizer = self.transfer = 0
        transfer.decoder.register_forward_hook(self._transferred)
        student.net.stem.register_forward_hook(self._passed)
        real = vqgan.latents
        monkeypatch.setattr(vqgan, "latents", lambda images: self._discretized(images) or real(images))

    def _passed(self, module, inputs, output):
        self.forward += len(output)
        output.register_hook(self._returned)

    def _returned(self, gradient):
        self.backward += len(gradient)

    def _discretized(self, images):
        self.discretizer += len(images)

    def _transferred(self, module, inputs, output):
        self.transfer += len(output)


@pytest.mark.parametrize(("name", "through"), [*((name, False) for name in METHODS), ("dat", True), ("dat_dad", True)])
def test_declared_passes_are_made(name, through, tiny_vqgan, files, monkeypatch):
    method, profile = METHODS[name], Profile(attack=Attack(epsilon=2.0, step_size=1.0, steps=2, through=through))
    torch.manual_seed(0)
    student, generator = Student("resnet_s", 4).train(), torch.Generator().manual_seed(1)
    if method.auxiliary_norm:
        add_auxiliary(student)
    transfer = load_style_transfer(files["transfer"])
    counter = Counter(student, tiny_vqgan, transfer, monkeypatch)

    def half(count: int) -> tuple[torch.Tensor, ...]:
        images = torch.rand(count, 3, 32, 32, generator=generator)
        return images, torch.arange(count) % 4, torch.randn(count, 4, generator=generator)

    others, mixtures = COUNT * (method.second != "none"), 2 * COUNT * method.mixtures
    batch = Batch(torch.arange(COUNT), *half(COUNT), *half(others), half(mixtures)[0])
    tools = Tools(profile, student, tiny_vqgan, seed=3, transfer=transfer)
    method.loss(student, batch, tools).backward()
    declared = step_cost(method, profile)
    # Fast AdvProp draws who is attacked: 8 of 40 are expected, give or take 5
    assert counter.forward / COUNT == pytest.approx(declared.forward, abs=0.13 if method.attacked < 1 else 0)
    assert counter.backward == counter.forward
    assert counter.discretizer == declared.discretizer * COUNT
    assert counter.transfer == declared.transfer * COUNT


def test_costs_of_table_7():
    """Attack steps as the paper has them; passes as it has them too, but for Fast AdvProp's 3 and DAD's 2."""
    found = {name: step_cost(METHODS[name], Profile()) for name in ("plain", "at", "advprop", "dat", "dad", "dat_dad")}
    assert {name: (cost.attack_steps, cost.forward) for name, cost in found.items()} == {
        "plain": (0, 1), "at": (10, 11), "advprop": (5, 7), "dat": (1, 3), "dad": (0, 2), "dat_dad": (1, 4),
    }  # fmt: skip
    assert step_cost(METHODS["fast_advprop"], Profile()).forward == pytest.approx(1.2)


def test_the_profiles_attack_counts_where_it_is_on_the_student():
    assert step_cost(METHODS["dat"], Profile(attack=ATTACKS["none"])) == Cost(0, 2.0, 2.0, 2)
    assert step_cost(METHODS["dad"], Profile(attack=Attack(steps=9))) == Cost(0, 2.0, 2.0, 0)


@pytest.mark.parametrize("name", ["plain", "kd", "dad", "dad_q", "dad_q_matched", "dad_augmentation", "ard"])
def test_declared_passes_of_the_teacher_are_made(profile, name, tmp_path, monkeypatch):
    passed = {"forward": 0, "backward": 0}
    real = StudentTeacher.forward

    def forward(teacher, images):
        logits = real(teacher, images)
        passed["forward"] += len(images)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: passed.update(backward=passed["backward"] + len(gradient)))
        return logits

    monkeypatch.setattr("dadlab.generate.TILE", 8)  # batches are filled up to it
    monkeypatch.setattr(StudentTeacher, "forward", forward)
    run = Run(replace(profile, attack=Attack(epsilon=0.01, step_size=0.01, steps=2)), name)
    prepare(run.profile, METHODS[name], tmp_path)
    stores = [path for path in tmp_path.glob("stores/*") if path.is_dir()]
    shares = [float(np.mean(open_dataset(folder, ["accepted"])["accepted"])) for folder in stores]
    declared = teacher_cost(METHODS[name], run.profile, kept=min(shares, default=1.0))
    assert passed == {"forward": round(40 * declared.forward), "backward": round(40 * declared.backward)}
