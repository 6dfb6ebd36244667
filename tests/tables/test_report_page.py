"""The report: every claim, number and picture with its record, and what there is not."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dadlab.files import ROOT
from dadlab.tables import report_page
from dadlab.tables.overnight import RECORDS, REPORT
from dadlab.tables.report_page import FIGURE_NAMES, TABLE_NAMES, write_page
from dadlab.tables.sentences import NOT_MEASURED
from dadlab.tables.summary import AGAINST, VERDICTS
from dadlab.tables.verdicts import HOLDS

FACTS = {"profile": {"data": "fashion"}, "commit": "abc1234", "machine": "a <test>", "seeds": [0], "title": "T"}
# In alphabetical order, as a record's file has them: the published table begins with ImageNet, V2, C.
PRINTED = {"A": (16.0, 27.3), "C": (50.0, 45.5), "ImageNet": (78.6, 61.1), "V2": (67.2, 52.4)}


def cell(printed: float, mean: float, gain: float | None = None) -> dict[str, Any]:
    found = {"published": printed, "mean": mean, "low": mean - 1, "high": mean + 1}
    told = (
        {"over": "KD", "published": gain, "mean": gain, "low": gain - 1, "high": gain + 1} if gain is not None else {}
    )
    return {**found, "gain": told} if told else found


def table_3() -> dict[str, Any]:
    """KD, and three rows that are better than the one before: less for C, more for the others."""
    rows = []
    for place, name in enumerate(("KD", "DIST", "ARD", "DAD (Ours)")):
        sign = {column: -1 if column == "C" else 1 for column in PRINTED}
        cells = {
            c: cell(p + sign[c] * place, m + sign[c] * place, sign[c] * place if place else None)
            for c, (p, m) in PRINTED.items()
        }
        rows.append(
            {"row": [name], "runs": {"0": f"{name}-x"}, "missing": "", "what": "kd, augreg <medium1>", "cells": cells}
        )
    compared = {"first": "DAD (Ours)", "second": "KD", "on": "C", "below": 0.0, "level": 0.9975, "scale": 100.0}
    compared |= {"effect": {"mean": -3.0, "low": -4.0, "high": -2.0}, "would_tell": "", "verdict": HOLDS}
    claims = [{"claim": "b is best", "verdict": HOLDS, "comparisons": [compared]}]
    claims += [{"claim": "never <seen>", "verdict": NOT_MEASURED, "comparisons": []}]
    return {**FACTS, "lower_is_better": ["C"], "rows": rows, "claims": claims}


def test_one_seed_has_no_interval(tmp_path):
    record = table_3()
    del record["rows"][1]["cells"]["C"]["low"], record["rows"][1]["cells"]["C"]["high"]
    (tmp_path / "table_03.json").write_text(json.dumps(record))
    page = write_page(tmp_path, tmp_path / "report.html").read_text()
    assert ">44.5<br>" in page
    assert "44.5 ± " not in page


class Tables(HTMLParser):
    """Every table of a page as rows of cells; a line break is a newline, bold text stands in asterisks."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True
        elif tag in ("b", "br"):
            self.handle_data("*" if tag == "b" else "\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "b":
            self.handle_data("*")
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.tables[-1][-1][-1] += data


def tables_of(page: str) -> list[list[list[str]]]:
    reader = Tables()
    reader.feed(page)
    return [[[cell.strip() for cell in row] for row in table] for table in reader.tables]


def written(folder: Path, **records: Any) -> str:
    """The page on records, with a picture of Figure 2."""
    results = folder / "results"
    results.mkdir()
    Image.new("RGB", (500, 10)).save(results / "figure_02.png", dpi=(200, 200))
    for name, record in records.items():
        (results / f"{name}.json").write_text(json.dumps(record, sort_keys=True))
    return write_page(results, folder / "report.html").read_text()


@pytest.fixture
def page(tmp_path) -> str:
    claim = {"claim": "the farther the better", "verdict": NOT_MEASURED, "comparisons": []}
    figure = {"commit": "abc1234", "machine": "m", "claims": [claim], "rank_correlation": {"a: dad": {"W2": 0.516}}}
    robust = {"dad": {"v2": {"mean": 1.0, "low": -1.0, "high": 3.0}, "a": "not estimable"}}
    left_open = {"commit": "c", "machine": "m", "effective_robustness": robust}
    lacking = {"commit": "c", "machine": "m", "missing": ["plain-resnet_s-s0-x", "y"]}
    text = written(tmp_path, table_03=table_3(), figure_02=figure, open_questions=left_open, theory=lacking)
    assert str(tmp_path) not in text
    return text


def test_claims_stand_below_a_glance_at_their_verdicts(page):
    glance, *_ = tables_of(page)
    assert glance[0] == ["of", "", "claims", *VERDICTS, "rank correlation"]
    assert [[line[0], *line[2:]] for line in glance[1:]] == [
        ["Table 3", "2", "1", "0", "0", "1", "0", "+1.00"],
        ["all tables", "2", "1", "0", "0", "1", "0", "+1.00"],
        ["Figure 2", "1", "0", "0", "0", "1", "0", "—"],
    ]
    assert page.index("<h2>At a glance") < page.index("<h2>Gains") < page.index("<h2>Claims")
    assert page.index("b is best") < page.index("never &lt;seen&gt;") < page.index("the farther the better")
    assert "<a href='#claims_figure_02'>Figure 2</a>" in page
    assert "<h3 id='claims_figure_02'><a href='#figure_02'>Figure 2</a>" in page
    assert "0 more are our own" in page


def test_published_and_measured_stay_in_their_columns_as_published(page):
    (table,) = [t for t in tables_of(page) if t[0][-1] == "remark"]
    assert table[0] == ["row", "ImageNet", "V2", "C", "A", "trained here", "remark"]
    assert table[1][:5] == ["KD", "61.1 ± 1.0\n78.6", "52.4 ± 1.0\n67.2", "45.5 ± 1.0\n50.0", "27.3 ± 1.0\n16.0"]
    best = ["*64.1 ± 1.0*\n*81.6*", "*55.4 ± 1.0*\n*70.2*", "*42.5 ± 1.0*\n*47.0*", "*30.3 ± 1.0*\n*19.0*"]
    assert table[4][1:5] == best
    assert "*" not in "".join(table[1] + table[2] + table[3])
    assert table[1][5] == "kd, augreg <medium1>"
    assert "href='results/table_03.json'" in page
    assert "a &lt;test&gt;" in page


def test_published_and_measured_values_have_each_their_own_best(tmp_path):
    record = table_3()
    record["rows"][0]["cells"]["ImageNet"]["published"] = 99.0
    table = next(t for t in tables_of(written(tmp_path, table_03=record)) if t[0][-1] == "remark")
    assert (table[1][1], table[4][1]) == ("61.1 ± 1.0\n*99.0*", "*64.1 ± 1.0*\n81.6")


def test_what_the_papers_own_numbers_speak_against_says_so(tmp_path):
    record = table_3()
    record["claims"][0]["comparisons"][0] |= {"first": "KD", "second": "DAD (Ours)"}  # less for DAD, as published
    assert html.escape(AGAINST) in written(tmp_path, table_03=record)


def test_gains_are_drawn_and_ranked(tmp_path, monkeypatch):
    drawn = []
    kept = report_page.published_measured_each
    monkeypatch.setattr(report_page, "published_measured_each", lambda gains: drawn.append(gains) or kept(gains))
    page = written(tmp_path, table_03=table_3())
    (gains,) = drawn
    assert set(gains["table"]) == {"Table 3"}
    assert gains[gains["column"] == "C"]["measured"].tolist() == [1.0, 2.0, 3.0]  # up is better
    drawn = r"<img alt='published and measured gains' style='width: \d+\.\d+in' src='data:image/png;base64,"
    assert re.search(drawn + r"[\w+/=]{5000,}'>", page)
    (ranks,) = [t for t in tables_of(page) if "rankings" in t[0]]
    assert [line for line in ranks[1:] if any(line[1:])] == [
        [name, "+1.00", "—", "—", "3", "4", "4"] for name in ("Table 3", "all")
    ]


def bold_in(folder: Path, text: str) -> int:
    """How much of the page is bold where every text of its records is this one."""
    folder.mkdir()
    record, figure = table_3(), {"commit": text, "machine": text, "missing": [text], "slopes": {text: text}}
    record["rows"][0] |= {"row": [text], "what": text, "missing": text, "runs": {"0": text}}
    record |= {"title": text, "machine": text, "commit": text, "profile": {"data": text}}
    record["claims"][0]["claim"] = text
    record["claims"][0]["comparisons"][0] |= {"first": text, "would_tell": text}
    return written(folder, table_03=record, figure_02=figure).count("<b>")


def test_no_text_of_a_record_is_markup(tmp_path):
    assert bold_in(tmp_path / "plain", "x") == bold_in(tmp_path / "marked", "<b>") > 0


def test_under_attack_the_page_says_how_strong_it_was_and_on_how_many_photographs(tmp_path):
    """As many as the row with most, since a row that was not measured has none."""
    record = table_3() | {"epsilon": 8 / 255}
    record["rows"][1]["cells"]["A"]["n"], record["rows"][2]["cells"]["C"]["n"] = 200, 50
    page = written(tmp_path, table_03=record)
    assert "ε = 0.0314 of pixels in [0, 1]; photographs: ImageNet 0, V2 0, C 50, A 200." in page


def test_figures_have_their_picture_and_their_numbers(page):
    assert "<h2 id='figure_02'>Figure 2</h2>\n<img alt='figure_02' style='width: 2.50in'" in page
    assert "href='results/figure_02.json'" in page
    tables = tables_of(page)
    assert [["", "W2"], ["a: dad", "0.516"]] in tables
    assert [["", "a", "v2"], ["dad", "not estimable", "1.0 ± 2.0"]] in tables


def test_what_there_is_not_is_said(page):
    there = {"figure_02", "theory", "open_questions", "table_03"}
    for name in {*FIGURE_NAMES, *TABLE_NAMES}:
        assert page.count(f"<h2 id='{name}'>") == 1
        assert (f"/{name}.ipynb</code> makes its record" in page) == (name not in there)
    assert "2 runs or teachers are missing, first plain-resnet_s-s0-x" in page
    assert "miniature" in page


def test_page_of_nothing_says_so(tmp_path):
    page = write_page(tmp_path, tmp_path / "report.html").read_text()
    assert "no data yet" in page
    assert page.count("makes its record") == len(FIGURE_NAMES) + len(TABLE_NAMES)


def test_the_committed_report_says_what_the_records_say(tmp_path):
    """Pictures aside: another machine's fonts may draw them otherwise."""
    shutil.copytree(ROOT / RECORDS, tmp_path / RECORDS)
    again = write_page(tmp_path / RECORDS, tmp_path / REPORT)
    texts = [re.sub(r"<img [^>]*>", "", page.read_text()) for page in (ROOT / REPORT, again)]
    assert texts[0] == texts[1], "make tables renews it"
