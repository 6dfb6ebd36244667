"""Parts of the report: a table's record and a figure's as HTML, with the file that each number is in."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from dadlab.estimates import Estimate
from dadlab.tables.published import TABLES, load_table
from dadlab.tables.report_figures import figure_tables
from dadlab.tables.rows import SEPARATOR
from dadlab.tables.summary import named
from dadlab.tables.view import best_cells, cell_text


def table_part(name: str, record: dict[str, Any], where: str) -> str:
    """A table's record: measured cells over published ones, columns as published, the best of each block bold.

    Args:
        name: of the record's file, without ending.
        record: its content.
        where: the folder of records, from the page.
    """
    columns = in_order(name, record)
    bold = _bold(record, columns)
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = []
    for place, row in enumerate(record["rows"]):
        runs = html.escape(", ".join(row["runs"].values()))
        cells = "".join(
            f"<td title='{runs}'>{_bolded(_measured(row['cells'][c]), bold['measured', c].iloc[place])}<br>"
            f"<span class=printed>{_bolded(_printed(row['cells'][c]), bold['published', c].iloc[place])}</span></td>"
            for c in columns
        )
        texts = "".join(f"<td class=text>{html.escape(row[text])}</td>" for text in ("what", "missing"))
        lines.append(f"<tr><td class=text>{html.escape(SEPARATOR.join(row['row']))}</td>{cells}{texts}</tr>")
    texts = "<th class=text>trained here</th><th class=text>remark</th>"
    body = f"<table><tr><th class=text>row</th>{head}{texts}</tr>{''.join(lines)}</table>"
    less = ", ".join(column for column in record.get("lower_is_better") or () if column in columns)
    told = f"Measured ± half its 95 % interval, below it the <span class=printed>published</span> value{_lower(less)}."
    source = f"<a href='{where}/{name}.json'>{name}.json</a>"
    turns = f"seeds {record['seeds']}" if "seeds" in record else f"{len(record['rounds'])} rounds"
    if "epsilon" in record:
        counts = {
            column: max((row["cells"][column].get("n", 0) for row in record["rows"]), default=0) for column in columns
        }
        told += f" ε = {record['epsilon']:.3g} of pixels in [0, 1]; photographs: {_listed(counts)}."
    made = html.escape(f"{turns}, commit {record['commit']}, {record['machine']}")
    title = f"<h2 id='{name}'>{named(name)}: {html.escape(record['title'])}</h2>"
    return f"{title}<p class=note>{told}</p>{scrolled(body)}<p class=note>{source}: {made}</p>"


def in_order(name: str, record: dict[str, Any]) -> list[str]:
    """A record's columns as the published table has them; its own entries are in alphabetical order."""
    there = list(record["rows"][0]["cells"]) if record["rows"] else []
    published = list(load_table(int(name.rpartition("_")[2]), TABLES).columns)
    return [column for column in published if column in there] + [c for c in there if c not in published]


def figure_part(name: str, record: dict[str, Any], results: Path, where: str) -> str:
    """A figure's picture, tables of its record, and where its numbers are."""
    picture, parts = results / f"{name}.png", [f"<h2 id='{name}'>{named(name)}</h2>"]
    if picture.is_file():
        parts.append(image(picture.read_bytes(), name))
    for what, shown in figure_tables(name, record):
        numbered = isinstance(shown.index, pd.RangeIndex)  # and nothing else is said of its rows
        parts.append(f"<p>{what}:</p>{scrolled(shown.to_html(border=0, escape=True, index=not numbered))}")
    if lacking := record.get("missing"):
        parts.append(
            f"<p>Not measured: {len(lacking)} runs or teachers are missing, first {html.escape(lacking[0])}.</p>"
        )
    made = html.escape(f"commit {record['commit']}, {record['machine']}")
    return "\n".join([*parts, f"<p class=note><a href='{where}/{name}.json'>{name}.json</a>: {made}</p>"])


def absent_part(name: str) -> str:
    """A heading that says that there is no record, and which notebook makes one."""
    folder = "tables" if name.startswith("table_") else "figures"
    made = f"not measured yet: <code>notebooks/{folder}/{name}.ipynb</code> makes its record"
    return f"<h2 id='{name}'>{named(name)}</h2><p>{made}.</p>"


def image(png: bytes, about: str) -> str:
    """A picture inside the page, as many inches wide as it was drawn."""
    with Image.open(io.BytesIO(png)) as drawn:
        width = drawn.width / drawn.info.get("dpi", (96,))[0]
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f"<img alt='{about}' style='width: {width:.2f}in' src='{source}'>"


def scrolled(table: str) -> str:
    """A table that scrolls by itself where the page is narrower."""
    return f"<div class=wide>{table}</div>"


def _bold(record: dict[str, Any], columns: Sequence[str]) -> pd.DataFrame:
    """True in the best cells, a row a row of the record."""
    lines = [
        {("published", c): row["cells"][c].get("published") for c in columns}
        | {("measured", c): row["cells"][c].get("mean") for c in columns}
        for row in record["rows"]
    ]
    blocks = [row["row"][0] if len(row["row"]) > 1 else "" for row in record["rows"]]
    index = pd.MultiIndex.from_arrays([blocks, range(len(blocks))])
    frame = pd.DataFrame(lines, index=index, columns=pd.MultiIndex.from_tuples(lines[0] if lines else []))
    return best_cells(frame, record.get("lower_is_better") or ())


def _bolded(text: str, bold: bool) -> str:
    return f"<b>{text}</b>" if bold else text


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{html.escape(name)} {count:,}" for name, count in counts.items())


def _lower(columns: str) -> str:
    return f"; lower is better: {html.escape(columns)}" if columns else ""


def _measured(cell: dict[str, Any]) -> str:
    told = {end: cell[end] for end in ("mean", "low", "high") if end in cell}
    return cell_text(Estimate(**told) if told else None)


def _printed(cell: dict[str, Any]) -> str:
    return "—" if cell["published"] is None else f"{cell['published']}"
