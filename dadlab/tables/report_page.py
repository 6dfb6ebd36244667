"""The report: one HTML page over all tables, made from their records alone.

Claims and verdicts, published against measured gains, rank correlations, then every table. Each number's record is
named beside it: that file has configuration, seeds, runs, commit and machine.
"""

from __future__ import annotations

import html
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dadlab.tables import claims_view, report_claims
from dadlab.tables.plots import published_measured_each
from dadlab.tables.report_claims import claims_part, glance
from dadlab.tables.report_figures import SHOWN
from dadlab.tables.report_parts import absent_part, figure_part, image, table_part
from dadlab.tables.summary import ENOUGH, FIGURES, all_gains, named, rank_correlations, read_records, verdicts

TABLE_NAMES, FIGURE_NAMES = [f"table_{number:02d}" for number in range(1, 13)], list(SHOWN)
_STYLE = """body { font: 14px/1.45 sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 12.5px }
th, td { padding: 2px 8px; text-align: right; vertical-align: top }
th { background: #f3f3f3 } tr:hover td { background: #f8f8f0 } td { white-space: nowrap }
td.text, th.text { text-align: left; white-space: normal } td.text:first-child { white-space: nowrap }
.wide { overflow-x: auto } .printed { color: #777 }
.note { color: #666 } img { max-width: 100% }"""
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
    style = "\n".join([_STYLE, claims_view.STYLE, report_claims.STYLE])
    head = f"<meta charset='utf-8'><title>Published and measured</title><style>{style}</style>"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join([f"<!doctype html>{head}", *parts]) + "\n", encoding="utf-8")
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
    own = int(said["ours"].sum())
    ranks = rank_correlations(together).rename(index=lambda name: "all" if name == "all" else named(name))
    together = together.assign(table=together["table"].map(named))
    return [
        f"<h2>At a glance</h2><p>What became of the paper's claims, table by table; {own} more are our own. Rank "
        "correlation: of published against measured gains, below.</p>",
        glance(records, figures),
        "<h2>Gains</h2><p>A point a row and column, over the first row of its block; up is better; dotted: both agree."
        "</p>",
        image(_png(published_measured_each(together)), "published and measured gains"),
        "<p>Rank correlation of methods, published against measured, where three or more have one reference, itself "
        f"included: averaged over columns, where there are {ENOUGH} with a 95 % interval over these.</p>",
        ranks.to_html(float_format="{:+.2f}".format, na_rep="—", border=0),
        "<h2>Claims</h2><p>Each with the paired differences behind it, at a level corrected for the number of "
        "comparisons of its table; ↓ is said of what is better the less it is. A claim holds where every interval lies "
        "in what is claimed. Where it is open, so many in all would tell, in 80 % of all cases if the effect is as "
        "measured.</p>",
        *(claims_part(name, record) for name, record in (records | figures).items()),
    ]


def _png(figure: Figure) -> bytes:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=130, bbox_inches="tight")
    return held.getvalue()
