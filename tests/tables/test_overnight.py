"""A batch of tiny notebooks: one line each, nothing twice, failures said."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dadlab.files import ROOT
from dadlab.tables import overnight


def write_notebook(path: Path, source: str) -> Path:
    cells = [nbformat.v4.new_code_cell("x = 1\nout = ''", metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(source))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


WRITE = "from pathlib import Path\nPath(out).write_text(f'{{\"x\": {x}}}')"
SECONDS = re.compile(r"done in \d+ s")


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Notebook → what its line said."""
    lines = [line.split(maxsplit=1) for line in SECONDS.sub("done", capsys.readouterr().out).splitlines()]
    return {name: words for name, words in lines}


@pytest.mark.slow
def test_each_notebook_runs_once_and_a_failed_one_again(tmp_path, capsys):
    good = write_notebook(tmp_path / "good.ipynb", WRITE)
    bad = write_notebook(tmp_path / "bad.ipynb", "raise ValueError('no such thing')")
    given = {path: {"x": 5, "unknown": 1, "out": str(tmp_path / path.stem)} for path in (good, bad)}
    first = overnight.run_all(given, tmp_path / "executed", jobs=2)
    assert first == {"good": "", "bad": "cell 3 failed: ValueError: no such thing"}
    assert json.loads((tmp_path / "good").read_text()) == {"x": 5}
    assert (tmp_path / "executed" / "good.html").is_file()
    assert said(capsys) == {"good": "done", "bad": "cell 3 failed: ValueError: no such thing"}
    again = {good: given[good]}
    assert overnight.run_all(again, tmp_path / "executed") == {"good": ""}
    assert said(capsys) == {"good": "done before"}
    (tmp_path / "good").unlink()
    overnight.run_all(again, tmp_path / "executed")
    assert said(capsys) == {"good": "done"}, "a record that is gone is made again"


@pytest.mark.parametrize(
    ("record", "whole"),
    [
        ('{"missing": [], "rows": [{"missing": ""}, {"missing": "no batch norm"}, {"x": 1}]}', True),
        ('{"rows": [{"missing": ""}, {"missing": "not run (dat, vit_s)"}]}', False),
        ('{"rows": [{"missing": "seeds 0, 1 alone"}]}', False),
        ('{"missing": ["dad-resnet_s-s0-0123"]}', False),
        ("{torn", False),
        (None, False),
    ],
)
def test_a_record_that_lacks_runs_is_read_again(tmp_path, record, whole):
    path = tmp_path / "table.json"
    if record is not None:
        path.write_text(record)
    assert overnight._whole(path) == whole


@pytest.mark.slow
def test_after_a_kill_midway_the_rest_is_run(tmp_path, capsys):
    """The second notebook kills the process that runs it, once."""
    killed = tmp_path / "killed"
    kill = f"import os\nfrom pathlib import Path\nif not Path({str(killed)!r}).exists():\n"
    kill += f"    Path({str(killed)!r}).touch()\n    os.kill(os.getppid(), 9)\n    os._exit(1)\n"
    paths = [write_notebook(tmp_path / f"{name}.ipynb", kill * (name == "b") + WRITE) for name in "ab"]
    given = {path: {"out": str(tmp_path / path.stem)} for path in paths}
    ended = "ended: its process or one beside it was killed"
    assert overnight.run_all(given, tmp_path / "executed") == {"a": "", "b": ended}
    assert said(capsys) == {"a": "done", "b": ended}
    assert overnight.run_all(given, tmp_path / "executed") == {"a": "", "b": ""}
    assert said(capsys) == {"a": "done before", "b": "done"}


@pytest.mark.slow
def test_a_batch_ends_with_the_report(tmp_path, monkeypatch, capsys):
    source = "import json\nfrom pathlib import Path\nPath(out).parent.mkdir(exist_ok=True)\n"
    source += "Path(out).write_text(json.dumps({'rows': [], 'x': x}))"
    path = write_notebook(tmp_path / "table_99.ipynb", source)
    monkeypatch.setattr(overnight, "notebooks", lambda only: [path])
    written: list[Path] = []
    monkeypatch.setattr(overnight, "write_page", lambda results, page: written.extend((results, page)))
    places = {"--runs-dir": "runs", "--results": "results", "--report": "report.html"}
    words = [word for option, name in places.items() for word in (option, str(tmp_path / name))]
    assert overnight.main([*words, "--jobs", "1", "-p", "x", "[1, 2]"]) == 0
    assert json.loads((tmp_path / "results" / "table_99.json").read_text())["x"] == [1, 2]
    assert written == [tmp_path / "results", tmp_path / "report.html"]
    assert (tmp_path / "runs" / "notebooks" / "fashion" / "table_99.html").is_file()
    assert "report.html" in capsys.readouterr().out


