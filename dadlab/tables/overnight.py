"""Overnight: all notebooks of the first paper by papermill, then the report; what is done already is not run again.

python -m dadlab.tables.overnight
python -m dadlab.tables.overnight --profile imagenet --jobs 1 --only table_01 table_02
python -m dadlab.tables.overnight -p seeds "[0, 1]"

The first writes the committed records anew. What was asked for with other parameters is written below `--runs-dir`, in
`results`, unless told, so that no trial takes a record's place.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import papermill

from dadlab.files import ROOT
from dadlab.fingerprints import fingerprint, sha256
from dadlab.notebooks import execute, shown, typed, write_html
from dadlab.profile import PROFILES, nearest
from dadlab.tables.measured import NOT_RUN, SEEDS
from dadlab.tables.report_page import write_page

FOLDERS = ("tables", "figures")
OTHERS = ("spectra",)  # notebooks of the second paper
RECORDS, REPORT = "papers/dad/results", "papers/dad/report.html"  # the committed ones
PUBLISHED = "fashion-mnist"  # folder of Fashion-MNIST's published files
# Parameters of the committed records that a clone alone cannot follow.
OURS: dict[str, dict[str, Any]] = {
    "another_teacher": {"photographs": PUBLISHED, "again": {"teacher": [1, 2], "discretizer": [1, 2]}},
    "implication": {"photographs": PUBLISHED},
}
_OPTIONS = {"profile": "--profile", "runs_dir": "--runs-dir", "out": "--results"}


def notebooks(only: Sequence[str] = ()) -> list[Path]:
    """The first paper's tables and figures, or those named.

    Raises:
        ValueError: no notebook of that name.
    """
    found = {path.stem: path for name in FOLDERS for path in sorted((ROOT / "notebooks" / name).glob("*.ipynb"))}
    found = {name: path for name, path in found.items() if name not in OTHERS}
    return [nearest(name, found, "notebook") for name in only] if only else list(found.values())


def run_all(
    parameters: Mapping[Path, dict[str, Any]], executed: Path, *, jobs: int = 1, again: bool = False
) -> dict[str, str]:
    """Run notebooks, saying one line a notebook.

    A notebook is done once it has run to its end with the same parameters and the same code, and its record is there
    and lacks no run: one that did is read again. After a kill the next call begins with those that are not done.

    Args:
        parameters: notebook → its parameters; those that it does not know are left out.
        executed: folder for executed notebooks and their HTML.
        jobs: notebooks at a time.
        again: also those that are done.

    Returns:
        Name → the line of the cell that failed, or "" for those that ran to their end.
    """
    executed.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    code = _code()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {}
        for path, every in parameters.items():
            known = papermill.inspect_notebook(path)
            given = {name: value for name, value in every.items() if name in known}
            stamp, key = executed / f"{path.stem}.done", fingerprint(path.read_text(), given, code)
            whole = "out" not in given or _whole(ROOT / given["out"])
            if not again and whole and stamp.is_file() and stamp.read_text() == key:
                failures[path.stem] = ""
                print(f"{path.stem:12} done before", flush=True)
            else:
                stamp.unlink(missing_ok=True)
                waiting[pool.submit(_run, path, executed, given)] = (path, stamp, key)
        for future in as_completed(waiting):
            path, stamp, key = waiting[future]
            try:
                failures[path.stem], seconds = future.result()
            except BrokenProcessPool:
                failures[path.stem], seconds = "ended: its process or one beside it was killed", 0.0
            print(f"{path.stem:12} {failures[path.stem] or f'done in {seconds:.0f} s'}", flush=True)
            if not failures[path.stem]:
                stamp.write_text(key)
    return failures


def _whole(record: Path) -> bool:
    """Whether a record is there and has all the runs that it asked for; rows that nobody can train are none."""
    try:
        found = json.loads(record.read_text())
    except (OSError, json.JSONDecodeError):
        return False
    rows = found.get("rows", ())
    return not found.get("missing") and not any(row.get("missing", "").startswith((NOT_RUN, SEEDS)) for row in rows)


def _code() -> str:
    """A fingerprint of the package and of the papers' data, committed or not."""
    files = [path for pattern in ("dadlab/**/*.*", "papers/*/*.json") for path in sorted(ROOT.glob(pattern))]
    return fingerprint({str(path.relative_to(ROOT)): sha256(path) for path in files if "__pycache__" not in path.parts})


