"""Gains and rank correlations of made-up records."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from dadlab.tables.plots import published_measured
from dadlab.tables.summary import GAINS, gains, rank_correlations, read_records, tally, verdicts
from dadlab.tables.verdicts import FAILS, HOLDS


def row(name: str, published: float, mean: float) -> dict:
    gain = {"over": "N · a", "published": published, "mean": mean, "low": mean - 1, "high": mean + 2}
    cells = {"ImageNet": {"published": 1.0, "mean": 1.0, "gain": gain}, "C": {"published": 1.0, "gain": gain}}
    return {"row": ["N", name], "method": "kd", "cells": {**cells, "Avg": cells["ImageNet"]}}


RECORD = {
    "lower_is_better": ["C"],
    "rows": [
        {"row": ["N", "a"], "method": "plain", "cells": {"ImageNet": {"published": 5.0, "mean": 4.0}}},
        row("b", 2.0, 3.0),
        row("c", 4.0, 1.0),
    ],
    "claims": [{"claim": "b is best", "verdict": HOLDS, "comparisons": [{"second": "c", "on": "C"}]}],
}


def test_gains_turn_the_sign_where_less_is_better():
    found = gains(RECORD, "t").set_index(["row", "column"])
    assert found.loc[("b", "ImageNet"), ["published", "measured", "low", "high"]].tolist() == [2.0, 3.0, 2.0, 5.0]
    assert found.loc[("b", "C"), ["published", "measured", "low", "high"]].tolist() == [-2.0, -3.0, -5.0, -2.0]
    assert "Avg" not in found.index.get_level_values("column")
    assert gains({**RECORD, "unit": "training cost"}).empty


def test_one_seed_has_a_gain_without_an_interval():
    record = json.loads(json.dumps(RECORD))
    for row in record["rows"][1:]:
        del row["cells"]["C"]["gain"]["low"], row["cells"]["C"]["gain"]["high"]
    found = gains(record, "t").set_index(["row", "column"])
    assert found.loc[("b", "C"), "measured"] == -3.0
    assert found.loc[("b", "C"), ["low", "high"]].isna().all()
    assert published_measured(gains(record, "t")).axes


def test_rank_correlation_counts_the_reference_as_zero():
    found = rank_correlations(gains(RECORD, "t"))
    assert found.loc["t", ["methods", "columns", "rankings"]].tolist() == [2, 2, 2]
    assert found.loc["t", "rank correlation"] == pytest.approx(0.5)  # 0, 2, 4 against 0, 3, 1


def of_table(table: str, block: str, over: str, *rows: tuple[str, float, float], columns: str = "xyz") -> pd.DataFrame:
    """Gains of rows, each (run, published, measured) in every column; in the last one measured gains are turned."""
    lines = [
        (table, block, run, column, published, -gain if column == "z" else gain, 0, 0, over or f"over {run}", run)
        for run, published, gain in rows
        for column in columns
    ]
    return pd.DataFrame(lines, columns=GAINS)


ORDERED = (("a", 1.0, 1.0), ("b", 2.0, 2.0), ("c", 3.0, 3.0))


def test_rank_correlation_has_an_interval_over_columns_where_they_are_enough():
    found = rank_correlations(of_table("t", "N", "r", *ORDERED, columns="vwxyz")).loc["t"]
    assert found["rank correlation"] == pytest.approx(3 / 5)  # four times 1, and −1
    reach = 2.776 * np.std([1, 1, 1, 1, -1], ddof=1) / 5**0.5  # t of four degrees of freedom
    assert found["low"] == pytest.approx(3 / 5 - reach, abs=1e-3)
    assert found["high"] == 1
    assert (found["methods"], found["columns"], found["rankings"]) == (3, 5, 5)
    few = rank_correlations(of_table("t", "N", "r", *ORDERED, columns="wxyz")).loc["t"]
    assert few["rank correlation"] == 1 / 2
    assert np.isnan(few["low"])


def test_columns_that_agree_are_no_certainty():
    found = rank_correlations(of_table("t", "N", "r", *ORDERED, columns="abcxy")).loc["t"]
    assert found["rank correlation"] == 1
    assert np.isnan(found["low"])


def test_the_order_of_tables_does_not_count():
    first, again = of_table("t", "N", "r", *ORDERED), of_table("u", "", "r", *ORDERED[:2], ("d", 9.0, 1.5))
    one, other = (rank_correlations(pd.concat(pair)).loc["all"] for pair in ((first, again), (again, first)))
    assert one["rank correlation"] == pytest.approx(other["rank correlation"])
    assert (one["methods"], one["rankings"]) == (4, 6)


def test_methods_are_ranked_within_a_table_alone():
    """Another table's gains, of other sizes, leave the order as it is: 1 in each, and 1 in all."""
    small = of_table("t", "N", "r", *ORDERED, columns="xy")
    large = of_table("u", "N", "r", ("d", 10.0, 0.1), ("e", 20.0, 0.2), columns="xy")
    assert rank_correlations(pd.concat([small, large]))["rank correlation"].tolist() == [1, 1, 1]


def test_blocks_are_averaged_before_columns_are():
    """Two blocks have x, of ρ 1 and −1, one has y, of ρ 1."""
    turned = [("d", 1.0, -1.0), ("e", 2.0, -2.0)]
    found = [of_table("t", "N", "r", *ORDERED, columns="xy"), of_table("t", "M", "r", *turned, columns="x")]
    assert rank_correlations(pd.concat(found)).loc["t", "rank correlation"] == pytest.approx((0 + 1) / 2)