@pytest.fixture
def asked(monkeypatch) -> Callable[..., tuple[dict[str, dict[str, Any]], list[Path]]]:
    """Name → parameters of the notebooks that a command line would run, and where records and report would lie."""

    def ask(*words: str) -> tuple[dict[str, dict[str, Any]], list[Path]]:
        ran: dict[Path, dict[str, Any]] = {}
        written: list[Path] = []
        monkeypatch.setattr(overnight, "run_all", lambda each, executed, **how: ran.update(each) or {})
        monkeypatch.setattr(overnight, "write_page", lambda *places: written.extend(places))
        assert overnight.main([*words, "--jobs", "1"]) == 0
        return {path.stem: given for path, given in ran.items()}, written

    return ask


@pytest.mark.parametrize(
    ("words", "results", "report"),
    [
        ((), "papers/dad/results", "papers/dad/report.html"),
        (("-p", "seeds", "[0, 1, 2, 3, 4]", "-p", "shared", "{}"), "papers/dad/results", "papers/dad/report.html"),
        (("--runs-dir", "r"), "papers/dad/results", "papers/dad/report.html"),
        (("-p", "train", "False"), "runs/results/fashion", "runs/results/fashion/report.html"),
        (("-p", "seeds", "[0]"), "runs/results/fashion", "runs/results/fashion/report.html"),
        (("-p", "shared", '{"epochs": 1}', "--runs-dir", "r"), "r/results/fashion", "r/results/fashion/report.html"),
        (("--profile", "imagenet"), "runs/results/imagenet", "runs/results/imagenet/report.html"),
        (("-p", "seeds", "[0]", "--results", "x", "--report", "y"), "x", "y"),
    ],
)
def test_no_trial_takes_a_records_place(words, results, report, asked):
    ran, written = asked("--only", "table_01", *words)
    assert ran["table_01"]["out"] == f"{results}/table_01.json"
    assert written == [overnight.ROOT / results, overnight.ROOT / report]


def test_records_that_a_clone_cannot_follow_are_made_as_ours_were_or_left(asked, monkeypatch, tmp_path, capsys):
    """Their own parameters are those that the committed records tell."""
    monkeypatch.setattr(overnight, "PUBLISHED", str(tmp_path))
    ran, _ = asked()
    assert len(ran) == len(overnight.notebooks())
    for name, ours in overnight.OURS.items():
        told = json.loads((ROOT / overnight.RECORDS / f"{name}.json").read_text())["command"]
        recorded = json.loads(shlex.split(told)[-1])
        assert {key: recorded[key] for key in ours} == ours == {key: ran[name][key] for key in ours}
    monkeypatch.setattr(overnight, "PUBLISHED", "no such folder")
    ran, _ = asked()
    assert set(overnight.OURS) & set(ran) == set()
    assert capsys.readouterr().out.count("left as it is: no such folder/ is not there") == len(overnight.OURS)
    ran, _ = asked("--only", "implication", "-p", "steps", "5")
    assert "photographs" not in ran["implication"], "a trial is made of what is told"


@pytest.mark.parametrize("path", overnight.notebooks(), ids=lambda path: path.stem)
def test_by_hand_a_notebook_writes_below_runs(path):
    source = "".join(cell.source for cell in nbformat.read(path, 4).cells)
    assert f"/results/{{profile}}/{path.stem}.json" in source
    assert "papers/dad/results" not in source


def test_what_was_done_by_other_code_or_with_other_parameters_is_done_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(overnight, "ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(jobs))
    monkeypatch.setattr(overnight, "_run", lambda *_: ("", 0.0))
    path, code = write_notebook(tmp_path / "n.ipynb", ""), ["a"]
    monkeypatch.setattr(overnight, "_code", lambda: code[0])
    told = []
    for code[0], x in (("a", 1), ("a", 1), ("b", 1), ("b", 2), ("b", 2)):
        overnight.run_all({path: {"x": x}}, tmp_path / "executed")
        told.append(said(capsys)["n"])
    assert told == ["done", "done before", "done", "done", "done before"]


def test_changed_code_is_other_code(tmp_path, monkeypatch):
    monkeypatch.setattr(overnight, "ROOT", tmp_path)
    package = tmp_path / "dadlab" / "tables"
    package.mkdir(parents=True)
    seen = {overnight._code()}
    for text in ("1", "2"):
        (package / "a.py").write_text(text)
        seen.add(overnight._code())
    assert len(seen) == 3
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_text("3")
    assert overnight._code() in seen


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
        (["--only", "table_01", "-p", "sedes", "[0]"], "unknown parameter 'sedes': did you mean 'seeds'?"),
        (["-p", "profile", "imagenet"], "-p profile: say --profile instead"),
    ],
)
def test_a_bad_command_line_is_one_line(arguments, message, capsys):
    assert overnight.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
