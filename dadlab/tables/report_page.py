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

import pandas as pd
from matplotlib.figure import Figure

from dadlab.tables.plots import published_measured
from dadlab.tables.rows import SEPARATOR
from dadlab.tables.summary import gains, rank_correlations, read_records, verdicts

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
        results: folder of `table_*.json`, and of pictures `figure_*.png`.
        page: the HTML file, which refers to the records by relative paths.
    """
    records = read_records(results)
    where = os.path.relpath(results, page.parent)
    found = [gains(record, name) for name, record in records.items()]
    together = pd.concat(found) if found else gains({"rows": []})
    parts = ["<h1>Published and measured</h1>", _facts(records), *_summary(records, together)]
    for picture in sorted(Path(results).glob("figure_*.png")):
        encoded = base64.b64encode(picture.read_bytes()).decode()
        parts += [
            f"<h2>{_named(picture.stem)}</h2>",
            f'<img alt="{picture.stem}" src="data:image/png;base64,{encoded}">',
        ]
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


def _summary(records: dict[str, dict[str, Any]], together: pd.DataFrame) -> list[str]:
    said = verdicts(records)
    counts = Counter(said["verdict"])
    told = ", ".join(f"{count} {html.escape(verdict)}" for verdict, count in counts.most_common())
    rows = [
        f"<tr><td class=text><a href='#{r.table}'>{_named(r.table)}</a></td><td class=text>{html.escape(r.claim)}</td>"
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


def _table(name: str, record: dict[str, Any], where: str) -> str:
    columns = list(record["rows"][0]["cells"]) if record["rows"] else []
    names = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    head = f"<tr><th class=text>row</th>{names}{names}<th class=text>remark</th></tr>"
    above = (
        f"<tr><th></th><th colspan={len(columns)}>published</th><th colspan={len(columns)}>measured</th><th></th></tr>"
    )
    lines = []
    for row in record["rows"]:
        cells = [row["cells"][column] for column in columns]
        printed = "".join(f"<td>{'—' if cell['published'] is None else cell['published']}</td>" for cell in cells)
        runs = html.escape(", ".join(row["runs"].values()))
        found = "".join(f"<td title='{runs}'>{_measured(cell)}</td>" for cell in cells)
        label = html.escape(SEPARATOR.join(row["row"]))
        lines.append(
            f"<tr><td class=text>{label}</td>{printed}{found}<td class=text>{html.escape(row['missing'])}</td></tr>"
        )
    source = f"<a href='{where}/{name}.json'>{name}.json</a>"
    made = f"seeds {record['seeds']}, commit {record['commit']}, {html.escape(record['machine'])}"
    title = f"{_named(name)}: {html.escape(record['title'])}"
    return f"<h2 id='{name}'>{title}</h2><table>{above}{head}{''.join(lines)}</table><p class=note>{source}: {made}</p>"


def _measured(cell: dict[str, Any]) -> str:
    return "—" if "mean" not in cell else f"{cell['mean']:.1f} ± {(cell['high'] - cell['low']) / 2:.1f}"


def _named(stem: str) -> str:
    """`table_01` as `Table 1`."""
    kind, _, number = stem.partition("_")
    return f"{kind.capitalize()} {number.lstrip('0')}"


def _image(figure: Figure) -> str:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=130, bbox_inches="tight")
    encoded = base64.b64encode(held.getvalue()).decode()
    return f"<img alt='published and measured gains' src='data:image/png;base64,{encoded}'>"
