"""A batch of tiny notebooks: one line each, nothing twice, failures said; the page that follows."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from dadlab.tables import overnight
from dadlab.tables.report_page import write_page

from .test_summary import RECORD


def write_notebook(path: Path, source: str) -> Path:
    cells = [nbformat.v4.new_code_cell("x = 1\nout = ''", metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(source))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.mark.slow
def test_each_notebook_runs_once_and_a_failed_one_again(tmp_path, capsys):
    good = write_notebook(tmp_path / "good.ipynb", "from pathlib import Path\nPath(out).write_text(str(x))")
    bad = write_notebook(tmp_path / "bad.ipynb", "raise ValueError('no such thing')")
    given = {path: {"x": 5, "unknown": 1, "out": str(tmp_path / path.stem)} for path in (good, bad)}
    first = overnight.run_all(given, tmp_path / "executed")
    assert first == {"good": "", "bad": "cell 3 failed: ValueError: no such thing"}
    assert (tmp_path / "good").read_text() == "5"
    assert (tmp_path / "executed" / "good.html").is_file()
    assert len(capsys.readouterr().out.splitlines()) == 2
    (tmp_path / "good").unlink()
    again = overnight.run_all({good: given[good]}, tmp_path / "executed")
    assert again == {"good": ""}
    assert "done before" in capsys.readouterr().out
    assert not (tmp_path / "good").exists()


def test_the_first_papers_notebooks_are_found():
    names = [path.stem for path in overnight.notebooks()]
    assert [name for name in names if name.startswith("table")] == [f"table_{n:02d}" for n in range(1, 13)]
    assert "spectra" not in names
    assert [path.stem for path in overnight.notebooks(["table_03"])] == ["table_03"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "fashoin"], "unknown profile 'fashoin': did you mean 'fashion'?"),
        (["--only", "table_1"], "unknown notebook 'table_1': did you mean 'table_1"),
        (["--jobs", "0"], "jobs must be at least 1"),
    ],
)
def test_a_bad_command_line_is_one_line(arguments, message, capsys):
    assert overnight.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


ROW = {"runs": {"0": "kd-x"}, "missing": "", "what": "kd, vit_s, augreg <medium1>"}


def test_page_has_every_claim_and_number_with_its_record(tmp_path):
    facts = {"profile": {"data": "fashion"}, "commit": "abc1234", "machine": "a <test>", "seeds": [0], "title": "T"}
    record = {**RECORD, **facts, "rows": [{**row, **ROW} for row in RECORD["rows"]]}
    for row in record["rows"]:
        row["cells"] = {c: {"low": 0.0, "high": 2.0, **v} for c, v in row["cells"].items() if c != "Avg"}
    record["rows"][0]["cells"]["C"] = {"published": None}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table_01.json").write_text(json.dumps(record))
    figure = {
        "commit": "abc1234",
        "machine": "m",
        "claims": [{**RECORD["claims"][0], "claim": "the farther the better"}],
    }
    (tmp_path / "results" / "figure_02.json").write_text(json.dumps(figure))
    (tmp_path / "results" / "figure_02.png").write_bytes(b"png")
    page = write_page(tmp_path / "results", tmp_path / "report.html").read_text()
    assert "b is best" in page
    assert "<a href='#figure_02'>Figure 2</a></td><td class=text>the farther the better" in page
    assert "<h2 id='figure_02'>Figure 2</h2><img" in page
    assert "href='results/figure_02.json'" in page
    assert "augreg &lt;medium1&gt;" in page
    assert "href='results/table_01.json'" in page
    assert "4.0 ± 1.0" in page
    assert "a &lt;test&gt;" in page
    assert "miniature" in page
    assert str(tmp_path) not in page


def test_page_of_nothing_says_so(tmp_path):
    page = write_page(tmp_path, tmp_path / "report.html").read_text()
    assert "no data yet" in page
