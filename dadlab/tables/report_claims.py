"""The report's claims: verdicts at a glance, then every sentence over the intervals behind it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import pandas as pd

from dadlab.tables.claims_view import COLOURS, claims_html
from dadlab.tables.report_parts import scrolled
from dadlab.tables.summary import counted, named, tally

STYLE = """.glance td:nth-child(2) { padding: 2px 0 } .glance svg { vertical-align: middle }
.glance tr.all td { border-top: 1px solid #bbb; border-bottom: 1px solid #bbb }"""


def glance(tables: Mapping[str, dict[str, Any]], figures: Mapping[str, dict[str, Any]]) -> str:
    """How many of the paper's claims each table and figure has, and what became of them: a line each, with a bar."""
    counts = pd.concat([tally(dict(tables)), counted(dict(figures))]).fillna({"rank correlation": "—"})
    longest = counts.drop(index="all")["claims"].max()
    head = "".join(f"<th>{html.escape(name)}</th>" for name in counts.columns)
    lines = []
    for name, line in counts.iterrows():
        both = name == "all"
        what = "all tables" if both else f"<a href='#claims_{name}'>{named(str(name))}</a>"
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in line)
        bar = "" if both else _bar(line, longest)
        lines.append(f"<tr{' class=all' * both}><td class=text>{what}</td><td>{bar}</td>{cells}</tr>")
    return scrolled(f"<table class=glance><tr><th class=text>of</th><th></th>{head}</tr>{''.join(lines)}</table>")


def claims_part(name: str, record: Mapping[str, Any]) -> str:
    """A record's claims under their heading; empty if it has none.

    Args:
        name: of the record's file, without ending.
        record: its content.
    """
    title = f": {html.escape(record['title'])}" if "title" in record else ""
    found = claims_html(record)
    return f"<h3 id='claims_{name}'><a href='#{name}'>{named(name)}</a>{title}</h3>{found}" if found else ""


def _bar(counts: pd.Series, longest: int) -> str:
    """Verdicts as parts of a bar that is as long as there are claims."""
    parts, at = [], 0.0
    for verdict, colour in COLOURS.items():
        width = round(180 * counts[verdict] / longest, 1)
        parts.append(f"<rect x={at:.1f} width={width} height=11 fill='{colour}'/>")
        at += width
    return f"<svg width=180 height=11>{''.join(parts)}</svg>"
