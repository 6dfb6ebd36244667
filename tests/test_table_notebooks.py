"""The notebooks of the first paper's tables and figures run from end to end at toy size and share their runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from published import write_toy_published
from test_other_notebooks import execute

from dadlab.data import load_split
from dadlab.evaluate import C_PHOTOS, CORRUPTIONS, SEVERITIES, mce_baseline
from dadlab.tables.published import load_table
from dadlab.tables.rows import read_rows
from dadlab.tables.sentences import IMPOSSIBLE, NOT_MEASURED, read_sentences
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN

pytestmark = pytest.mark.slow
WORST_FIRST, BEST_FIRST = (FAILS, NOT_MEASURED, OPEN, HOLDS), (HOLDS, NOT_MEASURED, OPEN, FAILS)
TOY = {"limit": 40, "epochs": 1, "views": 2, "variants": 1, "batch": 8}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def run(name: str, folder: Path, runs: Path, **parameters: Any) -> dict[str, Any]:
    """Execute a notebook and read its record."""
    out = folder / "record.json"
    execute(name, folder, shared=TOY, runs_dir=str(runs), out=str(out), **parameters)
    return json.loads(out.read_text())


def check_verdicts(claims: Sequence[dict[str, Any]]) -> None:
    """Every sentence is as good as its worst comparison, or as its best if it says "some"; of none nothing can be made.

    Every comparison lies where its interval does.
    """
    assert claims
    for claim in claims:
        each = [compared["verdict"] for compared in claim["comparisons"]]
        order = BEST_FIRST if claim["some"] else WORST_FIRST
        assert claim["verdict"] == next((verdict for verdict in order if verdict in each), IMPOSSIBLE)
        for compared in claim["comparisons"]:
            assert ("effect" in compared) == (compared["verdict"] != NOT_MEASURED)
            if compared["verdict"] in (HOLDS, FAILS):
                low, high = compared["effect"]["low"], compared["effect"]["high"]
                above, below = compared.get("above", -math.inf), compared.get("below", math.inf)
                assert (compared["verdict"] == HOLDS) == (above < low and high < below)


@pytest.mark.parametrize("number", [n for n in range(1, 12) if n != 7])
def test_table(number, runs, tmp_path):
    """On the column of the fewest photographs that a claim is about; students of fewer sizes in Tables 5 and 8."""
    said = {compared.on for sentence in read_sentences(number) for compared in sentence.comparisons}
    columns = [name for name in ("A", "Sketch", "Stylized") if name in said][:1]
    smaller = {"ViT-B": "vit_s", "ResNet50": "resnet_s"} if number in (5, 8) else {}
    record = run(f"tables/table_{number:02d}", tmp_path, runs, seeds=[0, 1], columns=columns, students=smaller)
    assert [row["row"] for row in record["rows"]] == [list(row.name) for row in read_rows(number)]
    assert all(row["missing"] or row["cells"][columns[0]]["n"] for row in record["rows"])
    check_verdicts(record["claims"])
    on = {compared["on"] for claim in record["claims"] for compared in claim["comparisons"] if "effect" in compared}
    assert on <= set(columns)


def test_a_table_with_its_corruptions_and_average(runs, tmp_path):
    """All columns of Table 4: C, where less is better, and the average that has 100 − C in it.

    One seed of a ResNet: to ask a student 37,500 corrupted photographs takes as long as all else here (`test_ledger.py`
    has five), and a ViT takes longer.
    """
    clean = load_split("fashion", "studio", limit=C_PHOTOS)
    folder = runs / "corrupted" / clean.fingerprint
    folder.mkdir(parents=True)
    for kind, severity in itertools.product(CORRUPTIONS, SEVERITIES):  # drawing real ones takes minutes
        np.save(folder / f"{kind}-{severity}.npy", clean.pixels.numpy())
    record = run("tables/table_04", tmp_path, runs, seeds=[0], students={"ViT-B": "resnet_s"})
    parts, wrong = load_table(4).attrs["averages"]["Avg"], mce_baseline()
    there = [row for row in record["rows"] if not row["missing"]]
    assert [row["row"] for row in there][-2:] == [["ViT, from scratch"], ["DAD, from scratch"]]
    for row in there:
        cells = row["cells"]
        each = {name: cells[name]["seeds"]["0"] for name in parts}
        each["C"] = 100 - each["C"]
        assert cells["Avg"]["seeds"]["0"] == pytest.approx(sum(each.values()) / len(each), abs=0.02)
        right = np.load(runs / row["runs"]["0"] / "correct" / "studio.npy")
        alike = 100 * (1 - right.mean()) * np.mean([1 / share for share in wrong.values()])
        assert cells["C"]["seeds"]["0"] == pytest.approx(alike, rel=0.1)  # a part of the same photographs
    check_verdicts(record["claims"])


def test_accuracy_under_attack(runs, tmp_path):
    small = {"columns": ["FGSM"], "photographs": {"FGSM": 20}, "epsilons": [0.01]}
    record = run("tables/table_12", tmp_path, runs, seeds=[0, 1], **small)
    assert [row["cells"]["FGSM"]["n"] for row in record["rows"]] == [20] * 6
    assert record["epsilon"] == pytest.approx(8 / 255, abs=1e-6)
    assert len(record["masking"]) == 6
    assert all("gradient masking" in line for line in record["masking"].values())
    assert {claim["verdict"] for claim in record["claims"] if "AutoAttack" in claim["claim"]} == {"not measured"}


def test_the_cost_of_a_step(runs, tmp_path):
    record = run("tables/table_07", tmp_path, runs, rounds=2, steps=2)
    cells = {row["row"][0]: row["cells"]["Training Budget"] for row in record["rows"]}
    assert cells["ImageNet"]["mean"] == 1.0
    assert cells["DAD (Ours)"]["mean"] > 1.0
    assert record["milliseconds"].keys() == cells.keys()
    steps = {row["row"][0]: row["cells"]["Attack Steps"]["mean"] for row in record["rows"]}
    assert (steps["ImageNet"], steps["Adversarial Training"], steps["AdvProp"], steps["DAD (Ours)"]) == (0, 10, 5, 1)
    assert record["rounds"] == [0, 1]
    assert not any(row["runs"] for row in record["rows"])


def test_an_imagenet_notebook_reads_only(runs, tmp_path):
    record = run("tables/table_11", tmp_path, runs, seeds=[7], columns=["Sketch"], train=False)
    assert all(row["missing"].startswith("not run") for row in record["rows"])
    assert record["claims"][0]["verdict"] == "not measured"


def test_the_method_is_drawn(tmp_path):
    execute("figures/figure_01", tmp_path, count=4, out=str(tmp_path / "figure_01.json"))
    record = json.loads((tmp_path / "figure_01.json").read_text())
    drawn = record["drawn"]
    assert drawn["index"] in range(4)
    known, reconstructed, fooled, kept = drawn["probabilities"]
    assert fooled < min(known, reconstructed, kept)  # of kept samples the one that fooled φ most
    assert 0 < drawn["codes changed by Q alone"] < drawn["codes changed"] <= drawn["codes"] == 256
    photograph = load_split("fashion", "val").images(torch.tensor([drawn["index"]]))[0]
    wide = plt.imread(tmp_path / "figure_01.png")
    assert wide.std() > 0.1
    assert closest(wide, photograph) < 0.02, "the photograph named in the record is not in the picture"
    assert record["profile"]["data"] == "fashion"


def closest(picture: np.ndarray, photograph: torch.Tensor) -> float:
    """Mean difference between a photograph and what a picture shows where its first image is, found by search."""
    side = round(0.86 * 200)  # inches, and points to an inch
    spots = [(y, x) for y in range(0, picture.shape[0] - side, 2) for x in range(0, 60, 2)]
    grid = ((np.arange(32) + 0.5) * side / 32).astype(int)
    wanted = photograph.permute(1, 2, 0).numpy()
    return min(float(np.abs(picture[y + grid[:, None], x + grid, :3] - wanted).mean()) for y, x in spots)


def test_distances_against_performance(runs, tmp_path):
    small = {"radii": [0, 1], "epsilon_seeds": [0, 1], "on": "val", "others": [], "splits": ["a", "sketch", "v2"]}
    record = run("figures/figure_02", tmp_path, runs, **small, seeds=[0, 1], batches=3)
    points = [point["point"] for point in record["points"]]
    assert points == ["ε = 0", "ε = 8", "ε = 0", "ε = 8", "a", "sketch", "v2", "a", "sketch", "v2"]
    assert [point["method"] for point in record["points"][4:]] == ["dat"] * 3 + ["dad"] * 3
    assert [len(claim["comparisons"]) for claim in record["claims"]] == [1, 1, 6]
    assert record["claims"][1]["comparisons"][0]["below"] == 1  # point
    assert record["claims"][0]["comparisons"][0]["images"] == 1000
    gains = {point["point"]: point["mean"] for point in record["points"][7:]}
    far = {name: record["distances"][name]["batch norm W2"] for name in gains}
    slope = (gains["sketch"] - gains["a"]) / (far["sketch"] - far["a"])
    assert record["slopes"]["without v2"] == pytest.approx(slope, abs=0.01)
    assert set(record["slopes"]) == {"all", "without a", "without sketch", "without v2"}
    check_verdicts(record["claims"])
    assert (tmp_path / "record.png").is_file()


def test_three_kinds_of_example(runs, tmp_path):
    record = run("figures/figure_03", tmp_path, runs, count=8, shown=3, seeds=[0, 1])
    assert record["photographs"] == 8
    assert set(record["kinds"]) == {"DAD (teacher)", "DAT (student)", "pixel space"}
    cosines = {kind: told["cosine between changes"] for kind, told in record["kinds"].items()}
    (compared,) = record["claims"][0]["comparisons"]
    assert compared["effect"]["mean"] == pytest.approx(cosines["DAD (teacher)"] - cosines["DAT (student)"], abs=1e-3)
    assert len(record["claims"]) == 1
    check_verdicts(record["claims"])


def test_the_theorys_quantities(runs, tmp_path):
    small = {"methods": ["plain"], "seeds": [0], "splits": ["v2"], "teacher_saw": ["studio", "sketch"], "samples": 20}
    record = run("figures/theory", tmp_path, runs, **small)
    assert record["lemma_4"]["left"] <= record["lemma_4"]["right"]
    assert all(line["holds"] for name, line in record["lemma_3"].items() if "Q(x) →" in name)
    assert record["set_distances"]["1 of the teacher's styles"]["v2"] == pytest.approx(
        record["w"]["v2 · studio"], abs=1e-3
    )
    assert record["bounds"]["plain"]["v2"]["r(P')"] == pytest.approx(record["risks"]["plain"]["v2"])
    assert [line["distributions"] for line in record["within"]] == [1, 2, 3]
    assert record["within"][-1]["r_worst(P, ε)"] == max(record["risks"]["plain"].values())


def test_teachers_of_more_and_fewer_styles(runs, tmp_path):
    small = {"steps": 2, "drawings": 4, "seeds": [0, 1], "splits": ["a", "sketch"]}
    record = run("figures/implication", tmp_path, runs, **small)
    assert list(record["gains"]) == ["1 style", "2 styles", "4 styles"]
    (claim,) = record["claims"]
    assert [(c["first"], c["second"], c["on"]) for c in claim["comparisons"]] == [
        ("4 styles", "1 style", "sketch"),
        ("4 styles", "2 styles", "sketch"),
    ]
    check_verdicts(record["claims"])
    assert (tmp_path / "record.png").is_file()


def test_another_teacher_and_another_discretizer(runs, tmp_path):
    write_toy_published(tmp_path / "published")
    small = {"others": {"ViT tower": {"teacher": "vit"}}, "photographs": str(tmp_path / "published")}
    small["again"] = {"teacher": [1], "discretizer": [1]}
    small["recipes"] = {
        "teacher": {"steps": 2, "batch": 4},
        "discretizer": {"steps": 2, "batch": 2, "perceptual_steps": 2},
    }
    splits = {"splits": ["studio", "sketch"], "together": "sketch+studio"}
    record = run("figures/another_teacher", tmp_path, runs, seeds=[0, 1], **small, **splits)
    titles = ["the profile's own", "teacher, seed 1", "discretizer, seed 1", "ViT tower"]
    assert [line["title"] for line in record["teachers"]] == titles
    assert [line["title"] for line in record["lead"]] == titles
    for title, lead in zip(titles, record["lead"], strict=True):
        means = [record["top1"][f"{method}, {title}"]["sketch"]["mean"] for method in ("DAD", "KD")]
        assert lead["sketch"]["mean"] == pytest.approx(means[0] - means[1])
    assert record["top1"]["KD, the profile's own"] == record["top1"]["KD, discretizer, seed 1"]
    varied = {name: [line for line in record["spread"] if line["method"] == name] for name in ("DAD", "KD", "DAD − KD")}
    each = ["the profile's own", "{}, seed 1", "deviation", "over seeds"]
    expected = [(kind, value.format(kind)) for kind in ("teacher", "discretizer") for value in each]
    assert all([(line["field"], line["value"]) for line in lines] == expected for lines in varied.values())
    assert varied["KD"][-2]["sketch"] == 0  # a discretizer has no part in KD
    means = [line["sketch"]["mean"] for line in record["lead"][:2]]  # the embedded teacher's and the other's
    assert record["over"]["teacher"]["sketch"]["mean"] == pytest.approx(np.mean(means))
    (claim,) = record["claims"]
    assert [compared["first"] for compared in claim["comparisons"]] == [f"DAD, {title}" for title in titles]
    check_verdicts(record["claims"])
    (trained,) = record["trained"]
    assert len(set(trained["runs"])) == 2 * (4 + 3)
    assert (tmp_path / "record.png").is_file()


def test_what_is_left_open(runs, tmp_path):
    small = {"methods": ["plain", "dad"], "lengths": [1, 2], "seeds": [0, 1], "splits": ["studio", "a"]}
    record = run("figures/open_questions", tmp_path, runs, **small, corruptions=False)
    assert len(record["rows"]) == 8
    (trained,) = record["trained"]
    assert len(trained["runs"]) == len(set(trained["runs"])) == 2 * 3  # plain of two lengths, and DAD
    assert {line["method"] for line in record["baseline"]} == {"plain, 1 epochs", "plain, 2 epochs"}
    assert {name: list(splits) for name, splits in record["effective_robustness"].items()} == {
        "plain": ["a"],
        "dad": ["a"],
    }
    assert len(record["classes"]["teacher"]) == 10


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("figure_02", 66),
        ("figure_03", 5),
        ("theory", 16),
        ("implication", 23),
        ("another_teacher", 25),
        ("open_questions", 30),
    ],
)
def test_a_figure_without_its_runs_says_what_is_missing(name, count, tmp_path):
    """As on `imagenet`, where batch jobs make the runs; nothing is trained and nothing fails."""
    out = tmp_path / "record.json"
    execute(f"figures/{name}", tmp_path, train=False, shared=TOY, runs_dir=str(tmp_path / "none"), out=str(out))
    record = json.loads(out.read_text())
    assert len(record["missing"]) == count
    assert "claims" not in record
    assert not (tmp_path / "none").exists()