def _run(path: Path, executed: Path, parameters: dict[str, Any]) -> tuple[str, float]:
    started = time.monotonic()
    failure = execute(path, executed / path.name, parameters)
    if not failure:
        write_html(executed / path.name)
    return failure, time.monotonic() - started


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run the notebooks, write the report, return the exit status."""
    parser = argparse.ArgumentParser("python -m dadlab.tables.overnight", description="run the first paper's notebooks")
    parser.add_argument("--profile", default="fashion", help="fashion or imagenet")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument(
        "--results",
        help=f"where records are written; {RECORDS}, or, with -p or a profile of your own, below --runs-dir",
    )
    parser.add_argument("--report", help="the page on them; likewise")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="notebooks at a time")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="some notebooks, such as table_01")
    parser.add_argument("--again", action="store_true", help="also those that are done")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter of all"
    )
    given = parser.parse_args(arguments)
    try:
        nearest(given.profile, PROFILES, "profile")
        if given.jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {given.jobs}")
        paths = notebooks(given.only)
        _check_parameters([name for name, _ in given.p], paths)
    except ValueError as error:
        print(f"dadlab.tables.overnight: {error}", file=sys.stderr)
        return 1
    if given.jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    shared = {"profile": given.profile, "runs_dir": given.runs_dir} | {name: typed(value) for name, value in given.p}
    ours = _as_ours(shared, paths)
    own = f"{given.runs_dir}/results/{given.profile}"
    results = given.results or (RECORDS if ours else own)
    report = given.report or (REPORT if ours else f"{own}/report.html")
    each = {path: {**shared, "out": f"{results}/{path.stem}.json"} for path in paths}
    each = _repeated(each) if ours else each
    executed = ROOT / given.runs_dir / "notebooks" / given.profile
    failures = run_all(each, executed, jobs=given.jobs, again=given.again)
    write_page(ROOT / results, ROOT / report)
    print(f"notebooks: {shown(executed)}\nreport:    {shown(ROOT / report)}")
    return int(any(failures.values()))


def _as_ours(given: Mapping[str, Any], paths: Sequence[Path]) -> bool:
    """Whether parameters are those of the committed records; where runs live is none of a record's."""
    for path in paths:
        defaults = {name: typed(info["default"]) for name, info in papermill.inspect_notebook(path).items()}
        ours = {**defaults, **OURS.get(path.stem, {})}
        if any(given[name] != ours[name] for name in set(given) & set(ours) - {"runs_dir"}):
            return False
    return True


def _repeated(parameters: Mapping[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    """The same with what our records had beside; those that need files that are not there are left out, and named."""
    there, repeated = (ROOT / PUBLISHED).is_dir(), {}
    for path, given in parameters.items():
        if path.stem not in OURS or there:
            repeated[path] = {**given, **OURS.get(path.stem, {})}
        else:
            print(f"{path.stem:12} left as it is: {PUBLISHED}/ is not there (train_teacher.ipynb says where to get it)")
    return repeated


def _check_parameters(names: Sequence[str], paths: Sequence[Path]) -> None:
    """Raise a `ValueError` at a parameter that none of the notebooks has, or that has an option of its own."""
    known = {name: None for path in paths for name in papermill.inspect_notebook(path)}
    for name in names:
        if name in _OPTIONS:
            raise ValueError(f"-p {name}: say {_OPTIONS[name]} instead")
        nearest(name, known, "parameter")


if __name__ == "__main__":
    sys.exit(main())
