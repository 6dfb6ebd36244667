"""The report: one HTML page over all tables, made from their records alone.

Claims and verdicts, published against measured gains, rank correlations, then every table. Each number's record is
named beside it: that file has configuration, seeds, runs, commit and machine.
"""

from __future__ import annotations

import html
import io
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dadlab.tables.plots import published_measured_each
from dadlab.tables.report_figures import SHOWN
from dadlab.tables.report_parts import absent_part, figure_part, image, scrolled, table_part
from dadlab.tables.sentences import NOT_MEASURED
from dadlab.tables.summary import (
    AGAINST,
    ENOUGH,
    FIGURES,
    all_gains,
    named,
    rank_correlations,
    read_records,
    verdicts,
)

TABLE_NAMES, FIGURE_NAMES = [f"table_{number:02d}" for number in range(1, 13)], list(SHOWN)
_STYLE = """body { font: 14px/1.45 sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 12.5px }
th, td { padding: 2px 8px; text-align: right; vertical-align: top }
th { background: #f3f3f3 } tr:hover td { background: #f8f8f0 } td { white-space: nowrap }
td.text, th.text { text-align: left; white-space: normal } td.text:first-child { white-space: nowrap }
.wide { overflow-x: auto } .printed { color: #777 } summary { cursor: pointer }
.holds { color: #00694c } .does-not-hold { color: #b04a00 } .note { color: #666 } img { max-width: 100% }"""
_HONEST = """These are results of a miniature: 9,000 photographs of ten kinds of garment at 32 × 32, drawn shifts, a
small teacher. It can say whether an effect has the published direction under controls that the paper lacks, and
whether methods keep their order. It cannot say how large an effect is on ImageNet, and what does not hold here is not
refuted there."""


def write_page(results: Path, page: Path) -> Path:
    """Write the report on the records in a folder.

    Args:
        results: folder of the tables' and figures' records, and of pictures beside them.
        page: the HTML file, which refers to the records by relative paths.
    """
    records, figures = read_records(results), read_records(results, FIGURES)
    where = os.path.relpath(results, page.parent)
    parts = ["<h1>Published and measured</h1>", _facts(records), _contents(records | figures)]
    parts += _summary(records, figures)
    for name in (*FIGURE_NAMES, *sorted(set(figures) - set(FIGURE_NAMES))):
        parts.append(figure_part(name, figures[name], Path(results), where) if name in figures else absent_part(name))
    parts += [table_part(name, records[name], where) if name in records else absent_part(name) for name in TABLE_NAMES]
    title = "<meta charset='utf-8'><title>Published and measured</title>"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"<!doctype html>{title}<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n", encoding="utf-8")
    return page


def _contents(records: Mapping[str, dict[str, Any]]) -> str:
    links = [
        f"<a href='#{name}'>{named(name)}</a>{'' if name in records else ' (not measured yet)'}"
        for name in (*FIGURE_NAMES, *TABLE_NAMES)
    ]
    return f"<p>{' · '.join(links)}</p>"


def _facts(records: Mapping[str, dict[str, Any]]) -> str:
    data = ", ".join(sorted({record["profile"]["data"] for record in records.values()})) or "no data yet"
    commits = ", ".join(sorted({record["commit"] for record in records.values()}))
    honest = f"<p>{_HONEST}</p>" if data == "fashion" else ""
    return f"<p class='note'>Data: {html.escape(data)}. Commits: {html.escape(commits)}.</p>{honest}"


def _summary(records: dict[str, dict[str, Any]], figures: dict[str, dict[str, Any]]) -> list[str]:
    said, together = verdicts(records | figures), all_gains(records)
    counts, own = Counter(said["verdict"]), int(said["ours"].sum())
    told = ", ".join(f"{count} {html.escape(verdict)}" for verdict, count in counts.most_common())
    here, not_here = said[said["verdict"] != NOT_MEASURED], said[said["verdict"] == NOT_MEASURED]
    ranks = rank_correlations(together).rename(index=lambda name: "all" if name == "all" else named(name))
    together = together.assign(table=together["table"].map(named))
    return [
        f"<h2>Claims</h2><p>{len(said)} claims, {own} of them our own: {told or 'none yet'}. Effects are paired "
        "differences, in points unless a measure is named, with their intervals at the level that is corrected for the "
        "number of comparisons of their table; where a claim is open, how many in all would tell, in 80 % of all cases "
        f"if the effect is as measured.</p>{_claims(here)}",
        f"<details><summary>{len(not_here)} claims that are not measured</summary>{_claims(not_here)}</details>",
        "<h2>Gains</h2><p>A point a row and column, over the first row of its block; up is better; dotted: both agree."
        "</p>",
        image(_png(published_measured_each(together)), "published and measured gains"),
        "<p>Rank correlation of methods, published against measured, where three or more have one reference, itself "
        f"included: averaged over columns, where there are {ENOUGH} with a 95 % interval over these.</p>",
        ranks.to_html(float_format="{:+.2f}".format, na_rep="—", border=0),
    ]


def _claims(said: pd.DataFrame) -> str:
    rows = [
        f"<tr><td class=text><a href='#{r.table}'>{named(r.table)}</a></td>"
        f"<td class=text>{html.escape(r.claim + AGAINST * r.against)}</td>"
        f"<td class='text {r.verdict.replace(' ', '-')}'>{html.escape(r.verdict)}</td>"
        f"<td class=text>{'<br>'.join(map(html.escape, r.effects)) or '—'}</td></tr>"
        for r in said.itertuples()
    ]
    head = "".join(f"<th class=text>{name}</th>" for name in ("table", "claim", "verdict", "effects"))
    return scrolled(f"<table><tr>{head}</tr>{''.join(rows)}</table>")


def _png(figure: Figure) -> bytes:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=130, bbox_inches="tight")
    return held.getvalue()
