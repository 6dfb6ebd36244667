"""Notebooks run by papermill from the command line, and written as pages."""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import nbconvert
import papermill

from dadlab.files import ROOT


def typed(text: str) -> Any:
    """A value where the text reads as one of Python's or of JSON's, else the text."""
    for read in (ast.literal_eval, json.loads):
        with contextlib.suppress(ValueError, SyntaxError):
            return read(text)
    return text


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
