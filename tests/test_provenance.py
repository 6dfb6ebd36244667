import json
import re
import shlex
import subprocess

import pytest

from dadlab import provenance
from dadlab.files import write_json
from dadlab.provenance import TRAINED, command_of, commit, machine, made_by, trained_by


def test_outside_a_clone_or_without_git_the_commit_is_unknown(monkeypatch):
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|unknown", commit())
    monkeypatch.setenv("PATH", "")
    commit.cache_clear()
    assert commit() == "unknown"
    commit.cache_clear()


def test_changed_code_is_marked_and_renewed_results_are_not(tmp_path):
    code, result = tmp_path / "dadlab" / "a.py", tmp_path / "papers" / "dad" / "results" / "a.json"
    for file in (code, result):
        file.parent.mkdir(parents=True)
        file.write_text("1")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    result.write_text("2")
    clean = commit(code.parent)
    assert re.fullmatch(r"[0-9a-f]{7,}", clean)
    code.write_text("2")
    assert commit(code.parent) == clean, "what was imported is what runs"
    commit.cache_clear()
    assert commit(code.parent) == f"{clean}+"


def test_of_an_old_run_commit_and_machine_are_unknown(tmp_path):
    assert trained_by(tmp_path) == {"commit": "unknown", "machine": "unknown"}


def test_a_run_from_before_precision_was_kept_is_read(tmp_path):
    told = {"commit": "abc1234", "machine": "CPU"}
    write_json(tmp_path / TRAINED, told)
    assert trained_by(tmp_path) == told


def test_the_machine_fits_a_footnote():
    assert re.fullmatch(r"\S.*\S, \d+ threads, Python 3\.\d+\.\d+, torch \S+", machine())


def test_a_result_says_by_what_it_was_made():
    found = made_by("benchmarks.some", ["--repeats", "3", "--note", "one thread"])
    command = "python -m benchmarks.some --repeats 3 --note 'one thread'"
    assert found == {"command": command, "commit": commit(), "machine": machine()}


def test_a_notebooks_command_gives_its_parameters_as_they_are_now(tmp_path, monkeypatch):
    cells = [{"source": ["seeds = [0]\n", "named = ''  # no comment of ours\n"], "metadata": {"tags": ["parameters"]}}]
    cells.append({"source": ["given = 3\n"], "metadata": {}})
    write_json(tmp_path / "notebooks" / "figures" / "one.ipynb", {"cells": cells})
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    words = shlex.split(command_of("figures/one", {"seeds": [1, 2], "named": "it's", "given": 3}))
    assert words[:4] == ["papermill", "notebooks/figures/one.ipynb", "runs/one.ipynb", "-y"]
    assert json.loads(words[4]) == {"seeds": [1, 2], "named": "it's"}
    cells[0]["source"].append("train = None\n")
    write_json(tmp_path / "notebooks" / "figures" / "one.ipynb", {"cells": cells})
    for train, kept in ((False, {}), (True, {"train": True}), ("train", {"train": "train"})):
        words = shlex.split(command_of("figures/one", {"seeds": [1], "named": "", "train": train}))
        assert json.loads(words[4]) == {"seeds": [1], "named": ""} | kept
    with pytest.raises(KeyError, match="named"):
        command_of("figures/one", {"seeds": [1]})
