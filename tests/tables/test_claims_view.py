"""Claims as HTML: sentences, verdicts, and intervals drawn to scale."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from dadlab.tables.claims_view import STYLE, claims_html, claims_view, difference, interval
from dadlab.tables.sentences import NOT_MEASURED
from dadlab.tables.summary import AGAINST
from dadlab.tables.verdicts import HOLDS, OPEN

FACTS = {"first": "a", "second": "-", "on": "Sketch", "above": 0.0, "level": 0.995, "scale": 100.0, "would_tell": ""}


def compared(mean: float, low: float, high: float, verdict: str = OPEN, **facts: Any) -> dict[str, Any]:
    return {**FACTS, "effect": {"mean": mean, "low": low, "high": high}, "verdict": verdict, **facts}


def claim(*comparisons: dict[str, Any], verdict: str = OPEN, **facts: Any) -> dict[str, Any]:
    return {"claim": "a <is> best", "verdict": verdict, "comparisons": list(comparisons), **facts}


def shapes(drawn: str, tag: str) -> list[dict[str, float]]:
    found = re.findall(rf"<{tag} ([^>]*)>", drawn)
    return [{name: float(value) for name, value in re.findall(r"(\w+)=([\d.-]+)", text)} for text in found]


def lines_of(part: str) -> list[list[str]]:
    """Texts of each comparison's cells, without what is drawn."""
    rows = [re.sub(r"<svg.*?</svg>", "", row).split("<td")[1:] for row in part.split("<tr>")[1:]]
    return [[html.unescape(re.sub(r"^[^>]*>|<.*", "", cell)) for cell in row] for row in rows]


def test_an_interval_is_drawn_to_scale_and_what_is_claimed_is_shaded():
    drawn = interval(compared(5.0, 0.0, 10.0), reach=10.0)
    (shade,), (zero, whole), (mean,) = (shapes(drawn, tag) for tag in ("rect", "line", "circle"))
    assert (zero["x1"], whole["x1"], whole["x2"], mean["cx"]) == (90.0, 90.0, 180.0, 135.0)
    assert (shade["x"], shade["width"]) == (90.0, 90.0)


@pytest.mark.parametrize(
    ("edges", "shaded"),
    [({"above": -1.0}, (81.0, 99.0)), ({"below": 0.0}, (0.0, 90.0)), ({"above": -2.0, "below": 2.0}, (72.0, 36.0))],
)
def test_the_shaded_range_is_the_claimed_one(edges, shaded):
    found = {key: value for key, value in compared(1.0, 0.0, 2.0).items() if key != "above"} | edges
    (shade,) = shapes(interval(found, reach=10.0), "rect")
    assert (shade["x"], shade["width"]) == shaded


def test_intervals_of_a_claim_share_one_scale():
    part = claims_html({"claims": [claim(compared(1.0, 0.0, 2.0), compared(10.0, 5.0, 20.0))]})
    first, second = (line for line in shapes(part, "line") if "y1" in line)
    assert second["x2"] < 180.0
    assert (second["x2"] - second["x1"]) / (first["x2"] - first["x1"]) == pytest.approx(7.5, rel=0.02)


def test_comparisons_say_rows_column_figures_and_what_would_tell():
    one_seed = compared(-4.26, -7.1, 1.94, seeds=1, on="C", would_tell="9 seeds")
    measure = compared(-0.426, -0.71, 0.194, first="RN34 · b", second="RN34 · -", scale=1.0, on="cosine")
    missing = {"first": "d", "second": "-", "on": "Sketch", "above": 0.0, "verdict": NOT_MEASURED}
    record = {"lower_is_better": ["C"], "claims": [claim(one_seed, measure, missing)]}
    assert lines_of(claims_html(record)) == [
        ["a − none", "C ↓", "", "-4.3 [-7.1, +1.9] (one seed, images alone)", "9 seeds would tell"],
        ["RN34: b − none", "cosine", "", "-0.426 [-0.710, +0.194]", ""],
        ["d − none", "Sketch", "", NOT_MEASURED, ""],
    ]
    assert lines_of(claims_html({"claims": [claim(missing)]})) == []


def test_what_has_no_interval_is_not_drawn():
    number = {**compared(0, 0, 0), "effect": {"mean": 2.5}}
    nothing = {**compared(0, 0, 0), "effect": {}}
    part = claims_html({"claims": [claim(compared(1.0, 0.5, 2.0), number, nothing)]})
    assert [line[3] for line in lines_of(part)] == ["+1.0 [+0.5, +2.0]", "+2.5", "—"]
    assert part.count("<svg") == 1


def test_a_claim_says_its_verdict_and_the_level_of_its_intervals():
    record = {"claims": [claim(compared(1.0, 0.5, 2.0, HOLDS), verdict=HOLDS)]}
    part = claims_html(record)
    assert "a &lt;is&gt; best<span class='verdict holds'>holds</span>" in part
    assert "intervals at 99.5 %, for 10 comparisons; shaded" in part
    assert claims_view(record).data == f"<style>{STYLE}</style>{part}"


def test_what_the_papers_numbers_speak_against_says_so_even_if_it_was_not_measured():
    rows = [{"row": [name], "cells": {"C": {"published": value}}} for name, value in (("a", 1.0), ("b", 3.0))]
    missing = {"first": "a", "second": "b", "on": "C", "above": 0.0}
    part = claims_html({"rows": rows, "claims": [claim(missing, verdict=NOT_MEASURED)]})
    assert html.escape(AGAINST) in part
    assert "class='verdict not-measured'" in part
    assert "intervals at" not in part


def test_nothing_is_said_of_a_record_without_claims():
    assert claims_html({}) == ""


def test_gains_are_not_shortened_and_neither_are_rows_of_two_blocks():
    assert difference("RN34 · a", "RN50 · a") == "RN34 · a − RN50 · a"
    assert difference("RN34 · a − RN34 · b", "RN34 · c").startswith("(RN34 · a − RN34 · b) − ")
