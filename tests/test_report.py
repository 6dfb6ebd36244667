import re
from dataclasses import asdict

import pytest

from dadlab.estimates import Estimate
from dadlab.files import ROOT
from dadlab.profile import make_profile
from dadlab.report import (
    FINDINGS,
    README,
    beside,
    claims_in_short,
    gain_figure,
    markdown_claims,
    markdown_differences,
    markdown_methods,
    markdown_table,
    page_parts,
    update_page,
)
from dadlab.tables.sentences import LATER
from dadlab.tables.summary import AGAINST, VERDICTS

RESULTS = {
    "rows": [{"method": "kd", "split": "sketch", "n": 2000, "top1": {"mean": 50.0, "low": 48.0, "high": 52.0}}],
    "differences": [{"first": "dad", "second": "kd", "split": "sketch", "mean": 3.0, "low": 1.0, "high": 5.0}],
    "mce": {"kd": {"mean": 85.0, "low": 83.0, "high": 87.0}},
}


def test_table_shows_mean_half_interval_and_mce():
    assert "| KD | 50.0 ± 2.0 | 85.0 ± 2.0 |" in markdown_table(RESULTS)


def test_an_ablation_stands_beside_the_main_result():
    rows = [{**RESULTS["rows"][0], "method": method} for method in ("kd", "dad")]
    ablation = {**RESULTS, "rows": rows, "mce": {m: {"mean": 70.0, "low": 69.0, "high": 71.0} for m in ("kd", "dad")}}
    ablation["differences"] = [*RESULTS["differences"], {**RESULTS["differences"][0], "first": "plain"}]
    found = beside(RESULTS, ablation, "dad", "DAD, broad")
    assert [d["first"] for d in found["differences"]] == ["dad", "DAD, broad"]
    assert "| KD | 50.0 ± 2.0 | 85.0 ± 2.0 |\n| DAD, broad | 50.0 ± 2.0 | 70.0 ± 1.0 |" in markdown_table(found)
    assert "| DAD, broad − KD | +3.0 [+1.0, +5.0] |" in markdown_differences(found, ["sketch"])


def test_methods_stand_side_by_side_the_best_first():
    means = {"kd": 50.0, "dad": 53.0, "at": 20.0}
    rows = [
        {**RESULTS["rows"][0], "method": m, "top1": {"mean": v, "low": v - 2, "high": v + 2}} for m, v in means.items()
    ]
    errors = dict.fromkeys(means, RESULTS["mce"]["kd"])
    results = {**RESULTS, "rows": rows, "corruption_error": errors, "profile": asdict(make_profile())}
    results["differences"] = [*RESULTS["differences"], {**RESULTS["differences"][0], "split": "studio", "mean": 9.0}]
    assert [line[:7] for line in markdown_methods(results, ["sketch"], ["at", "kd"]).splitlines()[2:]] == [
        "| KD | ",
        "| Adver",
    ]
    assert markdown_methods(results, ["sketch"]).splitlines()[2:] == [
        "| DAD | 2 | 53.0 ± 2.0 | 85.0 ± 2.0 | — |",
        "| KD | 1 | 50.0 ± 2.0 | 85.0 ± 2.0 | +3.0 [+1.0, +5.0] |",
        "| Adversarial training | 11 | 20.0 ± 2.0 | 85.0 ± 2.0 | — |",
    ]


def test_what_survives_the_correction_is_bold():
    (one,) = RESULTS["differences"]
    bare = {key: value for key, value in one.items() if key not in ("low", "high")}
    assert "| +3.0 |" in markdown_differences({"differences": [{**bare, "corrected": [None, None]}]}, ["sketch"])
    for ends, told in (([-0.5, 6.5], "| +3.0 [+1.0, +5.0] |"), ([0.5, 5.5], "| **+3.0 [+1.0, +5.0]** |")):
        assert told in markdown_differences({"differences": [{**one, "corrected": ends}]}, ["sketch"])


def test_gains_over_kd_are_drawn_on_single_splits_with_what_plain_loses_there(monkeypatch):
    """Not those over other methods, and not on two splits together."""
    drawn = {}
    monkeypatch.setattr("dadlab.plots.gains", lambda found, drop: drawn.update(found=found, drop=drop))
    top1 = {("plain", "studio"): 80.0, ("plain", "sketch"): 30.0, ("plain", "v2+sketch"): 50.0, ("kd", "sketch"): 40.0}
    rows = [{"method": m, "split": s, "n": 9, "top1": {"mean": mean}} for (m, s), mean in top1.items()]
    gain = {"first": "dad", "second": "kd", "split": "sketch", "mean": 3.0, "low": 1.0, "high": 6.0}
    others = [{**gain, "second": "plain", "mean": 9.0}, {**gain, "split": "v2+sketch"}]
    gain_figure({"rows": rows, "differences": [gain, *others]})
    assert drawn == {"found": {"dad": {"sketch": Estimate(3.0, 1.0, 6.0)}}, "drop": {"studio": 0.0, "sketch": 50.0}}


