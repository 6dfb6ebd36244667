"""What the report shows of a figure's record beside its picture: entries as tables, and rows averaged over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dadlab.estimates import Estimate
from dadlab.tables.audit import over_seeds
from dadlab.tables.rows import SEPARATOR
from dadlab.tables.view import cell_text

# Entry of a record → what it is.
SHOWN = {
    "figure_01": {
        "drawn": (
            "The photograph's place in the split; φ's probability of its class on x, Q(x), x′, Q(x′), %; how many "
            "codes it has, in how many x′ differs from x, and Q(x), without attack"
        )
    },
    "figure_02": {
        "rank_correlation": "Rank correlation of distance and performance",
        "slopes": "Slope of DAD's gain along the distance of shifts, points a unit, over all and over all but one",
    },
    "figure_03": {"kinds": "Over the photographs chosen among"},
    "theory": {
        "risks": "r(P) and r(P′): zero-one risk of every method on every distribution",
        "within": (
            "r(P, ε) and r_worst(P, ε): mean and largest risk over the distributions at hand within ε of P; risk "
            "has no unit, ε that of the judge's features"
        ),
        "bounds": (
            "Lemmas 3.1 and 3.2: both sides, for every method and test distribution; informative below 1, if w's unit "
            "were of a kind with risk, as 3.1 takes it"
        ),
        "lemma_3": "Lemma 3.3: w(P, P*) ≤ ε, over Euclidean distance of pixels in [0, 1]",
        "lemma_4": "Both sides of Lemma 3.4, in units of the judge's features",
        "set_distances": "w(P′, <b>P</b>): the mean distance of a test distribution to a set, in the same units",
    },
    "implication": {"gains": "Gain of students over those without teacher, points", "variation": "Over shifts, points"},
    "another_teacher": {
        "teachers": "Top-1 of the teacher, zero-shot, and samples that the filter keeps, %",
        "lead": "DAD − KD of the same teacher, points",
        "over": "The same, averaged over seeds of teacher and discretizer, with intervals over these alone",
        "spread": "Means, and standard deviations over what was made again and over students' seeds, points",
    },
    "open_questions": {
        "effective_robustness": "Effective robustness: points above the line of plain students",
        "beyond_the_same_length": "The same, less what plain students trained as long lie above that line themselves",
        "classes": "Top-1 on each class over all shifts, %",
        "corruptions": "Error under each corruption, %",
    },
}
_ON_EDGE = ("classes", "corruptions")  # many columns, few rows: shown the other way round
_NAMES = ("title", "method", "field", "value", "ε")  # columns of a list that say what a row is

# Of the entry `rows`, a line a method, seed and split: quantities → what they are.
_AUDITED = {
    ("ECE",): "Calibration: expected calibration error, points",
    ("top-1", "top-1 of surest 80%", "top-1 of surest 50%"): (
        "Selective accuracy: top-1 on all photographs and on those that a student is surest of, %"
    ),
    ("shared", "expected", "repeated", "consistency", "same answer"): (
        "Teacher bias: of a student's errors the share on which the teacher errs as well, and that share were the two "
        "unrelated; of the teacher's errors the share that the student repeats; 100 κ, agreement in right and wrong "
        "beyond chance; of the errors that both make, how many are the same, %"
    ),
}


def figure_tables(name: str, record: dict[str, Any]) -> list[tuple[str, pd.DataFrame]]:
    """What there is of a figure's numbers: what they are, with their entry in the record, and a table of texts."""
    audited = _audited(record.get("rows", ())) if name == "open_questions" else []
    shown = [(entry, what) for entry, what in SHOWN.get(name, {}).items() if record.get(entry)]
    entries = [(f"{what} (<code>{entry}</code>)", _entry(entry, record[entry])) for entry, what in shown]
    return [(what, frame.map(_text)) for what, frame in audited + entries]


def _audited(rows: Sequence[dict[str, Any]]) -> list[tuple[str, pd.DataFrame]]:
    """Means over seeds with their 95 % intervals, a row a method and quantity, a column a split."""
    lines = pd.DataFrame(rows)
    there = {quantities: what for quantities, what in _AUDITED.items() if {*quantities} <= {*lines.columns}}
    return [
        (f"{what}, over seeds (<code>rows</code>)", _by_method(lines, quantities)) for quantities, what in there.items()
    ]


def _by_method(lines: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    found = {quantity: over_seeds(lines, quantity) for quantity in quantities}
    each = {
        f"{method}{SEPARATOR}{quantity}": found[quantity].loc[method]
        for method in lines["method"].unique()
        for quantity in quantities
    }
    return pd.DataFrame(each).T[list(lines["split"].unique())]


def _entry(name: str, entry: Any) -> pd.DataFrame:
    return _frame(entry).T if name in _ON_EDGE else _frame(entry)


def _frame(entry: Any) -> pd.DataFrame:
    """An entry of a record as a table: of rows, of name → values, or of name → name → values."""
    if isinstance(entry, list):
        found = pd.DataFrame(entry)
        names = [column for column in _NAMES if column in found]
        return found[[*names, *found.columns.difference(names, sort=False)]]
    rows: dict[str, Any] = {}
    for name, line in entry.items():
        if not isinstance(line, dict) or _is_estimate(line):
            rows.setdefault("", {})[name] = line
        elif all(isinstance(cell, dict) and not _is_estimate(cell) for cell in line.values()):
            rows |= {f"{name}{SEPARATOR}{each}": cells for each, cells in line.items()}
        else:
            rows[name] = line
    return pd.DataFrame(rows.values(), index=list(rows))


def _is_estimate(cell: Any) -> bool:
    return isinstance(cell, dict) and {"mean", "low", "high"} <= cell.keys()


def _text(cell: Any) -> str:
    if _is_estimate(cell):
        cell = Estimate(**{end: cell[end] for end in ("mean", "low", "high")})
    if isinstance(cell, Estimate):
        return cell_text(None if pd.isna(cell.mean) else cell)
    if isinstance(cell, float):
        return "—" if pd.isna(cell) else f"{cell:.{3 if abs(cell) < 1 else 2}f}"
    return str(cell)