def test_a_single_seed_is_not_ranked():
    found = of_table("t", "N", "r", *ORDERED)
    found.loc[found["row"] == "c", ["low", "high"]] = np.nan
    assert rank_correlations(found).loc["t", "methods"] == 2


def test_published_numbers_may_speak_against_a_sentence():
    rows = [{"row": ["N", name], "cells": {"C": {"published": value}}} for name, value in (("a", 5.0), ("b", 3.0))]
    rows += [{"row": ["N", "c"], "cells": {"C": {"published": None}}}]
    shared = {"on": "C", "level": 0.95, "scale": 100.0, "would_tell": "", "effect": {"mean": 1.0}, "verdict": "x"}
    claims = [("N · a", "N · b", 0.0), ("N · b", "N · a", 0.0), ("N · b", "N · a", -3.0), ("N · c", "N · a", 0.0)]
    claims += [("N · a − N · b", "N · a", 0.0), ("N · b", "N · a", 0.0)]
    said = [
        {"claim": str(k), "verdict": "x", "comparisons": [{**shared, "first": first, "second": second, "above": above}]}
        for k, (first, second, above) in enumerate(claims)
    ]
    del said[5]["comparisons"][0]["effect"]  # not measured here
    found = verdicts({"t": {"rows": rows, "claims": said}})
    assert found["against"].tolist() == [False, True, False, False, True, True]


@pytest.mark.parametrize(
    ("first", "second", "edge", "against"),
    [
        ("a", "b", "below", True),
        ("b", "a", "below", False),  # less is better, as 3 is
        ("a", "a", "below", True),
        ("a", "a", "above", True),
    ],
)
def test_published_numbers_that_are_alike_are_neither_less_nor_more(first, second, edge, against):
    rows = [{"row": [name], "cells": {"C": {"published": value}}} for name, value in (("a", 5.0), ("b", 3.0))]
    claim = {"claim": "", "verdict": "", "comparisons": [{"first": first, "second": second, "on": "C", edge: 0.0}]}
    assert verdicts({"t": {"rows": rows, "claims": [claim]}})["against"].tolist() == [against]


def test_a_sentence_that_says_some_is_spoken_against_by_all_of_its_comparisons_alone():
    rows = [{"row": [name], "cells": {"A": {"published": value}}} for name, value in (("a", 5.0), ("b", 3.0))]
    both = [{"first": first, "second": second, "on": "A", "above": 0.0} for first, second in (("a", "b"), ("b", "a"))]
    said = [(some, part) for some in (False, True) for part in (both, both[1:])]
    claims = [{"claim": "c", "verdict": "x", "some": some, "comparisons": part} for some, part in said]
    claims += [{**claims[-1], "comparisons": []}]  # all of it left out
    assert verdicts({"t": {"rows": rows, "claims": claims}})["against"].tolist() == [True, True, False, True, False]


def test_what_is_our_own_is_not_counted_with_the_papers_claims():
    said = [{"claim": "c", "verdict": verdict, "ours": ours, "comparisons": []} for verdict, ours in
            ((HOLDS, True), (HOLDS, False), (FAILS, True))]  # fmt: skip
    counts = tally({"t": {"rows": [], "claims": said}})
    assert counts.loc["t", ["claims", HOLDS, FAILS]].tolist() == [1, 1, 0]


def test_rows_over_references_of_their_own_are_not_ranked():
    """Table 8's students, each over itself without a teacher, are no methods."""
    found = rank_correlations(of_table("t", "distilled", "", *ORDERED))
    assert found["rankings"].tolist() == [0, 0]
    assert found["rank correlation"].isna().all()


def test_nothing_measured_has_no_correlation():
    found = rank_correlations(gains({"rows": []}))
    assert np.isnan(found.loc["all", "rank correlation"])
    assert published_measured(gains({"rows": []})).axes


def test_records_are_read_in_order_and_their_verdicts_listed(tmp_path):
    for name in ("table_02", "table_01", "other"):
        (tmp_path / f"{name}.json").write_text(json.dumps(RECORD))
    records = read_records(tmp_path)
    assert list(records) == ["table_01", "table_02"]
    said = verdicts(records)
    assert said["claim"].tolist() == ["b is best"] * 2
    assert [[found["second"] for found in listed] for listed in said["comparisons"]] == [["c"], ["c"]]


def test_comparisons_know_which_way_is_better():
    facts = {"second": "-", "effect": {"mean": -4.26, "low": -7.1, "high": 1.94}}
    compared = [
        {**facts, "first": "RN34 + DAT", "on": "C", "above": 0.0},
        {**facts, "first": "RN50 + DAT", "on": "Sketch", "above": 0.0},
        {**facts, "first": "DAD", "on": "cosine", "below": 0.0},
        {"first": "DrViT", "second": "-", "on": "Sketch", "above": 0.0, "verdict": "not measured"},
    ]
    record = {"lower_is_better": ["C"], "claims": [{"claim": "c", "verdict": "x", "comparisons": compared}]}
    (found,) = verdicts({"table_05": record})["comparisons"]
    assert found == [{**entry, "lower": entry["on"] != "Sketch"} for entry in compared]


def test_scatter_has_a_mark_for_every_column():
    figure = published_measured(gains(RECORD, "t"))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["ImageNet", "C"]