def test_readme_keeps_what_stands_around_the_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(
        "a\n<!-- results:begin -->\nold\n<!-- results:end -->\nb\n<!-- claims:begin -->\n<!-- claims:end -->\n"
    )
    update_page(readme, "results", markdown_differences(RESULTS, ["sketch"]))
    text = readme.read_text()
    assert text.startswith("a\n<!-- results:begin -->\n\n| difference, points | sketch |\n")
    assert text.endswith("<!-- results:end -->\nb\n<!-- claims:begin -->\n<!-- claims:end -->\n")
    assert "old" not in text
    assert "| DAD − KD | +3.0 [+1.0, +5.0] |" in text


def test_missing_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    with pytest.raises(ValueError, match="claims:begin"):
        update_page(readme, "claims", "text")


def test_claims_are_counted_by_table_and_those_that_are_told_are_named():
    said = [{"claim": f"{verdict} {n}", "verdict": verdict, "comparisons": []} for n, verdict in enumerate(VERDICTS)]
    said.append({"claim": "ours", "ours": True, "verdict": VERDICTS[0], "comparisons": []})
    records = {"table_02": {"rows": [], "claims": said[:2]}, "table_11": {"rows": [], "claims": said}}
    lines = markdown_claims(records).splitlines()
    assert lines[0] == (
        "| table | claims | holds | does not hold | cannot be told at this scale | not measured | cannot be made here "
        "| rank correlation |"
    )
    assert lines[2:5] == [
        "| Table 2 | 2 | 1 | 1 | 0 | 0 | 0 | — |",
        "| Table 11 | 5 | 1 | 1 | 1 | 1 | 1 | — |",
        "| All | 7 | 2 | 2 | 1 | 1 | 1 | — |",
    ]
    assert lines[6:9] == ["What holds here:", "", "- Table 2: holds 0."]
    assert lines[-2:] == ["- Table 2: does not hold 1.", "- Table 11: does not hold 1."]


def test_claims_in_short_leave_ours_out():
    said = [{"claim": f"{n}{LATER * (n == 1)}", "verdict": VERDICTS[n // 2], "comparisons": []} for n in range(5)]
    said.append({"claim": "ours", "ours": True, "verdict": VERDICTS[0], "comparisons": []})
    told = claims_in_short({"table_02": {"rows": [], "claims": said}})
    assert told == (
        "Of 5 claims that the first paper makes of its tables 2 hold here, 2 do not, and 1 cannot be told at this "
        "scale. Before its table's results were known, 1 of those that hold and 2 of those that do not had been "
        "listed.\n"
    )


def test_claims_in_short_name_what_is_not_measured_and_what_cannot_be_made():
    said = [{"claim": str(n), "verdict": VERDICTS[n], "comparisons": []} for n in (0, 3, 4, 4)]
    told = claims_in_short({"table_02": {"rows": [], "claims": said}})
    assert told.startswith(
        "Of 4 claims that the first paper makes of its tables 1 hold here, 0 do not, 0 cannot be told at this scale, "
        "1 are not measured, and 2 cannot be made here. "
    )


def test_what_the_papers_own_numbers_speak_against_says_so():
    rows = [{"row": [name], "cells": {"A": {"published": value}}} for name, value in (("a", 3.0), ("b", 5.0))]
    compared = {"first": "a", "second": "b", "on": "A", "above": 0.0}
    record = {"rows": rows, "claims": [{"claim": "a is best", "verdict": VERDICTS[0], "comparisons": [compared]}]}
    assert f"- Table 1: a is best{AGAINST}." in markdown_claims({"table_01": record})


@pytest.mark.parametrize(
    ("page", "place"),
    [(README, "results"), (README, "claims"), (FINDINGS, "results"), (FINDINGS, "methods"), (FINDINGS, "claims")],
)
def test_pages_say_what_the_records_say(page, place, tmp_path):
    written, copied = ROOT / page, tmp_path / "page.md"
    copied.write_text(written.read_text())
    update_page(copied, place, page_parts(ROOT / "papers/dad/results")[page, place])
    assert copied.read_text() == written.read_text(), "python -m dadlab.report renews it"


def test_readme_links_to_pages_that_are_there():
    named = set(re.findall(r"`(papers/[A-Z]+\.md)`", (ROOT / README).read_text()))
    assert {FINDINGS, "papers/DEPARTURES.md", "papers/LOG.md"} <= named
    assert all((ROOT / page).is_file() for page in named)
