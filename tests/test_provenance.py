import re

from dadlab.provenance import commit, machine, made_by


def test_outside_a_clone_or_without_git_the_commit_is_unknown(monkeypatch):
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|unknown", commit())
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"


def test_the_machine_fits_a_footnote():
    assert re.fullmatch(r"(CPU|.+), \d+ threads, Python 3\.\d+\.\d+, torch \S+", machine())


def test_a_result_says_by_what_it_was_made():
    found = made_by("benchmarks.some", ["--repeats", "3"])
    assert found == {"command": "python -m benchmarks.some --repeats 3", "commit": commit(), "machine": machine()}
