import zlib

import pytest
import torch

from dadlab.widgets import Spectrum

DESCRIPTIONS = {"owl": "a round bird", "gull": "a white bird", "bag": "a box with a handle"}


class Encoder:
    """Random features of texts, the same for the same text; counts what it is asked."""

    def __init__(self):
        self.asked: list[str] = []

    def __call__(self, texts):
        self.asked += texts
        seeds = [zlib.crc32(text.encode()) for text in texts]
        return torch.stack([torch.randn(6, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@pytest.fixture
def encode() -> Encoder:
    return Encoder()


@pytest.fixture
def view(encode) -> Spectrum:
    return Spectrum(encode, DESCRIPTIONS)


def test_shows_itself(view):
    assert 'aria-label="eigenvalue spectra: plain: effective rank' in view.picture.value
    assert "description: effective rank of σ²" in view.status.value
    assert view.picture.value.count("<svg ") == 2, "spectra, and cosines below"
    assert view.status.value.split("<br>")[0].count(" / ") == 3, "three labels are three pairs, nearest first"
    assert view.problem.value == ""
    assert len(view.figure().axes) == 2


def test_every_control_has_a_name_and_a_tip(view):
    controls = (view.labels, view.label, view.text, view.restore)
    assert all(control.description and control.tooltip for control in controls)


def test_a_problem_stays_while_it_lasts(view):
    view.labels.value = ("owl",)
    view.label.value = "bag"
    assert "pick at least two labels" in view.problem.value


def test_edited_description_moves_the_spectrum_and_costs_one_text(view, encode):
    before, asked = view.features()["description"], len(encode.asked)
    view.label.value = "gull"
    assert view.text.value == "a white bird"
    view.text.value = "a grey  bird\nat sea"
    assert encode.asked[asked:] == ["a photo of gull . a grey bird at sea"]
    after = view.features()["description"]
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [True, False, True]
    view.restore.click()
    assert torch.equal(view.features()["description"], before)


def test_edits_stay_with_their_label(view):
    view.text.value = "an eagle owl"
    view.label.value = "bag"
    view.label.value = "owl"
    assert view.text.value == "an eagle owl"
    assert DESCRIPTIONS["owl"] == "a round bird"


def test_picked_labels_alone_count(view):
    view.labels.value = ("owl", "bag")
    assert [len(found) for found in view.features().values()] == [2, 2]
    assert "gull" not in view.status.value


def test_one_label_is_too_few_and_the_view_says_so(view):
    view.labels.value = ("owl",)
    assert "pick at least two labels" in view.problem.value
    view.labels.value = ("owl", "gull")
    assert view.problem.value == ""


def test_texts_that_cannot_be_told_apart_are_no_crash(view):
    view.encode = lambda texts: torch.ones(len(texts), 6)
    view.template = "a sketch of {}"
    view.labels.value = ("owl", "gull")
    assert "one at least must be above 0" in view.problem.value
