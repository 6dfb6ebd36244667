"""Summary: what the records of all tables say together, published gains against measured ones.

A gain is a row's difference to the first row of its block that both the paper and this version have; where less is
better its sign is turned, so that up is better everywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from dadlab.estimates import Estimate, accuracy
from dadlab.tables.rows import SEPARATOR
from dadlab.tables.sentences import IMPOSSIBLE, NOT_MEASURED, columns_of, value_of
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN

GAINS = ["table", "block", "row", "column", "published", "measured", "low", "high", "over", "runs"]
TABLES = ("table_*",)
FIGURES = ("figure_*", "theory", "implication", "another_teacher", "open_questions")
VERDICTS = (HOLDS, FAILS, OPEN, NOT_MEASURED, IMPOSSIBLE)
AGAINST = " (the paper's own numbers speak against it)"  # said of a sentence
ENOUGH = 5  # columns, for an interval over them


def read_records(folder: Path, names: Sequence[str] = TABLES) -> dict[str, dict[str, Any]]:
    """The records of tables, or of other names, in a folder: by file name without ending, in order."""
    found = [path for name in names for path in sorted(Path(folder).glob(f"{name}.json"))]
    return {path.stem: json.loads(path.read_text()) for path in found}


def gains(record: dict[str, Any], table: str = "") -> pd.DataFrame:
    """Published and measured gain of each row and column of a table's record, with the paired 95 % interval.

    Columns: `table`, `block`, `row`, `column`, `published`, `measured`, `low`, `high`, `over` (the reference's row) and
    `runs` (what was measured, whatever table shows it). Averages are left out, and so is a table of anything but per
    cent.
    """
    lines: list[tuple[Any, ...]] = []
    for row in record["rows"] if "%" in record.get("unit", "%") else ():
        for column, cell in row["cells"].items():
            gain = cell.get("gain", {})
            if column.startswith("Avg") or gain.get("published") is None:
                continue
            sign = -1 if column in (record.get("lower_is_better") or ()) else 1
            low, high = sorted(sign * gain.get(edge, math.nan) for edge in ("low", "high"))
            block = row["row"][0] if len(row["row"]) > 1 else ""
            told = (sign * gain["published"], sign * gain["mean"], low, high)
            runs = " ".join(row.get("runs", {}).values()) or f"{table} {block} {row['row'][-1]}"
            lines.append((table, block, row["row"][-1], column, *told, gain["over"], runs))
    return pd.DataFrame(lines, columns=GAINS)


def rank_correlations(found: pd.DataFrame) -> pd.DataFrame:
    """Spearman's ρ of published and measured gains: how well methods keep their order in each table, and in all.

    Methods are ranked within a block and column over one reference, itself included as zero, where they are three or
    more; rows that are each over a reference of their own are no methods to be ranked, and neither are rows of a single
    seed. ρ is averaged over the blocks of a column, then over columns, where there are `ENOUGH` with a 95 % interval
    over these (Student's t; columns share their runs, so that it is rather too narrow). A run that several tables show
    stands for another published row in each, and counts in each.

    Columns: `rank correlation`, `low`, `high`, `methods` (runs of one kind, references not counted), `columns`,
    `rankings` (a block and column each).
    """
    found = found[found["low"].notna()]
    lines = [{"table": table, **_ranked(part)} for table, part in [*found.groupby("table"), ("all", found)]]
    return pd.DataFrame(lines).set_index("table")


def _ranked(found: pd.DataFrame) -> dict[str, float]:
    groups = [group for _, group in found.groupby(["table", "block", "over", "column"]) if len(group) >= 2]
    told = [(group, rho) for group in groups if not math.isnan(rho := _rho(group))]
    if not told:
        unknown = dict.fromkeys(("rank correlation", "low", "high"), math.nan)
        return unknown | dict.fromkeys(("methods", "columns", "rankings"), 0)
    ranked = pd.DataFrame({"column": [group["column"].iloc[0] for group, _ in told], "rho": [rho for _, rho in told]})
    by_column = ranked.groupby("column")["rho"].mean().to_numpy()
    mean = accuracy(by_column[:, None], scale=1.0) if len(by_column) >= ENOUGH else Estimate(float(by_column.mean()))
    methods = pd.concat([group["runs"] for group, _ in told]).nunique()
    counts = {"methods": methods, "columns": len(by_column), "rankings": len(told)}
    low, high = (float(np.clip(end, -1.0, 1.0)) for end in (mean.low, mean.high))
    return {"rank correlation": mean.mean, "low": low, "high": high, **counts}


def _rho(group: pd.DataFrame) -> float:
    published, measured = ([0.0, *group[name]] for name in ("published", "measured"))
    if len(set(published)) < 2 or len(set(measured)) < 2:
        return float("nan")
    return float(spearmanr(published, measured)[0])


def verdicts(records: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Every claim of every table and its verdict, with its comparisons.

    `comparisons` is a list of their entries in the record, with `lower` where less is better: in such a column, or
    where the claim is that something is less. `ours` is whether the paper does not say it, `against` whether the
    paper's own numbers lie outside of what one of the comparisons says.
    """
    lines = [
        {
            "table": name,
            "claim": claim["claim"],
            "ours": claim.get("ours", False),
            "verdict": claim["verdict"],
            "comparisons": _comparisons(claim["comparisons"], record),
            "against": _spoken_against(claim, record),
        }
        for name, record in records.items()
        for claim in record.get("claims", ())
    ]
    return pd.DataFrame(lines, columns=["table", "claim", "ours", "verdict", "comparisons", "against"])


def _spoken_against(claim: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether the published numbers contradict a claim; not where all its comparisons were left out."""
    against = [_against(found, record) for found in claim["comparisons"]]
    return bool(against) and (all if claim.get("some") else any)(against)


def _against(comparison: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether the published numbers contradict a comparison; not where one of them is missing."""
    if not {"above", "below"} & comparison.keys():
        return False  # an older record, without the range of what was not measured
    cells = {SEPARATOR.join(row["row"]): row["cells"] for row in record.get("rows", ())}
    lower = record.get("lower_is_better") or ()

    def printed(row: str) -> float:
        value = published_on(cells.get(row, {}), comparison["on"], lower)
        return math.nan if value is None else value

    gain = value_of(comparison["first"], printed) - value_of(comparison["second"], printed)
    return gain <= comparison.get("above", -math.inf) or gain >= comparison.get("below", math.inf)


def published_on(cells: dict[str, Any], on: str, lower: Sequence[str]) -> float | None:
    """What a record's row has published on a column, or on the mean of several, in which more is better.

    >>> published_on({"A": {"published": 20.0}, "C": {"published": 60.0}}, "mean of A, C", ["C"])
    30.0
    """
    values = {name: cells.get(name, {}).get("published") for name in columns_of(on)}
    if None in values.values() or on in values:
        return values.get(on)
    return float(np.mean([100 - value if name in lower else value for name, value in values.items()]))


def counted(records: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """How many of the paper's claims each record has, and how many of which verdict."""
    said = verdicts(records)
    said = said[~said["ours"].astype(bool)]
    counts = pd.crosstab(said["table"], said["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    counts.insert(0, "claims", counts.sum(axis=1))
    return counts


def tally(records: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """`counted` of tables and of all of them, with their rank correlation as text."""
    counts, ranks = counted(records), rank_correlations(all_gains(records))
    counts.loc["all"] = counts.sum()
    told = {
        table: "—" if math.isnan(rank) else Estimate(rank, low, high).text(2)
        for table, rank, low, high in ranks[["rank correlation", "low", "high"]].itertuples()
    }
    return counts.assign(**{"rank correlation": [told.get(str(table), "—") for table in counts.index]})


def all_gains(records: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """`gains` of all tables."""
    found = [gains(record, name) for name, record in records.items()]
    return pd.concat(found) if found else gains({"rows": []})


def named(stem: str) -> str:
    """A record's name for people: `table_01` as `Table 1`, `open_questions` as `Open questions`.

    >>> named("table_01"), named("open_questions")
    ('Table 1', 'Open questions')
    """
    kind, _, number = stem.partition("_")
    return f"{kind.capitalize()} {number.lstrip('0')}" if number.isdigit() else stem.replace("_", " ").capitalize()


def _comparisons(comparisons: Sequence[dict[str, Any]], record: dict[str, Any]) -> list[dict[str, Any]]:
    lower = record.get("lower_is_better") or ()
    return [{**found, "lower": found["on"] in lower or "above" not in found} for found in comparisons]
