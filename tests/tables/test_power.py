import math

import numpy as np

from dadlab.estimates import Components, components, difference
from dadlab.tables.power import _fewest, _reach, would_tell


def told(values: np.ndarray, above: float = 0, below: float = math.inf) -> str:
    return would_tell(values, difference(values, 0 * values, scale=1), above=above, below=below, level=0.95)


def test_number_of_seeds_that_would_tell_by_hand():
    """Images alike, two seeds at 0 and 2 points: σ_s² = 2; (t₁₇ + 0.84) √(2 / 18) = 0.98, but 1.02 with 17."""
    values = np.repeat([[0.0], [2.0]], 50, axis=1)
    assert told(values) == "18 seeds"
    assert told(values, above=-50, below=2) == told(values, below=50) == "18 seeds"  # the nearer edge counts


def test_where_images_are_too_few_more_images_are_asked_for():
    values = np.tile(np.array([-99.0, 101.0] * 50), (3, 1))  # seeds alike: no number of them helps
    assert told(values) == "79,284 images"  # 10,101 · 2.8016² / 1², and t


def test_an_effect_on_the_edge_cannot_be_told_by_any_number():
    values = np.tile(np.array([-100.0, 100.0] * 50), (3, 1))
    assert "edge" in told(values)


def test_fewer_images_can_tell_what_many_cannot():
    """A few seeds and many images leave the degrees of freedom of the seeds: t of 3, at a level of 0.995, is 7.5."""
    parts = Components(seeds=1.0, images=400.0, rest=400.0)
    reach = {n: _reach(parts, 4, n, 0.995) for n in (100, 2000, 10**7)}
    assert reach[2000] < reach[10**7] < reach[100]
    edge = (reach[2000] + reach[10**7]) / 2
    needed = _fewest(101, lambda n: _reach(parts, 4, n, 0.995) <= edge)
    assert 100 < needed < 2000
    assert _reach(parts, 4, needed, 0.995) <= edge < _reach(parts, 4, needed - 1, 0.995)


def test_where_neither_seeds_nor_images_tell_alone_both_are_named():
    """σ² of 1 for seeds and of 4 for images, effect 0.2: the mean of 10 images, or of 5 seeds, varies too much."""
    rng = np.random.default_rng(0)
    seeds, images = rng.normal(size=(5, 1)), 2 * rng.normal(size=(1, 10))
    values = 0.2 + seeds - seeds.mean() + images - images.mean() + 0.1 * (rng.random((5, 10)) - 0.5)
    words = told(values).split()
    assert (words[1:3], words[4]) == (["seeds", "and"], "images")
    number, photographs = (int(words[place].replace(",", "")) for place in (0, 3))
    assert photographs == 2 * number
    mean = float(values.mean())
    assert _reach(components(values), number, photographs, 0.95) <= mean
    assert _reach(components(values), number - 1, photographs - 2, 0.95) > mean
