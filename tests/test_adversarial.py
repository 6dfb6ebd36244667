import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy_attacks import PROFILE, Seen, drawn, shown

from dadlab import adversarial
from dadlab.adversarial import AT, FAST_ADVPROP, with_gradient
from dadlab.auxiliary import SplitNorm, add_auxiliary
from dadlab.batch import Batch, Tools
from dadlab.discretizer import Identity
from dadlab.losses import dad_loss
from dadlab.methods import METHODS
from dadlab.profile import Attack
from dadlab.pyramid import perturb_pyramid
from dadlab.students import Student

NAMES = ["at", "advprop", "fast_advprop", "pyramid_at", "dat", "dat_dad"]


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return add_auxiliary(Student("resnet_s", 3)).train()


@pytest.fixture
def batch() -> Batch:
    return drawn(8)


@pytest.fixture
def tools(student, tiny_vqgan) -> Tools:
    return Tools(PROFILE, student, tiny_vqgan, seed=5)


@pytest.mark.parametrize("name", NAMES)
def test_the_student_comes_out_of_an_attack_as_it_was(student, batch, tools, name):
    METHODS[name].loss(student, batch, tools)
    assert all(module.training for module in student.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in student.parameters())
    assert all(norm.route == "main" for norm in student.modules() if isinstance(norm, SplitNorm))


@pytest.mark.parametrize("name", NAMES)
def test_shares_of_one_class_are_labels(student, batch, tools, name):
    shares = dataclasses.replace(batch, labels=F.one_hot(batch.labels, 3).float())
    state = {key: value.clone() for key, value in student.state_dict().items()}
    one = METHODS[name].loss(student, batch, tools)
    student.load_state_dict(state)
    torch.testing.assert_close(METHODS[name].loss(student, shares, tools), one)


@pytest.mark.parametrize("name", NAMES)
def test_attacks_work_in_half_precision(student, batch, tools, name):
    with torch.autocast("cpu", torch.bfloat16):
        loss = METHODS[name].loss(student, batch, tools)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in student.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", ["at", "dat", "pyramid_at", "advprop"])
def test_a_samples_attack_does_not_depend_on_its_batch(student, batch, tools, name):
    state = {key: value.clone() for key, value in student.state_dict().items()}
    whole = shown(name, batch, tools)[-1][-8:]
    student.load_state_dict(state)
    part = dataclasses.replace(batch, rows=batch.rows[5:], images=batch.images[5:], labels=batch.labels[5:])
    same = shown(name, part, tools)[-1][-3:].isclose(whole[5:], atol=1e-4)
    assert same.float().mean() > 0.95, "rounding turns the sign of a few gradients that are almost 0"


def test_at_trains_on_examples_within_epsilon_that_raise_the_loss(student, batch, tools):
    (examples,) = shown("at", batch, tools)
    assert (examples - batch.images).abs().amax() <= AT.epsilon + 1e-6
    student.eval()
    assert (
        F.cross_entropy(student(examples), batch.labels) > F.cross_entropy(student(batch.images), batch.labels) + 0.005
    )


@pytest.mark.parametrize("name", ["at", "advprop", "dat", "dat_dad"])
def test_an_attack_raises_the_students_loss_where_noise_of_its_size_does_not(student, batch, tools, name):
    """As the attack sees the student: in eval mode, and through AdvProp's auxiliary norms."""
    state = {key: value.clone() for key, value in student.state_dict().items()}
    examples = shown(name, batch, dataclasses.replace(tools, discretizer=Identity()))[-1][-8:]
    student.load_state_dict(state)
    student.eval()

    @torch.no_grad()
    def raised(images: torch.Tensor) -> float:
        with adversarial.routed(student, "auxiliary" if name == "advprop" else "main"):
            before, after = (F.cross_entropy(student(part), batch.labels) for part in (batch.images, images))
        return float(after - before)

    offset = examples - batch.images
    signs = torch.randint(2, (20, 8, 3, 32, 32), generator=torch.Generator().manual_seed(2)) * 2.0 - 1
    noise = [raised((batch.images + offset * sign).clamp(0, 1)) for sign in signs]
    assert raised(examples) > 2 * max(map(abs, noise))


@pytest.mark.parametrize("name", ["at", "advprop", "fast_advprop", "pyramid_at", "dat", "dat_dad"])
def test_another_step_draws_other_random_numbers(student, batch, tools, name, monkeypatch):
    """`tools.seed` counts steps; so each has its own random start, attacked images and wrong classes."""
    tools = dataclasses.replace(
        tools, profile=dataclasses.replace(PROFILE, attack=Attack(epsilon=1.0, step_size=0.1, start=1.0))
    )
    monkeypatch.setattr(adversarial, "FAST_ATTACKED", 2.0)
    state = {key: value.clone() for key, value in student.state_dict().items()}

    def attacked(seed: int) -> torch.Tensor:
        student.load_state_dict(state)
        return shown(name, batch, dataclasses.replace(tools, seed=seed, discretizer=Identity()))[-1][-8:]

    first = attacked(5)
    assert torch.equal(attacked(5), first)
    differ = (attacked(6) != first).flatten(1).any(1)
    assert differ.sum() >= (2 if name == "pyramid_at" else 8), "of three classes two are wrong: half the draws agree"


