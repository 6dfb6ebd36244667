"""A batch of tiny notebooks: one line each, nothing twice, failures said."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from dadlab.tables import overnight


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
