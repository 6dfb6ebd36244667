"""Tables for people: Markdown from result files; `python -m dadlab.report` renews them in README and FINDINGS.

A page has places for them, each between `<!-- PLACE:begin -->` and `<!-- PLACE:end -->`: `results` for an experiment,
`methods` for all methods side by side, `claims` for what became of the first paper's claims.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dadlab import plots
from dadlab.cost import step_cost
from dadlab.estimates import Estimate
from dadlab.methods import METHODS
from dadlab.profile import make_profile
from dadlab.style import title_of
from dadlab.tables.sentences import IMPOSSIBLE, LATER, NOT_MEASURED
from dadlab.tables.summary import AGAINST, counted, named, read_records, tally, verdicts
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN

README, FINDINGS = "README.md", "papers/FINDINGS.md"
IN_SHORT = ("plain", "kd", "kd_two_views", "dad_q", "dad", "augmix", "kd_augmix", "dad_augmix")  # README's methods
CORRUPTION = {"mce": "mCE ↓", "corruption_error": "C, error ↓"}


def markdown_table(results: dict[str, Any]) -> str:
    """Top-1 a method and split as `mean ± half interval`, then errors under corruption, of what `compare` returned."""
    splits = _in_order(results, "split")
    count = {row["split"]: row["n"] for row in results["rows"]}
    cells = {(row["method"], row["split"]): row["top1"] for row in results["rows"]}
    errors = {title: results[key] for key, title in CORRUPTION.items() if results.get(key)}
    head = ["method", *(f"{split} (n = {count[split]:,})" for split in splits), *errors]
    lines = []
    for method in _in_order(results, "method"):
        tested = [_top1(cells[method, split]) for split in splits]
        lines.append([title_of(method), *tested, *(_top1(each[method]) for each in errors.values())])
    return _table(head, lines)


def markdown_methods(results: dict[str, Any], splits: list[str], methods: Sequence[str] = ()) -> str:
    """Methods, the best on the first split first: what a step costs, top-1 with half its interval, the error under
    corruption, and on the first split how far DAD is ahead.

    Passes are the student's forward ones a clean image (`dadlab.cost`).

    Args:
        results: what `compare` returned.
        splits: columns.
        methods: lines; all unless told.
    """
    cells = {(row["method"], row["split"]): row["top1"] for row in results["rows"]}
    ahead = {d["second"]: d for d in results["differences"] if (d["first"], d["split"]) == ("dad", splits[0])}
    profile = make_profile(**results["profile"])
    lines = []
    for method in sorted(methods or _in_order(results, "method"), key=lambda name: -cells[name, splits[0]]["mean"]):
        passes = f"{step_cost(METHODS[method], profile).forward:g}"
        tested = [_top1(cells[method, split]) for split in splits]
        apart = _difference(ahead[method]) if method in ahead else "—"
        lines.append([title_of(method), passes, *tested, _top1(results["corruption_error"][method]), apart])
    head = ["method", "passes", *splits, CORRUPTION["corruption_error"], f"DAD − it, {splits[0]}"]
    return _table(head, lines)


def _in_order(results: dict[str, Any], what: str) -> list[str]:
    return list(dict.fromkeys(row[what] for row in results["rows"]))


def _top1(cell: dict[str, float]) -> str:
    return f"{cell['mean']:.1f} ± {(cell['high'] - cell['low']) / 2:.1f}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)) + "\n"


def markdown_differences(results: dict[str, Any], splits: list[str]) -> str:
    """Paired differences with 95 % intervals, a line a pair, a column a split; bold where all pairs of a split
    together, by intervals that are wider accordingly, still have this one apart from zero."""
    lines = ["| difference, points | " + " | ".join(splits) + " |", "|" + " --- |" * (len(splits) + 1)]
    pairs = dict.fromkeys((d["first"], d["second"]) for d in results["differences"])
    for first, second in pairs:
        found = {d["split"]: d for d in results["differences"] if (d["first"], d["second"]) == (first, second)}
        cells = " | ".join(_difference(found[split]) for split in splits)
        lines.append(f"| {title_of(first)} − {title_of(second)} | {cells} |")
    return "\n".join(lines) + "\n"


def _difference(found: dict[str, Any]) -> str:
    low, high = (end or 0.0 for end in found.get("corrected", (0.0, 0.0)))  # None of a single image
    told = Estimate(*(found.get(end, math.nan) for end in ("mean", "low", "high"))).text(1)
    return f"**{told}**" if low > 0 or high < 0 else told


def beside(results: dict[str, Any], ablation: dict[str, Any], method: str, title: str) -> dict[str, Any]:
    """Results with one method of an ablation added under a title of its own, and its differences to other methods."""
    rows = [{**row, "method": title} for row in ablation["rows"] if row["method"] == method]
    differences = [{**found, "first": title} for found in ablation["differences"] if found["first"] == method]
    errors = {key: {**results[key], title: ablation[key][method]} for key in CORRUPTION if results.get(key)}
    added = {"rows": results["rows"] + rows, "differences": results["differences"] + differences}
    return {**results, **added, **errors}


def markdown_claims(records: dict[str, dict[str, Any]]) -> str:
    """What became of a paper's claims: a line a table with its verdicts, then those that hold, and that do not.

    Args:
        records: of tables, from `dadlab.tables.summary.read_records`.
    """
    counts, said = tally(records), verdicts(records)
    said = said[~said["ours"]]
    lines = ["| " + " | ".join(["table", *counts.columns]) + " |", "|" + " --- |" * (1 + len(counts.columns))]
    for name, line in counts.iterrows():
        lines.append("| " + " | ".join([named(str(name)), *map(str, line)]) + " |")
    for verdict in (HOLDS, FAILS):
        found = said[said["verdict"] == verdict]
        if len(found):
            lines += ["", f"What {verdict} here:", ""]
            lines += [f"- {named(line.table)}: {line.claim}{AGAINST * line.against}." for line in found.itertuples()]
    return "\n".join(lines) + "\n"


def claims_in_short(records: dict[str, dict[str, Any]]) -> str:
    """How many of a paper's claims have which verdict, in two sentences."""
    count, said = counted(records).sum(), verdicts(records)
    before = said[~said["ours"].astype(bool) & ~said["claim"].str.contains(LATER, regex=False)]["verdict"]
    told = [f"{count[HOLDS]} hold here", f"{count[FAILS]} do not", f"{count[OPEN]} {OPEN}"]
    told += [f"{count[NOT_MEASURED]} are {NOT_MEASURED}"] * bool(count[NOT_MEASURED])
    told += [f"{count[IMPOSSIBLE]} {IMPOSSIBLE}"] * bool(count[IMPOSSIBLE])
    listed = f"{(before == HOLDS).sum()} of those that hold and {(before == FAILS).sum()} of those that do not"
    first = f"Of {count['claims']} claims that the first paper makes of its tables {', '.join(told[:-1])}"
    return f"{first}, and {told[-1]}. Before its table's results were known, {listed} had been listed.\n"


