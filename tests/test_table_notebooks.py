"""The notebooks of the first paper's tables and figures run from end to end at toy size and share their runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_other_notebooks import execute

from dadlab.tables.published import load_table
from dadlab.tables.rows import read_rows

pytestmark = pytest.mark.slow
TOY = {"limit": 40, "epochs": 1, "views": 2, "variants": 1, "batch": 8}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def run(name: str, folder: Path, runs: Path, **parameters: Any) -> dict[str, Any]:
    """Execute a notebook and read its record."""
    out = folder / "record.json"
    execute(name, folder, shared=TOY, runs_dir=str(runs), out=str(out), **parameters)
    return json.loads(out.read_text())


@pytest.mark.parametrize("number", [n for n in range(1, 12) if n != 7])
def test_table(number, runs, tmp_path):
    columns = [name for name in ("Sketch", "A", "Stylized") if name in load_table(number).columns][:1]
    record = run(f"tables/table_{number:02d}", tmp_path, runs, seeds=[0, 1], columns=columns)
    assert [row["row"] for row in record["rows"]] == [list(row.name) for row in read_rows(number)]
    assert all(row["missing"] or row["cells"][columns[0]]["n"] for row in record["rows"])
    assert record["claims"]
    assert {claim["verdict"] for claim in record["claims"]} <= {
        "holds",
        "does not hold",
        "cannot be told at this scale",
        "not measured",
    }


def test_accuracy_under_attack(runs, tmp_path):
    small = {"columns": ["FGSM"], "photographs": {"FGSM": 20}, "epsilons": [0.01]}
    record = run("tables/table_12", tmp_path, runs, seeds=[0, 1], **small)
    assert [row["cells"]["FGSM"]["n"] for row in record["rows"]] == [20] * 6
    assert record["epsilon"] == pytest.approx(8 / 255, abs=1e-6)
    assert len(record["masking"]) == 6
    assert all("gradient masking" in line for line in record["masking"].values())
    assert {claim["verdict"] for claim in record["claims"] if "AutoAttack" in claim["claim"]} == {"not measured"}


def test_the_cost_of_a_step(runs, tmp_path):
    record = run("tables/table_07", tmp_path, runs, rounds=3, steps=2)
    cells = {row["row"][0]: row["cells"]["Training Budget"] for row in record["rows"]}
    assert cells["ImageNet"]["mean"] == 1.0
    assert cells["DAD (Ours)"]["mean"] > 1.0
    assert set(record["milliseconds"]) >= {"ImageNet", "DAD (Ours)"}


def test_an_imagenet_notebook_reads_only(runs, tmp_path):
    record = run("tables/table_11", tmp_path, runs, seeds=[7], columns=["Sketch"], train=False)
    assert all(row["missing"].startswith("not run") for row in record["rows"])
    assert record["claims"][0]["verdict"] == "not measured"


def test_the_method_is_drawn(tmp_path):
    execute("figures/figure_01", tmp_path, count=4, out=str(tmp_path / "figure_01.json"))
    assert (tmp_path / "figure_01.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "figure_01.json").read_text())["profile"]["data"] == "fashion"


def test_distances_against_performance(runs, tmp_path):
    small = {"epsilons": [0.0, 8.0], "epsilon_seeds": [0, 1], "on": "val", "methods": ["dad"], "splits": ["a"]}
    record = run("figures/figure_02", tmp_path, runs, **small, seeds=[0, 1], batches=3)
    assert [point["point"] for point in record["points"]] == ["ε = 0", "ε = 8", "ε = 0", "ε = 8", "a"]
    assert len(record["claims"]) == 2
    assert record["claims"][0]["comparisons"][0]["images"] == 1000
    assert (tmp_path / "record.png").is_file()


def test_three_kinds_of_example(runs, tmp_path):
    record = run("figures/figure_03", tmp_path, runs, count=8, shown=3)
    assert record["photographs"] == 8
    assert set(record["kinds"]) == {"DAD (teacher)", "DAT (student)", "pixel space"}


def test_the_theorys_quantities(runs, tmp_path):
    small = {"methods": ["plain"], "seeds": [0], "splits": ["v2"], "teacher_saw": ["studio", "sketch"], "samples": 20}
    record = run("figures/theory", tmp_path, runs, **small)
    assert record["lemma_4"]["left"] <= record["lemma_4"]["right"]
    assert all(line["holds"] for name, line in record["lemma_3"].items() if "Q(x) →" in name)
    assert record["set_distances"]["1 of the teacher's styles"]["v2"] == pytest.approx(
        record["w"]["v2 · studio"], abs=1e-3
    )
    assert record["bounds"]["plain"]["v2"]["r(P')"] == pytest.approx(record["risks"]["plain"]["v2"])


def test_teachers_of_more_and_fewer_styles(runs, tmp_path):
    small = {"steps": 2, "drawings": 4, "seeds": [0, 1], "splits": ["studio", "sketch"]}
    record = run("figures/implication", tmp_path, runs, **small)
    assert list(record["gains"]) == ["1 style", "2 styles", "4 styles"]
    (claim,) = record["claims"]
    assert [(c["first"], c["second"], c["on"]) for c in claim["comparisons"]] == [
        ("4 styles", "1 style", "sketch"),
        ("4 styles", "2 styles", "sketch"),
    ]


def test_what_is_left_open(runs, tmp_path):
    small = {"methods": ["plain", "dad"], "fitted": ["plain"], "seeds": [0, 1], "splits": ["studio", "a"]}
    small |= {"others": {"discretizer": ["broad"]}, "corruptions": False}
    record = run("figures/open_questions", tmp_path, runs, **small)
    assert [line["value"] for line in record["others"]] == ["studio", "broad", "deviation", "over seeds"]
    assert len(record["rows"]) == 8
    assert set(record["effective_robustness"]) == {"plain", "dad"}
    assert len(record["classes"]["teacher"]) == 10
