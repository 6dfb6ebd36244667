"""The method's diagram says what happened to its sample, in images and in codes."""

from __future__ import annotations

import pytest
import torch
from test_plots import CLASSES, LABELS, PROBABILITIES, check

from dadlab.diagram import Codes, code_colours, method_diagram
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
