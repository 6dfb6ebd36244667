import json

import numpy as np
import pytest

from benchmarks.interval_coverage import SEEDS, SPREADS, bootstrap, coverage, main


def test_bootstrap_of_many_alike_has_the_textbook_width():
    values = np.random.default_rng(0).normal(size=(1, 2000))
    low, high = bootstrap(values, np.random.default_rng(1))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.1)


def test_a_bootstrap_of_three_seeds_is_too_narrow_where_they_differ():
    """Of 200 draws 190 are to be covered; 181 are three standard deviations fewer."""
    found = coverage(SPREADS["seeds alone differ"], 3, 20, 200)
    assert found["percentile bootstrap"] < 90.5 <= found["Student's t"]


def test_the_result_says_how_it_was_made(tmp_path):
    out = tmp_path / "coverage.json"
    assert main(["--images", "10", "--draws", "2", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["command"].startswith("python -m benchmarks.interval_coverage --images 10")
    assert len(found["covered, %"]) == len(SPREADS) * len(SEEDS)
