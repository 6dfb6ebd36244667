"""The report: one HTML page over all tables, made from their records alone.

Claims and verdicts, published against measured gains, rank correlations, then every table. Each number's record is
named beside it: that file has configuration, seeds, runs, commit and machine.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dadlab.tables.plots import published_measured
from dadlab.tables.rows import SEPARATOR
from dadlab.tables.summary import FIGURES, all_gains, named, rank_correlations, read_records, verdicts

_STYLE = """body { font: 14px/1.45 sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 12.5px }
th, td { padding: 2px 8px; text-align: right }
th { background: #f3f3f3 } tr:hover td { background: #f8f8f0 }
td.text, th.text { text-align: left } td a { white-space: nowrap }
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
    parts = ["<h1>Published and measured</h1>", _facts(records), *_summary(records, figures)]
    parts += [_figure(name, record, Path(results), where) for name, record in figures.items()]
    parts += [_table(name, record, where) for name, record in records.items()]
    title = "<meta charset='utf-8'><title>Published and measured</title>"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"<!doctype html>{title}<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n", encoding="utf-8")
    return page


def _facts(records: Mapping[str, dict[str, Any]]) -> str:
    data = ", ".join(sorted({record["profile"]["data"] for record in records.values()})) or "no data yet"
    commits = ", ".join(sorted({record["commit"] for record in records.values()}))
    honest = f"<p>{_HONEST}</p>" if data == "fashion" else ""
    return f"<p class='note'>Data: {html.escape(data)}. Commits: {html.escape(commits)}.</p>{honest}"


def _summary(records: dict[str, dict[str, Any]], figures: dict[str, dict[str, Any]]) -> list[str]:
    said, together = verdicts(records | figures), all_gains(records)
    counts = Counter(said["verdict"])
    told = ", ".join(f"{count} {html.escape(verdict)}" for verdict, count in counts.most_common())
    rows = [
        f"<tr><td class=text><a href='#{r.table}'>{named(r.table)}</a></td><td class=text>{html.escape(r.claim)}</td>"
        f"<td class='text {r.verdict.replace(' ', '-')}'>{html.escape(r.verdict)}</td>"
        f"<td class=text>{html.escape(r.effects)}</td></tr>"
        for r in said.itertuples()
    ]
    head = "".join(f"<th class=text>{name}</th>" for name in ("table", "claim", "verdict", "effects, points"))
    ranks = rank_correlations(together).to_html(float_format="{:+.2f}".format, na_rep="—", border=0)
    return [
        f"<h2>Claims</h2><p>{len(said)} claims: {told or 'none yet'}.</p><table><tr>{head}</tr>{''.join(rows)}</table>",
        "<h2>Gains</h2><p>A point a row and column, over the first row of its block; dotted: both agree.</p>",
        _image(published_measured(together, by="table", width=5)),
        "<p>Rank correlation of methods, published against measured, averaged over columns with three or more:</p>",
        ranks,
    ]


def _figure(name: str, record: dict[str, Any], results: Path, where: str) -> str:
    """The picture that lies beside a figure's record, if any, and where its numbers are."""
    picture, drawn = results / f"{name}.png", ""
    if picture.is_file():
        encoded = base64.b64encode(picture.read_bytes()).decode()
        drawn = f"<img alt='{name}' src='data:image/png;base64,{encoded}'>"
    source = f"<a href='{where}/{name}.json'>{name}.json</a>"
    made = html.escape(f"commit {record['commit']}, {record['machine']}")
    return f"<h2 id='{name}'>{named(name)}</h2>{drawn}<p class=note>{source}: {made}</p>"


def _table(name: str, record: dict[str, Any], where: str) -> str:
    columns = list(record["rows"][0]["cells"]) if record["rows"] else []
    names = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    texts = "<th class=text>trained here</th><th class=text>remark</th>"
    head = f"<tr><th class=text>row</th>{names}{names}{texts}</tr>"
    wide = f"<th colspan={len(columns)}>"
    above = f"<tr><th></th>{wide}published</th>{wide}measured</th><th colspan=2></th></tr>"
    lines = []
    for row in record["rows"]:
        cells = [row["cells"][column] for column in columns]
        printed = "".join(f"<td>{'—' if cell['published'] is None else cell['published']}</td>" for cell in cells)
        runs = html.escape(", ".join(row["runs"].values()))
        found = "".join(f"<td title='{runs}'>{_measured(cell)}</td>" for cell in cells)
        label = html.escape(SEPARATOR.join(row["row"]))
        texts = "".join(f"<td class=text>{html.escape(row[text])}</td>" for text in ("what", "missing"))
        lines.append(f"<tr><td class=text>{label}</td>{printed}{found}{texts}</tr>")
    source = f"<a href='{where}/{name}.json'>{name}.json</a>"
    made = f"seeds {record['seeds']}, commit {record['commit']}, {html.escape(record['machine'])}"
    title = f"{named(name)}: {html.escape(record['title'])}"
    return f"<h2 id='{name}'>{title}</h2><table>{above}{head}{''.join(lines)}</table><p class=note>{source}: {made}</p>"


def _measured(cell: dict[str, Any]) -> str:
    return "—" if "mean" not in cell else f"{cell['mean']:.1f} ± {(cell['high'] - cell['low']) / 2:.1f}"


def _image(figure: Figure) -> str:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=130, bbox_inches="tight")
    encoded = base64.b64encode(held.getvalue()).decode()
    return f"<img alt='published and measured gains' src='data:image/png;base64,{encoded}'>"
