"""The second paper's tables for the eye and for files: published beside measured, claims with their verdicts.

The paper prints six data sets where there is one here: beside a measured number of the embedded benchmark stands the
mean of the published ones of the same quantity; of a data set on disk, its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from dadlab.estimates import Estimate, accuracy, rounded
from dadlab.provenance import commit, machine
from dadlab.style import KEPT, REJECTED
from dadlab.tables import verdicts
from dadlab.tables.published import TABLES_VLM, load_table
from dadlab.tables.sentences import NOT_MEASURED
from dadlab.tables.view import cell_text
from dadlab.vlm.rows import Measured, Row

_LOOKS = {verdicts.HOLDS: KEPT, verdicts.FAILS: REJECTED}


def beside(measured: Measured) -> pd.DataFrame:
    """Published means and measured `Estimate`s side by side, and a remark where something is missing."""
    lines = []
    for row in measured.rows:
        line: dict[tuple[str, str], Any] = {}
        for quantity, facts in measured.quantities.items():
            if facts["columns"]:
                line["published", quantity] = _printed_in(measured.number, row, facts["columns"])
            line["measured", quantity] = _estimate(measured, row, quantity)
        line["", "remark"] = measured.missing.get(row.label, "")
        lines.append(line)
    frame = pd.DataFrame(lines, index=[row.label for row in measured.rows])
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame.sort_index(axis=1, level=0, ascending=False, sort_remaining=False, kind="stable")


def styled(measured: Measured) -> Styler:
    """`beside` for the eye: measured as mean ± half its 95 % interval."""
    frame = beside(measured)
    scale = next(iter(measured.quantities.values())).get("scale", 100.0)
    shown = frame.map(lambda cell: cell_text(cell, 1 if scale == 100 else 3))
    return (
        shown.style.set_properties(**{"text-align": "right", "white-space": "nowrap"})
        .set_caption(_caption(measured))
        .set_uuid("t")
    )


def _caption(measured: Measured) -> str:
    """The published table's title, and what of it a number stands beside; of a table of ours the remark alone."""
    if measured.number not in json.loads(TABLES_VLM.read_text(encoding="utf-8"))["tables"]:
        return measured.remark
    facts = load_table(measured.number, TABLES_VLM).attrs
    count = max(len(quantity["columns"]) for quantity in measured.quantities.values())
    columns = ("nothing is printed for these data", "as printed", f"mean over {count} data sets")[min(count, 2)]
    return f"{facts['title']} ({facts['unit']}); published: {columns}. {measured.remark}"


def claims(measured: Measured) -> Styler:
    """What the paper says of the table, and what was found: effect, interval, verdict, and what would tell."""
    lines = []
    for claim, found in zip(measured.claims, measured.verdicts, strict=True):
        line = {"claim": claim.text, "difference": f"{claim.first} − {claim.second}", "on": claim.on}
        if found is None:
            lines.append({**line, "effect": "—", "verdict": NOT_MEASURED, "would tell": "the runs"})
            continue
        effect = verdicts.printed(found.effect, claim.scale)
        lines.append({**line, "effect": effect, "verdict": found.verdict, "would tell": found.would_tell})
    frame = pd.DataFrame(lines)
    level = 100 * (1 - verdicts.ERROR / len(measured.claims))
    return (
        frame.style.hide(axis="index")
        .map(lambda verdict: f"color: {_LOOKS.get(verdict, '#555555')}; font-weight: bold", subset=["verdict"])
        .set_properties(**{"text-align": "left"})
        .set_caption(f"Paired differences with {level:.2f} % intervals: 95 % for all {len(frame)} claims together.")
        .set_uuid("c")
    )


def left_out(measured: Measured, runs_dir: Path) -> pd.DataFrame:
    """How many training images I(x) left out, in percent, over all epochs and seeds: a line a row that has been run."""
    shares = {}
    for row in measured.rows:
        runs = [dataclasses.replace(row.run, seed=seed) for seed in measured.seeds[row.label]] if row.run else []
        logs = [(run.folder(runs_dir) / "loss.jsonl").read_text().splitlines() for run in runs]
        if found := [json.loads(line)["filtered"] for log in logs for line in log]:
            shares[row.label] = 100 * float(np.mean(found))
    return pd.DataFrame({"left out (%)": shares})


def record(tables: Sequence[Measured], **more: Any) -> dict[str, Any]:
    """Everything the tables say, for a JSON file."""
    found = {}
    for measured in tables:
        rows = []
        for row in measured.rows:
            cells = {name: _cell(measured, row, name) for name in measured.quantities}
            facts = {"name": list(row.name), "seeds": list(measured.seeds[row.label]), "cells": cells}
            run = {"run": dataclasses.asdict(row.run)} if row.run else {}
            rows.append({**facts, **run, "missing": measured.missing.get(row.label, "")})
        told = [
            {**verdicts.described(claim), "verdict": NOT_MEASURED}
            if verdict is None
            else verdicts.claims_record([claim], [verdict])[0]
            for claim, verdict in zip(measured.claims, measured.verdicts, strict=True)
        ]
        found[measured.number] = {"rows": rows, "claims": told, "remark": measured.remark}
    return {"tables": found, "machine": machine(), "commit": commit(), **more}


def _cell(measured: Measured, row: Row, quantity: str) -> dict[str, Any]:
    printed = _printed_in(measured.number, row, measured.quantities[quantity]["columns"])
    estimate = _estimate(measured, row, quantity)
    if estimate is None:
        return {"published": printed}
    scale = measured.quantities[quantity].get("scale", 100.0)
    values = measured.values[row.label, quantity]
    each = [round(scale * float(of_seed.mean()), 4) for of_seed in values]
    return {"published": printed, **rounded(estimate, 4), "each seed": each, "n": values.shape[1]}


def _estimate(measured: Measured, row: Row, quantity: str) -> Estimate | None:
    values = measured.values.get((row.label, quantity))
    return None if values is None else accuracy(values, scale=measured.quantities[quantity].get("scale", 100.0))


def _printed_in(number: str, row: Row, columns: Sequence[str]) -> float | None:
    if not columns:
        return None
    number, name = row.source.get("published", (number, row.name))
    table = load_table(number, TABLES_VLM)
    key = tuple(name) if table.index.nlevels > 1 else name[0]
    if key not in table.index:
        return None
    value = float(table.loc[key, list(columns)].mean())
    return None if np.isnan(value) else value
