"""The theory's quantities by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dadlab.tables import theory

W = {("p", "p"): 0.3, ("p", "near"): 0.1, ("p", "far"): 2.0, ("near", "far"): 1.5}
RISKS = {"p": 0.1, "near": 0.3, "far": 0.6}


def test_distances_of_sets_and_balls():
    assert theory.set_distance("p", ["near", "far"], W) == pytest.approx(1.05)
    assert theory.within("p", 0.5, W) == ["p", "near"]
    assert theory.expected_risk(RISKS, ["p", "near"]) == pytest.approx(0.2)
    assert theory.worst_risk(RISKS, ["p", "near", "far"]) == 0.6


def test_risks_of_balls_grow_from_the_nearest_distribution_to_the_farthest():
    found = theory.risks_within({"kd": RISKS, "dad": {"p": 0.2, "near": 0.1, "far": 0.3}}, "p", W)
    assert found["method"].tolist() == ["kd"] * 3 + ["dad"] * 3
    assert found["ε"].tolist() == [0.0, 0.1, 2.0] * 2
    assert found["distributions"].tolist() == [1, 2, 3] * 2
    assert found["r(P, ε)"].tolist() == pytest.approx([0.1, 0.2, 1 / 3, 0.2, 0.15, 0.2])
    assert found["r_worst(P, ε)"].tolist() == [0.1, 0.3, 0.6, 0.2, 0.2, 0.3]


def test_w1_is_symmetric_and_that_of_a_translation():
    x = np.random.default_rng(0).normal(size=(20, 2))
    assert theory.w1(x, x + np.array([3.0, 4.0])) == pytest.approx(5.0)
    assert theory.w1(x, x[:7]) == pytest.approx(theory.w1(x[:7], x))


def test_xi_shrinks_with_samples_and_grows_with_hypotheses():
    assert theory.xi(30, 4000) == pytest.approx(theory.xi(30, 1000) / 2)
    assert theory.xi(31, 1000) > theory.xi(30, 1000)
    with pytest.raises(ValueError, match="β"):
        theory.xi(1, 10, probability=0)


def test_bounds_say_whether_they_hold_and_whether_they_say_anything():
    found = theory.risk_bounds(RISKS, "p", W, empirical=0.05, slack=0.02)
    assert found.loc["near"].tolist() == pytest.approx([0.3, 0.1, 0.2, False, True, 0.17, False, True])
    told = ["3.1 holds", "3.1 informative", "3.2 holds", "3.2 informative"]
    assert found.loc["far", told].tolist() == [True, False, True, False]
    lucky = theory.risk_bounds(RISKS, "p", W, empirical=0.3, slack=0.02)
    assert lucky.loc["near", told].tolist() == [False, True, True, True]
    edge = theory.risk_bounds({"p": 0.5, "q": 1.0}, "p", {("p", "q"): 0.5}, empirical=0.5, slack=0.0)
    assert edge.loc["q", told].tolist() == [True, False, True, False]  # that a risk is at most 1 says nothing


def test_examples_within_the_radius_are_within_it_on_average():
    start = np.zeros((4, 2))
    found = theory.lemma_3(start, start + np.array([[3.0, 4.0]]), 5.0)
    assert found == {"w(P, P*)": pytest.approx(5.0), "mean ‖x − x*‖": pytest.approx(5.0), "ε": 5.0, "holds": True}
    swapped = theory.lemma_3(np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]]), 0.1)
    assert (swapped["w(P, P*)"], swapped["mean ‖x − x*‖"], swapped["holds"]) == (0.0, 1.0, True)
