import json

import numpy as np
import pytest
import torch
from torch import nn

from dadlab import evaluate as module
from dadlab.data import Dataset
from dadlab.evaluate import CORRUPTIONS, SHIFTS, correct, corrupted, corruption_errors, evaluate, mce, shifts_of, top1


class Oracle(nn.Module):
    """Says the class that is written into an image's first pixel, and counts what it was shown."""

    def __init__(self):
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images):
        shown = (images[:, 0, 0, 0] * 255).round().long()
        self.seen += shown.tolist()
        return nn.functional.one_hot(shown, 256).float()


def numbered(count: int, wrong: tuple[int, ...] = ()) -> Dataset:
    pixels = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(count)
    labels = torch.arange(count)
    labels[list(wrong)] += 1
    return Dataset("numbered", tuple(map(str, range(256))), pixels, labels)


@pytest.mark.parametrize("batch", [1, 3, 7, 10, 64])
def test_each_sample_once_in_order(batch):
    oracle = Oracle()
    found = correct(oracle, numbered(10, wrong=(2, 9)), batch=batch)
    assert oracle.seen == list(range(10))
    assert torch.nonzero(~found)[:, 0].tolist() == [2, 9]


@pytest.mark.parametrize(("wrong", "expected"), [((), 1.0), ((0,), 0.9), (tuple(range(10)), 0.0)])
def test_top1_by_hand(wrong, expected):
    assert top1(Oracle(), numbered(10, wrong)) == pytest.approx(expected)


def test_evaluate_gives_every_sample_of_every_split(tiny_student):
    found = evaluate(tiny_student, splits=["val", "a"])
    assert list(found) == ["val", "a"]
    assert found["val"].shape == (1000,)
    assert found["a"].dtype == torch.bool


def test_shifts():
    assert shifts_of("fashion") == list(SHIFTS)


def test_shifts_of_a_folder_are_all_but_train_and_val(tmp_path):
    for name in ("train", "val", "night", "fog"):
        (tmp_path / name).mkdir()
    assert shifts_of(str(tmp_path)) == ["fog", "night"]


@pytest.fixture(scope="module")
def two(photos40):
    return photos40.take(torch.arange(2))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_can_be_drawn_again_and_leave_numpys_state(two, kind):
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = corrupted(two, kind, 3)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    again = corrupted(two, kind, 3)
    assert torch.equal(first.pixels, again.pixels)
    assert (first.pixels.shape, first.pixels.dtype) == (two.pixels.shape, torch.uint8)
    assert not torch.equal(first.pixels, two.pixels)
    assert torch.equal(first.labels, two.labels)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corrupted_sample_does_not_depend_on_those_after_it(two, kind):
    assert torch.equal(corrupted(two.take(torch.tensor([0])), kind, 2).pixels, corrupted(two, kind, 2).pixels[:1])


def test_same_photograph_at_two_places_gets_other_noise(photos40):
    twice = photos40.take(torch.tensor([0, 0]))
    assert not torch.equal(*corrupted(twice, "gaussian_noise", 1).pixels)


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "impulse_noise", "contrast", "brightness", "fog"])
def test_severity_is_severe(photos40, kind):
    clean = photos40.take(torch.arange(8))
    distance = [(corrupted(clean, kind, s).pixels.float() - clean.pixels.float()).abs().mean() for s in (1, 5)]
    assert distance[1] > distance[0]


def test_kept_corruptions_are_found_again(two, tmp_path, monkeypatch):
    first = corrupted(two, "snow", 1, tmp_path)
    monkeypatch.setattr(module, "_corrupt", lambda *args: pytest.fail("drawn again"))
    assert torch.equal(corrupted(two, "snow", 1, tmp_path).pixels, first.pixels)


def test_kept_corruptions_are_kept_apart(two, photos40, tmp_path):
    corrupted(two, "fog", 1, tmp_path)
    corrupted(two, "fog", 2, tmp_path)
    corrupted(photos40.take(torch.arange(3)), "fog", 1, tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == 3


@pytest.mark.parametrize(("kind", "severity"), [("rain", 1), ("fog", 0), ("fog", 6)])
def test_unknown_corruption_names_those_there_are(two, kind, severity):
    with pytest.raises(ValueError, match=rf"'{kind}' at severity {severity}: .*jpeg_compression at 1–5"):
        corrupted(two, kind, severity)


def test_corruption_errors_average_over_severities(monkeypatch):
    monkeypatch.setattr(module, "corrupted", lambda data, kind, severity, folder: severity)
    monkeypatch.setattr(module, "top1", lambda model, severity: 1 - severity / 10)
    found = corruption_errors(nn.Identity(), numbered(1), severities=(1, 2, 5))
    assert found == dict.fromkeys(CORRUPTIONS, pytest.approx((1 + 2 + 5) / 30))


def test_mce_by_hand():
    assert mce({"fog": 0.2, "snow": 0.3}, {"fog": 0.4, "snow": 0.2}) == pytest.approx(100 * (0.5 + 1.5) / 2)


def test_mce_of_the_baseline_is_100():
    baseline = module.mce_baseline()
    assert set(baseline) == set(CORRUPTIONS)
    assert all(0 < error < 1 for error in baseline.values())
    assert mce(baseline) == pytest.approx(100)


def test_baseline_names_the_network_it_comes_from():
    found = json.loads((module.ASSETS / "mce_baseline.json").read_text())["baseline"]
    assert (found["method"], found["student"], found["seed"]) == ("plain", "resnet_s", 1000)
