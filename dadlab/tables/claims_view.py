"""A record's claims as HTML, in notebooks and in the report: each sentence with its verdict, and below it the paired
differences behind it, drawn on one scale over the range that it claims."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from IPython.display import HTML

from dadlab.estimates import Estimate
from dadlab.tables.rows import SEPARATOR
from dadlab.tables.sentences import IMPOSSIBLE, NOT_MEASURED, ONE_SEED, compared, rows_in
from dadlab.tables.summary import AGAINST, verdicts
from dadlab.tables.verdicts import ERROR, FAILS, HOLDS, OPEN, printed

COLOURS = {HOLDS: "#00855f", FAILS: "#c2500a", OPEN: "#b8b8b8", NOT_MEASURED: "#ececec", IMPOSSIBLE: "#ececec"}
_WIDTH, _HEIGHT = 180, 15  # of a drawn interval, pixels
_COLUMNS = "".join(f"<col style='width: {width}'>" for width in ("28%", "17%", f"{_WIDTH + 16}px", "150px", "auto"))
# Jupyter aligns tables to the right, and stripes them, by rules that are hard to outdo.
STYLE = f"""table.claims {{ width: 100%; table-layout: fixed; margin: 0; font-size: 12.5px }}
table.claims tr {{ background: none !important }} table.claims svg {{ vertical-align: middle }}
table.claims td {{ text-align: left !important; padding: 0 8px; white-space: normal }}
table.claims .said td {{ padding-top: 10px }}
table.claims td.figure {{ text-align: right !important; white-space: nowrap }}
.verdict {{ margin-left: 1em; font-weight: bold; opacity: 0.7 }}
.verdict.holds {{ color: {COLOURS[HOLDS]}; opacity: 1 }}
.verdict.does-not-hold {{ color: {COLOURS[FAILS]}; opacity: 1 }}"""


def claims_view(record: Mapping[str, Any]) -> HTML:
    """The claims of a table's or a figure's record, for a notebook."""
    return HTML(f"<style>{STYLE}</style>{claims_html(record)}")


def claims_html(record: Mapping[str, Any]) -> str:
    """The level of all intervals, and a table of a line a claim and a line a comparison; empty if there is no claim."""
    said = verdicts({"": dict(record)})
    if said.empty:
        return ""
    levels = {found["level"] for found in said["comparisons"].explode().dropna() if "level" in found}
    told = "; ".join(f"{100 * level:.4g} %, for {round(ERROR / (1 - level))} comparisons" for level in sorted(levels))
    note = f"<p class=note>Points, unless a measure is named; intervals at {told}; shaded is what is claimed.</p>"
    lines = "".join(line for claim in said.itertuples() for line in _lines(claim))
    return f"{note if told else ''}<table class=claims><colgroup>{_COLUMNS}</colgroup>{lines}</table>"


def interval(found: Mapping[str, Any], reach: float) -> str:
    """A measured difference drawn as its mean and interval, between −`reach` and `reach`; what is claimed is shaded."""

    def place(value: float) -> float:
        return round(_WIDTH / 2 * (1 + max(-1.0, min(1.0, value / reach))), 1)

    left, right = (place(found.get(edge, end)) for edge, end in (("above", -math.inf), ("below", math.inf)))
    low, mean, high = (place(found["effect"][part]) for part in ("low", "mean", "high"))
    colour, middle = "#777" if found["verdict"] == OPEN else COLOURS[found["verdict"]], _HEIGHT / 2
    return (
        f"<svg width={_WIDTH} height={_HEIGHT} role=img aria-label='{html.escape(_figures(found))}'>"
        f"<rect x={left} width={right - left:.1f} height={_HEIGHT} fill='{COLOURS[HOLDS]}' fill-opacity=0.1 />"
        f"<line x1={place(0)} x2={place(0)} y2={_HEIGHT} stroke='#999' />"
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
    """A claim's line, and one for each of its comparisons unless none was measured."""
    said = html.escape(claim.claim + AGAINST * claim.against)
    verdict = f"<span class='verdict {claim.verdict.replace(' ', '-')}'>{html.escape(claim.verdict)}</span>"
    lines = [f"<tr class=said><td colspan=5>{said}{verdict}</td></tr>"]
    values = [abs(value) for found in claim.comparisons if "effect" in found for value in _values(found)]
    for found in claim.comparisons if values else ():
        what, on = difference(found["first"], found["second"]), found["on"] + " ↓" * found["lower"]
        drawn, figures, tells = "", NOT_MEASURED, ""
        if "effect" in found:
            whole = {"mean", "low", "high"} <= found["effect"].keys()  # a single number has no interval
            drawn = interval(found, 1.05 * max(values) or 1.0) if whole else ""
            figures, tells = _figures(found), found["would_tell"]
        texts = [*map(html.escape, (what, on, figures, f"{tells} would tell" if tells else ""))]
        lines.append(f"<tr><td>{texts[0]}<td>{texts[1]}<td>{drawn}<td class=figure>{texts[2]}<td>{texts[3]}</tr>")
    return lines


def _values(found: Mapping[str, Any]) -> list[float]:
    """What is drawn of a comparison."""
    return [*found["effect"].values(), *(found[edge] for edge in ("above", "below") if edge in found)]


def _figures(found: Mapping[str, Any]) -> str:
    if "mean" not in found["effect"]:
        return "—"  # a gain over nothing, in per cent of it
    return printed(Estimate(**found["effect"]), found["scale"]) + ONE_SEED * (found.get("seeds") == 1)
