"""The report's claims: verdicts at a glance, then every sentence over the intervals behind it, drawn and in figures."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from dadlab.estimates import Estimate
from dadlab.tables.report_parts import scrolled
from dadlab.tables.rows import SEPARATOR
from dadlab.tables.sentences import IMPOSSIBLE, NOT_MEASURED, ONE_SEED, compared, rows_in
from dadlab.tables.summary import AGAINST, counted, named, tally, verdicts
from dadlab.tables.verdicts import ERROR, FAILS, HOLDS, OPEN, printed

_WIDTH, _HEIGHT = 180, 15  # of a drawn interval, pixels
_COLOURS = {HOLDS: "#00694c", FAILS: "#b04a00", OPEN: "#b8b8b8", NOT_MEASURED: "#ececec", IMPOSSIBLE: "#ececec"}
_COLUMNS = "".join(f"<col style='width: {width}'>" for width in ("29%", "15%", f"{_WIDTH + 16}px", "14%", "auto"))
STYLE = """.claims { width: 100%; table-layout: fixed; margin: 0 }
.claims td { text-align: left; padding-top: 0; padding-bottom: 0; white-space: normal; color: #444 }
.claims .said td { padding-top: 10px; color: #222 } .claims td.figure { text-align: right }
.verdict { margin-left: 1em; font-weight: bold; color: #777 } .verdict.holds { color: #00694c }
.verdict.does-not-hold { color: #b04a00 } svg { vertical-align: middle } .glance td:nth-child(2) { padding: 2px 0 }
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


def claims_part(name: str, record: dict[str, Any]) -> str:
    """A record's claims with their verdicts; below each its comparisons, those that were measured with their intervals.

    Args:
        name: of the record's file, without ending.
        record: its content.
    """
    said = verdicts({name: record})
    if said.empty:
        return ""
    levels = {found["level"] for found in said["comparisons"].explode().dropna()}
    lines = "".join(line for claim in said.itertuples() for line in _lines(claim))
    table = f"<table class=claims><colgroup>{_COLUMNS}</colgroup>{lines}</table>"
    title = f"<h3 id='claims_{name}'><a href='#{name}'>{named(name)}</a>{_title(record)}</h3>"
    told = "; ".join(f"{100 * level:.4g} %, for {round(ERROR / (1 - level))} comparisons" for level in sorted(levels))
    note = f"<p class=note>Intervals at {told}.</p>" if told else ""
    return title + note + table


def interval(found: Mapping[str, Any], reach: float) -> str:
    """A measured difference drawn as its mean and interval, between −`reach` and `reach`; what is claimed is shaded."""

    def place(value: float) -> float:
        return round(_WIDTH / 2 * (1 + max(-1.0, min(1.0, value / reach))), 1)

    left, right = (place(found.get(edge, end)) for edge, end in (("above", -math.inf), ("below", math.inf)))
    low, mean, high = (place(found["effect"][part]) for part in ("low", "mean", "high"))
    colour, middle = _COLOURS[found["verdict"]] if found["verdict"] != OPEN else "#666", _HEIGHT / 2
    return (
        f"<svg width={_WIDTH} height={_HEIGHT} role=img aria-label='{html.escape(_figures(found))}'>"
        f"<rect x={left} width={right - left:.1f} height={_HEIGHT} fill='#e9f3ef'/>"
        f"<line x1={place(0)} x2={place(0)} y2={_HEIGHT} stroke='#999'/>"
        f"<line x1={low} x2={high} y1={middle} y2={middle} stroke='{colour}' stroke-width=2 />"
        f"<circle cx={mean} cy={middle} r=3.5 fill='{colour}'/></svg>"
    )


def difference(first: str, second: str) -> str:
    """What is subtracted from what, and of what student or block where both are of the same.

    >>> difference("RN34 · CLIP", "RN34 · -"), difference("DAD", "KD"), difference("DAD − ViT", "KD")
    ('RN34: CLIP − none', 'DAD − KD', '(DAD − ViT) − KD')
    """
    if len(rows_in(first)) > 1 or len(rows_in(second)) > 1:
        return compared(first, second)
    blocks, names = zip(*(row.rpartition(SEPARATOR)[::2] for row in (first, second)), strict=True)
    if blocks[0] != blocks[1]:
        return compared(first, second)
    told = compared(*("none" if name == "-" else name for name in names))
    return f"{blocks[0]}: {told}" if blocks[0] else told


def _lines(claim: Any) -> list[str]:
    """A claim's line, and one for each of its comparisons."""
    said = html.escape(claim.claim + AGAINST * claim.against)
    verdict = f"<span class='verdict {claim.verdict.replace(' ', '-')}'>{html.escape(claim.verdict)}</span>"
    lines = [f"<tr class=said><td colspan=5>{said}{verdict}</td></tr>"]
    reach = 1.05 * max((abs(value) for found in claim.comparisons for value in _values(found)), default=0.0)
    for found in claim.comparisons:
        what, on = difference(found["first"], found["second"]), found["on"] + " ↓" * found["lower"]
        tells = f"{found['would_tell']} would tell" if found["would_tell"] else ""
        what, on, tells, figures = map(html.escape, (what, on, tells, _figures(found)))
        drawn = interval(found, reach or 1.0)
        lines.append(f"<tr><td>{what}<td>{on}<td>{drawn}<td class=figure>{figures}<td>{tells}</tr>")
    return lines


def _values(found: Mapping[str, Any]) -> list[float]:
    """What is drawn of a comparison."""
    return [*found["effect"].values(), *(found[edge] for edge in ("above", "below") if edge in found)]


def _figures(found: Mapping[str, Any]) -> str:
    return printed(Estimate(**found["effect"]), found["scale"]) + ONE_SEED * (found.get("seeds") == 1)


def _title(record: Mapping[str, Any]) -> str:
    return f": {html.escape(record['title'])}" if "title" in record else ""


def _bar(counts: pd.Series, longest: int) -> str:
    """Verdicts as parts of a bar that is as long as there are claims."""
    parts, at = [], 0.0
    for verdict, colour in _COLOURS.items():
        width = round(180 * counts[verdict] / longest, 1)
        parts.append(f"<rect x={at:.1f} width={width} height=11 fill='{colour}'/>")
        at += width
    return f"<svg width=180 height=11>{''.join(parts)}</svg>"