def test_advprops_auxiliary_norms_see_adversarial_images_alone(student, batch, tools):
    """After one step, the stem's statistics are a tenth of the way to those of clean and of attacked images."""
    (images,) = shown("advprop", batch, tools)
    clean, examples = images.chunk(2)
    assert torch.equal(clean, batch.images)
    assert 0 < (examples - clean).abs().amax() <= adversarial.ADVPROP.epsilon + 1e-6
    norm = student.net.stem.bn
    for half, bn in ((clean, norm.main), (examples, norm.auxiliary)):
        mean = student.net.stem.conv(student.preprocess(half)).mean((0, 2, 3))
        torch.testing.assert_close(bn.running_mean, 0.1 * mean)
        assert bn.num_batches_tracked == 1


def test_advprop_attacks_through_the_auxiliary_norms(student, batch, tools):
    """With main norms that are deaf to the image the attack is the same."""
    (before,) = shown("advprop", batch, tools)
    for norm in student.modules():
        if isinstance(norm, SplitNorm):
            norm.main.weight.data.zero_()
            norm.auxiliary.reset_running_stats()
    (after,) = shown("advprop", batch, tools)
    assert torch.equal(before, after)


def test_advprop_by_hand(student, batch, tools):
    """Clean images through the main norms, attacked ones through the auxiliary ones, each with its own statistics."""
    state = {key: value.clone() for key, value in student.state_dict().items()}
    seen = Seen(student)
    loss = METHODS["advprop"].loss(seen, batch, tools)
    student.load_state_dict(state)
    (update,) = (show.images for show in seen.shown)
    expected = F.cross_entropy(student(update[:8]), batch.labels)
    with adversarial.routed(student, "auxiliary"):
        expected = expected + F.cross_entropy(student(update[8:]), batch.labels)
    torch.testing.assert_close(loss, expected)


def test_fast_advprop_by_hand(student, tools):
    """Value and gradient are those of its three sums, each passed and differentiated on its own."""
    batch = drawn(20)
    state = {key: value.clone() for key, value in student.state_dict().items()}
    seen = Seen(student)
    loss = METHODS["fast_advprop"].loss(seen, batch, tools)
    loss.backward()
    found = [parameter.grad.clone() for parameter in student.parameters()]
    student.zero_grad()
    student.load_state_dict(state)

    (update,) = (show.images for show in seen.shown)
    rows = [
        int((batch.images == image).all((1, 2, 3)).nonzero()[0])
        for image in update
        if (batch.images == image).all((1, 2, 3)).any()
    ]
    attacked = torch.tensor([row for row in range(20) if row not in rows])
    assert 0 < len(attacked) < 10
    examples, images, labels = update[len(rows) :], batch.images[attacked], batch.labels[attacked]
    generators = adversarial.sample_generators(batch.rows[attacked], 5)
    offset = adversarial.random_start(images, FAST_ADVPROP, generators)
    with adversarial.routed(student, "auxiliary"):
        noisy = F.cross_entropy(student((images + offset).clamp(0, 1)), labels, reduction="sum")
    with adversarial.routed(student, len(rows)):
        clean, adversarial_logits = student(torch.cat([batch.images[rows], examples])).split([len(rows), len(attacked)])
    expected = F.cross_entropy(clean, batch.labels[rows], reduction="sum")
    expected = (expected + (noisy + F.cross_entropy(adversarial_logits, labels, reduction="sum")) / 2) / 20
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for gradient, parameter in zip(found, student.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-4)
    assert (examples - images).abs().amax() <= FAST_ADVPROP.epsilon + 1e-6
    student.load_state_dict(state)
    images = (images + offset).clamp(0, 1).requires_grad_(True)
    with adversarial.routed(student, "auxiliary"):
        (gradient,) = torch.autograd.grad(F.cross_entropy(student(images), labels), images)
    step = examples - batch.images[attacked]
    inside = (examples > 0) & (examples < 1) & (step.abs() < FAST_ADVPROP.epsilon * 0.99)
    assert 0.2 < inside.float().mean() < 0.8
    assert torch.equal((examples - images.detach())[inside].sign(), gradient.sign()[inside])


def test_fast_advprop_attacks_other_images_in_another_step(student, batch, tools):
    def spared(seed: int) -> list[int]:
        (images,) = shown("fast_advprop", batch, dataclasses.replace(tools, seed=seed))
        return [row for row in range(8) if (images == batch.images[row]).all((1, 2, 3)).any()]

    assert spared(5) == spared(5)
    assert len({tuple(spared(seed)) for seed in range(5, 9)}) > 1


