"""The demo: run `notebooks/quickstart.ipynb` with papermill, print its table, say where the notebook and its HTML are.

python -m dadlab.demo
python -m dadlab.demo -p limit 1000 -p epochs 6
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbconvert
import papermill
import torch
from matplotlib.figure import Figure

from dadlab.data import load_split
from dadlab.diagram import Codes, method_diagram
from dadlab.discretizer import VQGAN, load_discretizer
from dadlab.examples import discretize_adversarially, sample_generators
from dadlab.profile import Profile, nearest
from dadlab.teacher import load_teacher

ROOT = Path(__file__).resolve().parents[1]
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


def typed(text: str) -> Any:
    """A value where the text reads as one of Python's or of JSON's, else the text."""
    for read in (ast.literal_eval, json.loads):
        with contextlib.suppress(ValueError, SyntaxError):
            return read(text)
    return text


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


def execute(notebook: Path, executed: Path, parameters: dict[str, Any]) -> str:
    """Run a notebook in the project's root; returns the error line of the cell that failed, or ""."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters,
            kernel_name="python3",
            cwd=ROOT,
            progress_bar=sys.stderr.isatty(),
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except papermill.PapermillExecutionError as error:
        return f"cell {error.exec_count} failed: {error.ename}: {error.evalue}"
    return ""


def write_html(executed: Path) -> Path:
    """Write an executed notebook as one HTML file beside it, with nothing to fetch."""
    exporter = nbconvert.HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    page = executed.with_suffix(".html")
    page.write_text(exporter.from_filename(str(executed))[0], encoding="utf-8")
    return page


def shown(path: Path) -> str:
    """A path relative to where the reader stands, where that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


def picture(profile: Profile | None = None, *, split: str = "val", count: int = 64) -> Figure:
    """DAD in one picture: `chosen_sample`'s figure."""
    return chosen_sample(profile, split=split, count=count)[0]


def chosen_sample(
    profile: Profile | None = None, *, split: str = "val", count: int = 64
) -> tuple[Figure, dict[str, Any]]:
    """DAD in one picture, and its numbers: of the first photographs the kept one that fooled φ most.

    Args:
        profile: data, teacher, discretizer and attack; the default one unless told.
        split: whose photographs.
        count: how many to choose among.

    Returns:
        The figure; the photograph's `index` in the split, its `class`, and `probabilities`: φ's of that class, in per
        cent, on x, Q(x), x′ and Q(x′). Where Q has codes, how many there are, how many of x′ are others than those of
        x, and how many of Q(x).
    """
    profile = profile or Profile()
    photographs = load_split(profile.data, split, image_size=profile.image_size)
    teacher, discretizer = load_teacher(profile.teacher, photographs.classes), load_discretizer(profile.discretizer)
    index = torch.arange(min(count, len(photographs)))
    images, labels = photographs.images(index), photographs.labels[index]
    generators = sample_generators(index, 0)
    made = discretize_adversarially(images, labels, teacher, discretizer, profile.attack, generators)
    said = [teacher(stage).softmax(1) for stage in (made.clean, made.reconstructed, made.perturbed, made.images)]
    best = int(torch.where(made.accepted, said[2][index, labels], 2.0).argmin())
    shares = [round(100 * float(stage[best, labels[best]]), 2) for stage in said]
    facts = {"index": best, "class": photographs.classes[int(labels[best])], "probabilities": shares}
    codes = None
    if isinstance(discretizer, VQGAN):
        with torch.no_grad():
            x, reconstructed, perturbed = map(discretizer.encode, (made.clean, made.reconstructed, made.perturbed))
        codes = Codes(x, reconstructed, perturbed, discretizer.quantize.embedding.weight)
        changed, alone = codes.changed(best)
        facts |= {"codes": x[0].numel(), "codes changed": changed, "codes changed by Q alone": alone}
    return method_diagram(made, photographs.classes, labels, said, sample=best, codes=codes), facts


if __name__ == "__main__":
    sys.exit(main())
