"""The demo: run `notebooks/quickstart.ipynb` with papermill, print its table, say where the notebook and its HTML are.

python -m dadlab.demo
python -m dadlab.demo -p limit 1000 -p epochs 6
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import papermill

from dadlab.files import ROOT
from dadlab.notebooks import execute, shown, typed, write_html
from dadlab.profile import nearest

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
LEGEND = """plain learned from labels, KD also from the teacher's answers, DAD also from its answers on its own
adversarial examples. No student has seen rendition, sketch or stylized. One seed: README has the evidence."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run the demo, return the exit status."""
    parser = argparse.ArgumentParser("python -m dadlab.demo", description="run notebooks/quickstart.ipynb")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    given = {name: typed(value) for name, value in parser.parse_args(arguments).p}
    try:
        return run(given)
    except ValueError as error:
        print(f"dadlab.demo: {error}", file=sys.stderr)
        return 1


def run(given: dict[str, Any], notebook: Path = NOTEBOOK) -> int:
    """Run a notebook with some of its parameters set; 1 where a cell fails.

    Raises:
        ValueError: the notebook is not there, or has no such parameter.
    """
    if not notebook.is_file():
        raise ValueError(f"{notebook}: not found; run the demo from a checkout installed with `pip install -e .`")
    known = papermill.inspect_notebook(notebook)
    for name in given:
        nearest(name, known, "notebook parameter")
    runs = ROOT / given.get("runs_dir", "runs/quickstart")
    runs.mkdir(parents=True, exist_ok=True)
    executed, started = runs / notebook.name, time.monotonic()
    print(f"running {shown(notebook)}, a few minutes …", flush=True)
    failure = execute(notebook, executed, given)
    if failure:
        print(f"{failure}\nThe notebook up to that cell: {shown(executed)}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    page = write_html(executed)
    print(f"\n{(runs / 'table.txt').read_text()}\n{LEGEND}\n\nrun in {seconds:.0f} s")
    print(f"notebook  {shown(executed)}\nHTML      {shown(page)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
