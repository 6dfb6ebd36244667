import numpy as np
import pytest

from dadlab.estimates import Estimate, accuracy, difference

RIGHT, WRONG = np.ones((5, 200), bool), np.zeros((5, 200), bool)


def noisy(share: float, seed: int, shape: tuple[int, int] = (5, 400)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(RIGHT, RIGHT, 0.0), (noisy(0.5, 0), noisy(0.5, 0), 0.0), (RIGHT, WRONG, 100.0), (WRONG, RIGHT, -100.0)],
)
def test_constant_differences_are_certain(first, second, expected):
    found = difference(first, second)
    assert (found.mean, found.low, found.high) == pytest.approx((expected,) * 3)


@pytest.mark.parametrize("seed", range(5))
def test_interval_contains_the_mean(seed):
    first, second = noisy(0.7, seed), noisy(0.5, seed + 100)
    found = difference(first, second)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(100 * (first.mean() - second.mean()))


def test_difference_changes_sign_with_its_order():
    one, other = difference(noisy(0.7, 0), noisy(0.5, 1)), difference(noisy(0.5, 1), noisy(0.7, 0))
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))


def test_interval_of_independent_images_has_the_textbook_width():
    """One seed, N independent images: ±1.96 standard errors."""
    found = accuracy(noisy(0.5, 0, (1, 2000)))
    assert found.high - found.low == pytest.approx(2 * 1.96 * 100 * 0.5 / 2000**0.5, rel=0.06)


def test_interval_of_differing_seeds_has_the_textbook_width():
    """All images alike within a seed: only seeds vary."""
    values = np.repeat(np.arange(20)[:, None] % 2, 50, axis=1).astype(float)
    found = accuracy(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 100 * 0.5 / 20**0.5, rel=0.15)


def test_pairing_narrows_the_interval():
    hard = np.random.default_rng(0).random(400)
    first, second = (np.tile(hard < share, (5, 1)) for share in (0.6, 0.5))
    paired = difference(first, second)
    unpaired = difference(first, np.roll(second, 37, axis=1))
    assert paired.high - paired.low < unpaired.high - unpaired.low


def test_bootstrap_can_be_repeated():
    assert difference(noisy(0.7, 0), noisy(0.5, 1)) == difference(noisy(0.7, 0), noisy(0.5, 1))


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [((5, 10), (5, 11), r"\(5, 10\) and \(5, 11\)"), ((4, 10), (5, 10), r"\(4, 10\)"), ((10,), (10,), r"\(10,\)")],
)
def test_bad_shapes_are_named(first, second, named):
    with pytest.raises(ValueError, match=rf"\(seeds, images\), got .*{named}"):
        difference(np.zeros(first), np.zeros(second))


def test_estimate_reads_as_a_table_wants_it():
    assert str(Estimate(1.24, -0.06, 2.55)) == "+1.2 [-0.1, +2.5]"


def test_one_seed_may_be_a_vector():
    assert accuracy(np.array([True, False, True, True])).mean == 75.0
