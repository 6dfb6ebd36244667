import math

import numpy as np
import pytest

from dadlab.estimates import Components, Estimate, accuracy, components, difference, rounded

RIGHT, WRONG = np.ones((5, 200), bool), np.zeros((5, 200), bool)


def noisy(share: float, seed: int, shape: tuple[int, int] = (5, 400)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


UNSEEN = 1 - 0.025 ** (1 / 200)  # 1.83 %: of so large a share 200 images show nothing in one case of forty


@pytest.mark.parametrize(
    ("first", "second", "expected", "below", "above"),
    [
        (RIGHT, RIGHT, 0, 1, 1),
        (RIGHT, WRONG, 100, 2, 0),  # what was not seen may be −1
        (WRONG, RIGHT, -100, 0, 2),
        (WRONG - 0.5, WRONG, -50, 1.5, 1.5),  # a gain of a gain: each between −1 and 1, so that −2 … 1 is left
    ],
)
def test_constant_differences_are_as_certain_as_so_many_images_make_them(first, second, expected, below, above):
    found = difference(first, second)
    assert found.mean == expected
    assert (found.low, found.high) == pytest.approx(
        (expected - 100 * UNSEEN * below, expected + 100 * UNSEEN * above), abs=1e-9
    )


def test_none_right_of_fifty_is_compatible_with_seven_per_cent():
    found = accuracy(np.zeros((5, 50), bool))  # Clopper & Pearson: 0 of 50 is [0, 7.11] %
    assert (found.mean, found.low, found.high) == pytest.approx((0, 0, 7.11), abs=0.005)
    assert accuracy(np.zeros((5, 50)), level=0.99).high > found.high


@pytest.mark.parametrize("values", [np.array([[1.29]]), np.full((5, 1), 0.3), np.full((5, 50), 1.3)])
def test_where_no_variance_can_be_seen_there_is_no_interval(values):
    found = accuracy(values)
    assert (math.isnan(found.low), math.isnan(found.high)) == (True, True)
    assert str(found) == f"{100 * values.flat[0]:+.1f}"
    assert rounded(found) == {"mean": round(100 * values.flat[0], 2)}


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
    assert found.high - found.low == pytest.approx(2 * 1.96 * 100 * 0.5 / 2000**0.5, rel=0.002)


def test_interval_of_differing_seeds_has_the_textbook_width():
    """All images alike within a seed: Student's t of the seeds' means, 2.776 for five."""
    found = accuracy(np.repeat([[0.0], [1.0], [2.0], [3.0], [4.0]], 50, axis=1), scale=1)
    assert (found.low, found.high) == pytest.approx((2 - 2.776 * 0.5**0.5, 2 + 2.776 * 0.5**0.5), abs=1e-3)


COVERED = {"seeds differ": (0.03, 0.1, 0.3), "images differ": (0.002, 0.35, 0.3), "both": (0.012, 0.25, 0.3)}


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spread", COVERED.values(), ids=COVERED)
def test_interval_covers_the_truth_as_often_as_it_says(spread, seeds):
    """Of 600 draws, 570 are to be covered; 15.5 fewer are three standard deviations."""
    rng = np.random.default_rng(seeds)
    covered = 0
    for _ in range(600):
        of_seeds, of_images, rest = (
            rng.normal(0, sigma, shape)
            for sigma, shape in zip(spread, [(seeds, 1), (1, 150), (seeds, 150)], strict=True)
        )
        found = accuracy(of_seeds + of_images + rest)
        covered += found.low <= 0 <= found.high
    assert 570 - 15.5 <= covered <= 594


def test_components_are_those_the_values_were_made_of():
    rng = np.random.default_rng(0)
    seeds, images = rng.normal(0, 3, (300, 1)), rng.normal(0, 2, (1, 500))
    found = components(seeds + images + rng.normal(0, 5, (300, 500)))
    assert (found.seeds, found.images, found.rest) == pytest.approx((9, 4, 25), rel=0.2)


def test_error_of_a_mean_by_hand():
    """σ_s² / S + σ_i² / N + σ² / SN: each component once. Of ten seeds alone the degrees of freedom are nine."""
    error, _ = Components(seeds=1.0, images=4.0, rest=25.0).spread(5, 100)
    assert error**2 == pytest.approx(1 / 5 + 4 / 100 + 25 / 500)
    assert Components(0.0, 0.0, 4.0).spread(4, 25)[0] == pytest.approx(0.2)
    assert Components(1.0, 0.0, 0.0).spread(10, 50) == pytest.approx((0.1**0.5, 9))


def test_a_wider_level_gives_a_wider_interval():
    narrow, wide = (difference(noisy(0.7, 0), noisy(0.5, 1), level=level) for level in (0.95, 0.999))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_pairing_narrows_the_interval():
    hard = np.random.default_rng(0).random(400)
    first, second = (np.tile(hard < share, (5, 1)) for share in (0.6, 0.5))
    paired = difference(first, second)
    unpaired = difference(first, np.roll(second, 37, axis=1))
    assert paired.high - paired.low < unpaired.high - unpaired.low


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
