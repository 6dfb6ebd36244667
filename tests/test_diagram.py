"""The method's diagram says what happened to its sample, in images and in codes."""

from __future__ import annotations

import pytest
import torch
from test_plots import CLASSES, LABELS, PROBABILITIES, check

from dadlab import diagram
from dadlab.dataset import Dataset
from dadlab.diagram import Codes, chosen_sample, code_colours, method_diagram
from dadlab.examples import Made

IMAGES = torch.rand(4, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MADE = Made(*IMAGES, None, torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), torch.ones(3))


@pytest.fixture
def codes() -> Codes:
    """2 × 2 codes of three samples: of the second one Q(x) has one other than x, x′ three, the last one farther."""
    clean = torch.zeros(3, 2, 2, dtype=torch.long)
    reconstructed, perturbed = clean.clone(), clean.clone()
    reconstructed[1, 0, 0] = 1
    perturbed[1] = torch.tensor([[0, 1], [1, 2]])
    return Codes(clean, reconstructed, perturbed, torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))


def test_method_diagram() -> None:
    figure = method_diagram(MADE, CLASSES, LABELS, PROBABILITIES, sample=1)
    check(figure, 1, "photograph x", "Q(x)", "x′", "Q(x′)", "φ: 9 % bag", "kept if φ\nstill says\nbag")
    assert len(figure.axes[0].images) == 5


def test_codes_stand_above_with_how_many_changed(codes: Codes) -> None:
    figure = method_diagram(MADE, CLASSES, LABELS, PROBABILITIES, sample=1, codes=codes)
    check(figure, 1, "codes of x", "codes of x′", "in 3 of 4 codes", "in 1")
    before, moved, after = (torch.tensor(image.get_array()) for image in figure.axes[0].images[5:])
    assert before.shape == (2, 2, 3)
    assert before.flatten(0, 1).unique(dim=0).shape == (1, 3)
    assert torch.equal(after[0, 0], before[0, 0])
    assert torch.equal(after[0, 1], after[1, 0])
    assert moved[0, 0].tolist() == [1, 1, 1]  # white: unchanged
    assert moved[1, 1].sum() < moved[0, 1].sum() < 3


def test_codes_know_what_the_attack_changed_and_how_far(codes: Codes) -> None:
    assert codes.changed(1) == (3, 1)
    assert codes.changed(0) == (0, 0)
    assert codes.moved(1).tolist() == [[0, 5], [5, 10]]


def test_like_codes_have_like_colours() -> None:
    entries = torch.linspace(0, 1, 9)[:, None] * torch.tensor([[1.0, 2.0, 0.0, 0.0]])
    colours = code_colours(entries)
    assert colours.shape == (9, 3)
    assert ((colours >= 0) & (colours <= 1)).all()
    assert (colours[1:, 0] > colours[:-1, 0]).all()
    assert code_colours(entries[:, :1]).shape == (9, 3)


def test_the_sample_shown_is_the_kept_one_that_fooled_the_teacher_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """φ's probability of class 0 is an image's light. Sample 1 fools it most but is lost, 2 the most of those kept."""
    light = torch.tensor([[0.9, 0.9, 0.8, 0.9], [0.8, 0.8, 0.7, 0.8], [0.3, 0.1, 0.2, 0.4], [0.6, 0.2, 0.9, 0.5]])
    stages = light[:, :, None, None, None].expand(4, 4, 3, 8, 8)
    made = Made(*stages, None, torch.zeros(4, 2), torch.tensor([0, 3, 0, 0]), torch.ones(4))
    pixels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    data = Dataset("val", CLASSES, pixels, torch.zeros(4, dtype=torch.long))

    def teacher(images: torch.Tensor) -> torch.Tensor:
        share = images.mean((1, 2, 3))
        return torch.stack([share, 1 - share], 1).log()

    monkeypatch.setattr(diagram, "held_out", lambda profile, split: data)
    monkeypatch.setattr(diagram, "load_teacher", lambda *_: teacher)
    monkeypatch.setattr(diagram, "load_discretizer", lambda _: None)
    monkeypatch.setattr(diagram, "discretize_adversarially", lambda *_: made)
    _, facts = chosen_sample()
    assert (facts["index"], facts["class"]) == (2, CLASSES[0])
    assert facts["probabilities"] == pytest.approx([80, 70, 20, 90], abs=0.01)


def test_its_facts_count_codes(monkeypatch: pytest.MonkeyPatch, tiny_vqgan, tiny_teacher, photos40) -> None:
    monkeypatch.setattr(diagram, "held_out", lambda profile, split: photos40)
    monkeypatch.setattr(diagram, "load_teacher", lambda *_: tiny_teacher)
    monkeypatch.setattr(diagram, "load_discretizer", lambda _: tiny_vqgan)
    monkeypatch.setattr(Codes, "changed", lambda codes, sample: (7, 3))
    _, facts = chosen_sample(count=2)
    assert (facts["codes changed"], facts["codes changed by Q alone"]) == (7, 3)
    assert facts["codes"] == tiny_vqgan.encode(photos40.images(torch.arange(1))).numel()
