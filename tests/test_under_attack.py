import warnings

import numpy as np
import pytest
import torch
from torch import nn

from dadlab import under_attack as module
from dadlab.attack import perturb
from dadlab.data import load_split
from dadlab.dataset import Dataset
from dadlab.examples import sample_generators
from dadlab.profile import Attack, make_profile
from dadlab.run import Run
from dadlab.teacher import load_teacher
from dadlab.under_attack import ATTACKS, fgsm, measure_under_attack, pgd, robust


class Linear(nn.Module):
    """Logits w·x and −w·x (and two that never win): FGSM and PGD are exact, and so is every margin."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.classes = classes
        self.register_buffer("weight", torch.linspace(-1, 1, 3 * 8 * 8).view(3, 8, 8))

    def forward(self, images):
        margin = ((images - 0.5) * self.weight).flatten(1).sum(1)
        rest = [margin * 0 - 1e3 - k for k in range(self.classes - 2)]
        return torch.stack([margin, -margin, *rest], 1)


@pytest.fixture
def data() -> Dataset:
    pixels = torch.randint(100, 156, (120, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    model = Linear()
    labels = model(pixels.float() / 255).argmax(1)
    labels[::10] = 1 - labels[::10]  # some that are wrong before any attack
    return Dataset("toy", ("a", "b", "c", "d"), pixels, labels)


def margins(data: Dataset) -> torch.Tensor:
    logits = Linear()(data.images(torch.arange(len(data))))
    sign = 1 - 2 * data.labels
    return (logits[:, 0] * sign).detach()  # w·(x − ½), positive where the model is right


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_closed_form_of_a_linear_model(data, attack, norm):
    """No image leaves the box, so the worst case is margin − ε·‖w‖ in the dual norm, which both attacks reach."""
    dual = Linear().weight.abs().sum() if norm == "linf" else Linear().weight.norm()
    epsilon = float(margins(data).abs().median() / dual)
    wanted = margins(data) - epsilon * dual > 0
    found = robust(Linear(), data, attack, epsilon, norm=norm)
    assert 0.2 < wanted.float().mean() < 0.8
    assert (torch.from_numpy(found) == wanted).float().mean() > 0.99


def test_fgsm_on_a_linear_model_is_a_signed_step(data):
    images, labels = data.images(torch.arange(4)), data.labels[:4]
    sign = Linear().weight.sign() * (2 * labels - 1).view(-1, 1, 1, 1)
    expected = (images + 0.02 * sign).clamp(0, 1)
    torch.testing.assert_close(fgsm(Linear(), images, labels, 0.02, "linf", torch.arange(4)), expected)


def test_autoattack_reaches_a_linear_models_worst_case_inside_the_ball(data):
    few, rows = data.take(torch.arange(12)), torch.arange(12)
    dual = Linear().weight.abs().sum()
    epsilon = float(margins(few).abs().median() / dual) * 1.01
    wanted = margins(few) - epsilon * dual > 0
    assert 0 < wanted.sum() < 12
    assert robust(Linear(), few, "autoattack", epsilon).tolist() == wanted.tolist()
    offset = ATTACKS["autoattack"](Linear(), few.images(rows), few.labels, 0.5, "linf", rows) - few.images(rows)
    assert offset.abs().max() <= 0.5 * (1 + 1e-4)


def test_autoattack_leaves_random_numbers_alone(data):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    robust(Linear(), data.take(torch.arange(3)), "autoattack", 0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_classes_for_autoattack(data):
    with pytest.raises(ValueError, match="at least four classes, the model has 3: use fgsm or pgd"):
        robust(Linear(3), data, "autoattack", 0.1)


def test_foolbox_makes_the_same_examples(monkeypatch):
    """An independent implementation (Rauber et al., 2017), on the embedded teacher: FGSM, and PGD from x."""
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that SciPy moved
        import foolbox
    data, model, epsilon = load_split("fashion", "val", limit=40), load_teacher("resnet"), 8 / 255
    rows = torch.arange(len(data))
    images, labels = data.images(rows), data.labels
    for theirs, ours in (
        (foolbox.attacks.LinfFastGradientAttack(random_start=False), Attack("linf", epsilon, epsilon)),
        (
            foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=epsilon / 4, steps=5, random_start=False),
            Attack("linf", epsilon, epsilon / 4, 5),
        ),
    ):
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        _, found, fooled = theirs(wrapped, images, labels, epsilons=epsilon)
        made = perturb(model, images, labels, ours, sample_generators(rows, 0))
        assert ((made - found).abs().amax((1, 2, 3)) < 1e-6).float().mean() >= 0.9  # signs of tiny gradients differ
        assert 0 < fooled.float().mean() < 1
        assert torch.equal(model(made).argmax(1) != labels, fooled)


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [("pdg", {}, "did you mean 'pgd'"), ("pgd", {"norm": "l1"}, "choose 'l2' or 'linf'")],
)
def test_bad_input_is_named(data, attack, options, message):
    with pytest.raises(ValueError, match=message):
        robust(Linear(), data, attack, 0.1, **options)


def test_a_subset_of_labels_is_refused(data):
    subset = Dataset(data.name, data.classes, data.pixels, data.labels, among=(0, 1))
    with pytest.raises(ValueError, match="answers among 2 labels"):
        robust(Linear(), subset, "pgd", 0.1)


def test_an_attack_without_radius_changes_nothing(data):
    assert np.array_equal(robust(Linear(), data, "pgd", 0.0), robust(Linear(), data, "none", 0.0))
    assert robust(Linear(), data, "none", 0.0).mean() == pytest.approx(0.9)


def test_stopped_measurement_goes_on_where_it_was(data, tmp_path, monkeypatch):
    """Each sample is attacked once, and the verdicts are those of a calm run."""
    attacked: list[int] = []

    def counting(model, images, labels, epsilon, norm, rows):
        if len(attacked) >= 100 and not counting.resumed:
            raise KeyboardInterrupt
        attacked.extend(rows.tolist())
        return pgd(model, images, labels, epsilon, norm, rows)

    counting.resumed = False
    monkeypatch.setitem(module.ATTACKS, "pgd", counting)
    with pytest.raises(KeyboardInterrupt):
        robust(Linear(), data, "pgd", 0.01, keep=tmp_path / "kept.npy")
    counting.resumed = True
    found = robust(Linear(), data, "pgd", 0.01, keep=tmp_path / "kept.npy")
    assert attacked == list(range(120))
    monkeypatch.undo()
    assert np.array_equal(found, robust(Linear(), data, "pgd", 0.01))


def test_a_run_is_attacked_once(tmp_path, tiny_student, monkeypatch):
    run, asked = Run(make_profile(epochs=1), "kd"), {"split": "val", "limit": 20}
    monkeypatch.setattr(module, "trained", lambda run, runs_dir: tiny_student)
    found = measure_under_attack(run, tmp_path, "fgsm", 0.01, **asked)
    assert found.shape == (20,)
    monkeypatch.setattr(module, "trained", lambda *args: pytest.fail("attacked again"))
    assert np.array_equal(measure_under_attack(run, tmp_path, "fgsm", 0.01, **asked), found)


def test_verdicts_under_other_settings_are_not_todays(tmp_path, tiny_student, monkeypatch):
    """Other steps, and those kept before the settings had a part in the name."""
    run, asked, made = Run(make_profile(), "plain"), [], []
    monkeypatch.setattr(module, "trained", lambda run, runs_dir: tiny_student)
    monkeypatch.setattr(module, "robust", lambda *given, keep, **options: asked.append(keep.name))
    for steps in (10, 20):
        monkeypatch.setattr(module, "_STEPS", steps)
        with monkeypatch.context() as watched:  # what is attacked with, too
            watched.setattr(module, "perturb", lambda *given: made.append(given[3].steps))
            pgd(None, None, None, 0.01, "linf", torch.arange(1))
        measure_under_attack(run, tmp_path, "pgd", 0.01, split="val", limit=20)
    assert made == [10, 20]
    assert len(set(asked)) == 2
    assert all(name.startswith("val-20-pgd-linf-0.01-") for name in asked)


def test_settings_are_those_of_the_attacks():
    """As they were: a change here asks everything anew."""
    told = module.carried_out("pgd", 0.1, "l2")
    assert (told["steps"], told["step_size"], told["start"]) == (10, 0.025, 1.0)
    assert module.carried_out("fgsm", 0.1, "l2")["step_size"] == 0.1
    auto = module.carried_out("autoattack", 0.1, "l2")
    assert (auto["targets"], auto["together"]) == (9, 50)
    assert module.carried_out("none", 0.0, "l2") == {}
    assert module.carried_out("noise", 0.1, "l2")["steps"] == 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_is_random_and_as_large_as_an_attack(data, norm):
    images, rows = data.images(torch.arange(8)), torch.arange(8)
    offset = (ATTACKS["noise"](Linear(), images, data.labels[:8], 0.1, norm, rows) - images).flatten(1)
    length = offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)
    torch.testing.assert_close(length, torch.full((8,), 0.1), atol=0.002, rtol=0)
    assert offset.min() < 0 < offset.max()


def test_what_was_wrong_before_does_not_count_afterwards(data, monkeypatch):
    """Not even if an attack should make it right: here images are mirrored about grey, which turns every answer."""
    monkeypatch.setitem(module.ATTACKS, "fgsm", lambda model, images, *rest: 1 - images)
    before = robust(Linear(), data, "none", 0.0)
    assert not before.all()
    assert not robust(Linear(), data, "fgsm", 0.1).any()


def test_autoattack_is_given_the_radius_nine_classes_and_a_seed_of_the_samples(data, monkeypatch):
    asked = []

    class Told:
        def __init__(self, model, **given):
            self.apgd_targeted, self.fab = nn.Module(), nn.Module()
            asked.append(given)

        def run_standard_evaluation(self, images, labels, batch_size):
            asked.append((self.apgd_targeted.n_target_classes, self.fab.n_target_classes))
            return [images]

    monkeypatch.setattr(module, "AutoAttack", Told)
    images = data.images(torch.arange(2))
    ATTACKS["autoattack"](Linear(12), images, data.labels[:2], 0.25, "l2", torch.tensor([7, 8]))
    assert (asked[0]["norm"], asked[0]["eps"], asked[0]["seed"]) == ("L2", 0.25, 7)
    assert asked[1] == (9, 9)


def test_pgd_makes_the_steps_it_is_told_to(monkeypatch):
    made = []
    monkeypatch.setattr(module, "perturb", lambda *given: made.append((given[3].steps, given[3].step_size)))
    pgd(None, None, None, 0.4, "linf", torch.arange(1), steps=100)
    assert made == [(100, pytest.approx(0.01))]
