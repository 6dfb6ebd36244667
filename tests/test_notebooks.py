"""Notebooks are committed clean, and quickstart runs from end to end at toy size, offline, on a CPU."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from dadlab import demo
from dadlab.evaluate import SHIFTS
from dadlab.files import ROOT

FOUND = sorted((ROOT / "notebooks").rglob("*.ipynb"))
NOTEBOOKS = [path for path in FOUND if ".ipynb_checkpoints" not in path.parts]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].source.startswith("# "), "a title comes first"
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert not [cell.id for cell in code if cell.outputs or cell.execution_count], "strip the outputs"
    assert not [cell.id for cell in code if any(line.startswith("def ") for line in cell.source.splitlines())]


@pytest.fixture(scope="module", autouse=True)
def _offline_on_cpu() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a toy run of quickstart, with committed results that stand in for the real ones."""
    folder = tmp_path_factory.mktemp("quickstart")
    splits = [*SHIFTS, "rendition+sketch"]
    span = {"mean": 40.0, "low": 38.0, "high": 42.0}
    stored = {
        "seeds": [0, 1],
        "machine": "a test",
        "rows": [{"method": m, "split": s, "n": 9, "top1": span, "seeds": {}} for m in ("plain", "kd") for s in splits],
        "differences": [{"first": "dad", "second": "kd", "split": split, **span} for split in splits],
    }
    (folder / "main.json").write_text(json.dumps(stored))
    toy = {"limit": 60, "epochs": 1, "views": 2, "shown": 3, "runs_dir": str(folder)}
    assert demo.run({**toy, "committed": str(folder / "main.json")}) == 0
    return folder


def test_quickstart_writes_its_table(ran: Path) -> None:
    header, columns, *rows = (ran / "table.txt").read_text().splitlines()
    assert "60 studio photographs" in header
    assert columns.split() == [*SHIFTS, "rendition+sketch"]
    assert [row.split()[0] for row in rows] == ["teacher", "plain", "KD", "DAD"]
    assert all(0 <= float(value) <= 100 for row in rows for value in row.split()[1:])


def test_quickstart_shows_its_figures(ran: Path) -> None:
    (executed,) = ran.glob("quickstart*.ipynb")
    shown = [out for cell in nbformat.read(executed, 4).cells for out in cell.get("outputs", [])]
    assert not [out for out in shown if "<Figure" in out.get("data", {}).get("text/plain", "") and len(out.data) == 1]
    assert sum("image/png" in out.get("data", {}) for out in shown) >= 5


def test_quickstart_writes_its_metrics(ran: Path) -> None:
    metrics = json.loads((ran / "metrics.json").read_text())
    assert metrics["profile"]["limit"] == 60
    assert metrics["top1"]["teacher"]["studio"] > 80
    assert sum(metrics["samples"].values()) == 60
    assert set(metrics["dad over kd"]["sketch"]) == {"mean", "low", "high"}


def test_quickstart_draws_its_figures_and_warns_of_nothing(ran: Path) -> None:
    outputs = [out for cell in nbformat.read(ran / "quickstart.ipynb", 4).cells for out in cell.get("outputs", [])]
    assert [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"] == []
    assert sum("image/png" in out.get("data", {}) for out in outputs) == 5
    assert "<img" in (ran / "quickstart.html").read_text()


def test_inspect_waits_for_every_view_it_shows() -> None:
    cells = nbformat.read(ROOT / "notebooks" / "inspect.ipynb", as_version=4).cells
    shown = [match[1] for cell in cells if (match := re.fullmatch(r"(\w+) = [A-Z]\w+\(.*\)\n\1", cell.source))]
    assert len(shown) == 5
    assert f"for view in ({', '.join(shown)}):\n    view.wait()" in cells[-1].source


def test_demo_refuses_unknown_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["-p", "epoch", "1"]) == 1
    assert capsys.readouterr().err == "dadlab.demo: unknown notebook parameter 'epoch': did you mean 'epochs'?\n"


def test_demo_says_where_the_notebook_should_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"quickstart\.ipynb: not found"):
        demo.run({}, tmp_path / "quickstart.ipynb")


def test_demo_reports_a_failing_cell_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [nbformat.v4.new_code_cell(f"runs_dir = {str(tmp_path)!r}", metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell("raise ValueError('no such thing')"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (tmp_path / "broken").mkdir()
    path = tmp_path / "broken" / "failing.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    assert demo.run({"runs_dir": str(tmp_path)}, path) == 1
    error = capsys.readouterr().err
    assert "ValueError: no such thing" in error
    assert "failing.ipynb" in error
    assert "Traceback" not in error
