"""How students that were trained twice differ: those under `runs/` from the same runs in the ledger.

Trained on another kind of CPU, or in another precision, a student is another one. Whether it is a better one is a
paired difference over seeds and photographs, and so is what a comparison between the two kinds may owe to it.

python -m benchmarks.trained_twice --out papers/dad/results/trained_twice.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dadlab.estimates import difference, rounded
from dadlab.evaluate import SHIFTS
from dadlab.files import ROOT, write_json
from dadlab.ledger import LEDGER, trained_twice
from dadlab.provenance import made_by, trained_by
from dadlab.run import read_run


def compared(runs_dir: Path, ledger: Path) -> list[dict[str, Any]]:
    """A row for each kind of run and split: top-1 under `runs_dir` minus top-1 in the ledger, in points.

    Columns: `method`, `student`, `split`, `seeds`, `photographs`, `answered otherwise, %`, the `difference` with its
    95 % interval, `largest` (of a single seed's, in size), and who `trained` the former.
    """
    kinds: dict[tuple[str, str], list[tuple[Path, Any, Any]]] = {}
    for folder, there, here in trained_twice(runs_dir, ledger):
        run = read_run(folder / "run.json")
        kinds.setdefault((run.method, run.student), []).append((folder, there, here))
    return [
        {"method": method, "student": student, "split": split, **_line(found, split)}
        for (method, student), found in kinds.items()
        for split in SHIFTS
    ]


def _line(found: Sequence[tuple[Path, Any, Any]], split: str) -> dict[str, Any]:
    there, here = (np.stack([run[side][split] for run in found]).astype(float) for side in (1, 2))
    moved = 100 * (here - there).mean(1)
    return {
        "seeds": sorted(read_run(folder / "run.json").seed for folder, *_ in found),
        "photographs": here.shape[1],
        "answered otherwise, %": round(100 * float((here != there).mean()), 1),
        "difference": rounded(difference(here, there)),
        "largest": round(float(np.abs(moved).max()), 2),
        "trained": [json.loads(told) for told in sorted({json.dumps(trained_by(folder)) for folder, *_ in found})],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print, and write where told to."""
    parser = argparse.ArgumentParser("python -m benchmarks.trained_twice", description="students trained twice")
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where the second ones are")
    parser.add_argument("--ledger", type=Path, default=ROOT / LEDGER, help="where the first ones are")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    rows = compared(given.runs_dir, given.ledger)
    if not rows:
        print(f"benchmarks.trained_twice: no run under {given.runs_dir.name} has a page", file=sys.stderr)
        return 1
    for row in rows:
        print(json.dumps({key: value for key, value in row.items() if key != "trained"}))
    if given.out:
        write_json(given.out, {**made_by("benchmarks.trained_twice", arguments), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