@pytest.mark.parametrize("attacked", [-1.0, 2.0], ids=["none", "all"])
def test_fast_advprop_of_no_or_only_attacked_images(student, batch, tools, monkeypatch, attacked):
    monkeypatch.setattr(adversarial, "FAST_ATTACKED", attacked)
    loss = METHODS["fast_advprop"].loss(student, batch, tools)
    loss.backward()
    assert loss.isfinite()
    assert all(value.isfinite().all() for value in student.state_dict().values())
    assert all(parameter.grad is not None for parameter in student.parameters()), "processes wait for every gradient"


def test_a_gradient_without_its_passes():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    other = torch.tensor(3.0, requires_grad=True)
    found = with_gradient(torch.tensor(7.0), [weight, other], [torch.tensor([4.0, 5.0]), None])
    (3 * found).backward()
    assert found == 7
    assert weight.grad.tolist() == [12, 15]
    assert other.grad is None


def test_pyramid_by_hand(student, batch, tools):
    state = {key: value.clone() for key, value in student.state_dict().items()}
    seen = Seen(student)
    loss = METHODS["pyramid_at"].loss(seen, batch, tools)
    student.load_state_dict(state)
    clean, examples = (show.images for show in seen.shown)
    assert torch.equal(clean, batch.images)
    generators = adversarial.sample_generators(batch.rows, tools.seed)
    draws = torch.stack([torch.rand((), generator=generator) for generator in generators])
    student.eval()
    torch.testing.assert_close(examples, perturb_pyramid(student, batch.images, batch.labels, draws))
    student.train()
    expected = F.cross_entropy(student(clean), batch.labels) + F.cross_entropy(student(examples), batch.labels)
    torch.testing.assert_close(loss, expected)


def test_both_of_pyramids_passes_have_the_same_dropout(batch):
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.head, self.masks = nn.Dropout(0.5), nn.Linear(3 * 32 * 32, 3), []

        def forward(self, images):
            kept = self.drop(torch.ones(len(images), 3 * 32 * 32))
            if self.training:
                self.masks.append(kept)
            return self.head(images.flatten(1) * kept)

    torch.manual_seed(0)
    student = Dropping()
    METHODS["pyramid_at"].loss(student, batch, Tools(PROFILE, student))
    clean, examples = student.masks
    assert torch.equal(clean, examples)
    METHODS["pyramid_at"].loss(student, batch, Tools(PROFILE, student))
    assert not torch.equal(student.masks[2], clean)


@pytest.mark.parametrize("name", ["dat", "dat_dad"])
def test_dats_images_are_decodable_codes(student, batch, tools, tiny_vqgan, name, monkeypatch):
    codes, real = [], tiny_vqgan.encode
    monkeypatch.setattr(tiny_vqgan, "encode", lambda images: codes.append(real(images)) or codes[-1])
    (images,) = shown(name, batch, tools)
    before, after = codes
    assert torch.equal(images[-8:], tiny_vqgan.decode(after))
    assert not torch.equal(after, real(tiny_vqgan.decode(before))), "those of Q(x), which no attack has moved"


@pytest.mark.parametrize("through", [False, True])
def test_dats_gradient_passes_the_discretizer_if_told(student, batch, tools, tiny_vqgan, monkeypatch, through):
    passed, real = [], tiny_vqgan.straight_through
    monkeypatch.setattr(tiny_vqgan, "straight_through", lambda images: passed.append(len(images)) or real(images))
    attack = dataclasses.replace(PROFILE.attack, through=through)
    shown("dat", batch, dataclasses.replace(tools, profile=dataclasses.replace(PROFILE, attack=attack)))
    assert passed == [8] * through


def test_dat_by_hand(student, batch, tools):
    student.eval()  # so that the images of a batch do not matter to each other
    (images,) = shown("dat", batch, tools)
    assert torch.equal(images[:8], batch.images)
    expected = F.cross_entropy(student(images[:8]), batch.labels) + F.cross_entropy(student(images[8:]), batch.labels)
    torch.testing.assert_close(METHODS["dat"].loss(student, batch, tools), expected)


def test_dat_attacks_at_its_reconstruction(student, batch, tools):
    """With the identity for Q, x' lies on the sphere of the profile's attack around x."""
    (images,) = shown("dat", batch, dataclasses.replace(tools, discretizer=Identity()))
    length = (images[8:] - batch.images).flatten(1).norm(dim=1)
    assert (length <= 1 + 1e-5).all()
    assert (length > 0.5).all()


def test_dat_dad_adds_a_times_cross_entropy_to_dad(student, batch, tools):
    student.eval()
    (images,) = shown("dat_dad", batch, tools)
    assert torch.equal(images[8:16], batch.second_images)
    clean, stored, own = student(images).chunk(3)
    dad = dad_loss(clean, batch.teacher, batch.labels, stored, batch.second_teacher, temperature=2.0, alpha=0.25)
    expected = dad + 0.25 * F.cross_entropy(own, batch.labels)
    torch.testing.assert_close(METHODS["dat_dad"].loss(student, batch, tools), expected)
