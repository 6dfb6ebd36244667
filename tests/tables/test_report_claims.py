"""The report's claims: bars of verdicts, and headings."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dadlab.tables.report_claims import claims_part, glance
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN


def claim(verdict: str, **facts: Any) -> dict[str, Any]:
    return {"claim": "a <is> best", "verdict": verdict, "comparisons": [], **facts}


def parts(bar: str) -> list[tuple[float, float]]:
    """Where each part of a bar begins, and how long it is."""
    return [(float(x), float(width)) for x, width in re.findall(r"<rect x=([\d.]+) width=([\d.]+)", bar)]


def test_claims_stand_under_a_heading_that_leads_to_their_table():
    part = claims_part("table_05", {"title": "T & U", "claims": [claim(HOLDS)]})
    assert part.startswith("<h3 id='claims_table_05'><a href='#table_05'>Table 5</a>: T &amp; U</h3>")
    assert "a &lt;is&gt; best" in part
    assert claims_part("figure_01", {}) == ""


def test_bars_are_as_long_as_there_are_claims():
    tables = {
        "table_01": {"rows": [], "claims": [claim(HOLDS), claim(HOLDS), claim(FAILS)]},
        "table_02": {"rows": [], "claims": [claim(OPEN), claim(HOLDS, ours=True)]},
    }
    said = glance(tables, {"figure_03": {"claims": [claim(FAILS)]}})
    bars = [parts(bar) for bar in re.findall("<svg.*?</svg>", said)]
    assert [sum(width for _, width in bar) for bar in bars] == pytest.approx([180.0, 60.0, 60.0])
    assert bars[0][:2] == [(0.0, 120.0), (120.0, 60.0)]