def update_page(page: Path, place: str, text: str) -> None:
    """Write a text between a page's markers `<!-- PLACE:begin -->` and `<!-- PLACE:end -->`.

    Raises:
        ValueError: the markers are missing.
    """
    whole = Path(page).read_text()
    marks = re.compile(rf"(<!-- {place}:begin -->\n).*?(<!-- {place}:end -->)", re.DOTALL)
    if not marks.search(whole):
        raise ValueError(f"{page}: the markers '{place}:begin' and '{place}:end' are missing")
    Path(page).write_text(marks.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", whole))


def gain_figure(results: dict[str, Any]) -> Figure:
    """Gains over KD on every single split, sorted by how much `plain` loses there from `studio`."""
    means = {(row["method"], row["split"]): row["top1"]["mean"] for row in results["rows"]}
    splits = [row["split"] for row in results["rows"] if row["method"] == "plain" and "+" not in row["split"]]
    gains: dict[str, dict[str, Estimate]] = {}
    for found in results["differences"]:
        if found["second"] == "kd" and found["split"] in splits:
            gains.setdefault(found["first"], {})[found["split"]] = Estimate(found["mean"], found["low"], found["high"])
    drop = {split: means["plain", "studio"] - means["plain", split] for split in splits}
    return plots.gains(gains, drop=drop)


def page_parts(results: Path) -> dict[tuple[str, str], str]:
    """What stands in each place of each page, from the records in a folder: (page, place) → text."""
    named = ("main", "broad", "methods_resnet_s")
    main, broad, methods = (json.loads((results / f"{name}.json").read_text()) for name in named)
    tables, records = beside(main, broad, "dad", "DAD, broad discretizer"), read_records(results)
    told = markdown_table(tables), markdown_differences(tables, ["rendition+sketch", "studio", "context"])
    shown = ["rendition+sketch", "context", "stylized", "studio"]
    return {
        (README, "results"): markdown_methods(methods, shown, IN_SHORT),
        (README, "claims"): claims_in_short(records),
        (FINDINGS, "results"): "\n".join(told),
        (FINDINGS, "methods"): markdown_methods(methods, shown),
        (FINDINGS, "claims"): markdown_claims(records),
    }


if __name__ == "__main__":
    results = Path("papers/dad/results")
    for (page, place), text in page_parts(results).items():
        update_page(Path(page), place, text)
    picture = gain_figure(json.loads((results / "main.json").read_text()))
    picture.savefig(results / "gain.png", dpi=200, bbox_inches="tight")
