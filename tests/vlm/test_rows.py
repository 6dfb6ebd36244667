import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dadlab.files import ROOT
from dadlab.tables.published import TABLES_VLM, load_table
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN, Claim
from dadlab.vlm import rows as module
from dadlab.vlm.report import styled
from dadlab.vlm.rows import EXPERIMENTS, measure_table, read_experiment
from dadlab.vlm.run import AlignRun

TABLES = json.loads(EXPERIMENTS.read_text(encoding="utf-8"))["tables"]
CONTROLS = ["control: other labels' descriptions", "control: as many random words"]
PRINTED = json.loads(TABLES_VLM.read_text(encoding="utf-8"))["tables"]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], list[str]]:
    """Stands in for trainings: correctness of the given share by the run's losses; gives what was asked for."""

    def stand_in(accuracy: dict[str, float]) -> list[str]:
        asked: list[str] = []

        def measure(run: AlignRun, runs_dir: Path) -> dict[str, np.ndarray]:
            asked.append(f"{run.losses} {run.seed}")
            ranks = np.random.default_rng(run.seed).permutation(150) / 150
            return {key: (ranks < accuracy.get(run.losses, 0.5)).astype(float) for key in ("id", "ood", "5-shot")}

        monkeypatch.setattr(module, "measure_aligned", measure)
        monkeypatch.setattr(module, "teacher_values", lambda *_: {"id": np.ones(150), "ood": np.ones(150)})
        return asked

    return stand_in


def test_every_table_but_the_robots_is_there():
    assert TABLES.keys() == PRINTED.keys() - {"13", "Fig. 4"} | {"together"}, "split sizes and spectra are elsewhere"


def test_the_overview_has_a_row_a_table_and_its_notebook_measures_it():
    home = ROOT / "notebooks" / "vlm_ood"
    lines = [line.split("|")[1:-1] for line in (home / "OVERVIEW.md").read_text().splitlines() if line.startswith("|")]
    where = {number.strip(): cells[-1].strip(" `") for cells in lines for number in cells[0].split(",")}
    assert {str(number) for number in range(1, 17)} | {"Fig. 4"} <= where.keys()
    assert [number for number, notebook in where.items() if not notebook] == ["12", "13"], "a robot, and the protocol"
    by_metric = dict.fromkeys(("M_rel", "M_neigh", "M_vlalign"), "3") | {"together": "neither paper's"}
    for number in TABLES:
        cells = json.loads((home / where[by_metric.get(number, number)]).read_text())["cells"]
        assert any(f'"{number}"' in line for cell in cells for line in cell["source"]), number


@pytest.mark.parametrize("number", [number for number in TABLES if number in PRINTED])
def test_rows_and_columns_are_the_published_ones(number):
    rows, entry = read_experiment(number)
    table = load_table(number, TABLES_VLM)
    keys = [row.name if table.index.nlevels > 1 else row.name[0] for row in rows]
    extra = {key for key in keys if key not in table.index}
    assert all(any(word in str(key) for word in ("not in the paper", "control", "names", "plain")) for key in extra)
    assert set(table.index) <= set(keys)
    assert all(set(facts["columns"]) <= set(table) for facts in entry["quantities"].values())


@pytest.mark.parametrize("number", TABLES)
def test_claims_are_about_rows_and_quantities_of_their_table(number):
    rows, entry = read_experiment(number)
    labels = [row.label for row in rows]
    assert len(set(labels)) == len(labels)
    for told in entry["claims"]:
        claim = module._claim(told)
        assert {claim.first, claim.second} <= {*labels, "zero"}
        assert claim.on in entry["quantities"]
        assert claim.scale == entry["quantities"][claim.on].get("scale", 100)


def test_shared_fields_reach_every_run():
    rows, _ = read_experiment("9", epochs=3)
    assert {row.run.epochs for row in rows} == {3}
    own = {row.label: row.run.student for row in read_experiment("2", student="resnet_m")[0]}
    assert own == {label: "clip_resnet" if "RN50" in label else "resnet_m" for label in own}
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        read_experiment("9", epoch=3)
    with pytest.raises(ValueError, match="unknown table '12'"):
        read_experiment("12")


def test_on_disk_rows_that_the_data_cannot_have_are_missing_and_columns_are_their_own(stand_in, tmp_path):
    shared = {"data": "cars:/data", "student": "resnet18"}
    missing = {row.label: row.source.get("missing", "") for row in read_experiment("5", **shared)[0]}
    assert sum(not why for why in missing.values()) == 2, "names alone, with and without a learnt context"
    assert sum("plain names alone" in why for why in missing.values()) == 4
    assert sum("needs captions" in why for why in missing.values()) == 1
    rows, entry = read_experiment("5", **shared, descriptions="cars.json")
    assert sum("missing" not in row.source for row in rows) == 6
    assert [facts["columns"] for facts in entry["quantities"].values()] == [["Cars ID"], ["Cars OOD"], ["Cars 5-shot"]]
    texts = {row.label: row.source.get("missing", "") for row in read_experiment("6", **shared)[0]}
    assert not texts["plain"]
    assert "L_cap needs captions" in texts["caption"]
    assert [label for label, why in texts.items() if "needs descriptions" in why] == ["ChatGPT", *CONTROLS]
    assert sum("plain names alone" in why for why in texts.values()) == 3
    published = {row.label: row.run for row in read_experiment("2", **shared)[0]}["L_mse, RN50 from CLIP RN50"]
    assert (published.student, published.teacher) == ("resnet50_clip", "open_clip:RN50/openai")
    stand_in({"cls": 0.5})
    table = measure_table("8", [0], tmp_path, **shared)
    assert "nothing is printed for these data" in styled(table).to_html()


def test_verdicts_follow_from_what_the_runs_do(stand_in, tmp_path):
    stand_in({"cls": 0.5, "cls+mse": 0.2, "cls+cst": 0.8, "cls+mse+cst": 0.8})
    table = measure_table("1", [0, 1, 2, 3, 4], tmp_path)
    told = dict(zip([claim.text for claim in table.claims], table.verdicts, strict=True))
    assert told["Relative alignment (L_im-cst) beats L_mse on zero-shot OOD"].verdict == HOLDS
    assert told["Pulling features to the teacher's (L_mse) raises zero-shot OOD a little over L_cls"].verdict == FAILS
    little = told["L_mse beside L_im-cst matters little: within two points of OOD"]
    assert (little.verdict, little.effect.mean) == (OPEN, 0)  # so few images may have missed more than two points
    assert {found.level for found in told.values()} == {1 - 0.05 / len(table.claims)}


def test_a_claim_is_judged_in_its_own_range_and_scale():
    better = 0.5 + 0.01 * np.random.default_rng(0).standard_normal((3, 200))
    values = {("good", "on"): better, ("bad", "on"): np.zeros((3, 200))}
    told = [Claim("", "bad", "good", "on", above=-1, below=1, scale=1), Claim("", "good", "bad", "on", -math.inf, 0)]
    table = module.Measured("", [], {}, told, {"good": [0, 1, 2], "bad": [0, 1, 2]}, values, {}, "")
    assert [found.verdict for found in table.verdicts] == [HOLDS, FAILS]
    assert [found.effect.mean for found in table.verdicts] == pytest.approx([-0.5, 50], abs=0.2)


def test_a_claim_with_an_upper_bound_alone_has_no_lower_one():
    told = {"text": "", "first": "a", "second": "b", "on": "c"}
    bounds = [{}, {"above": -2.0}, {"below": 2.0}, {"above": -2.0, "below": 2.0}]
    found = [module._claim({**told, **bound}) for bound in bounds]
    assert [claim.above for claim in found] == [0, -2, -math.inf, -2]


def test_halves_shifts_and_all_others_are_measured_each_by_its_own():
    by_table = {number: {module._measuring(row) for row in read_experiment(number)[0]} for number in ("7", "11")}
    assert by_table == {
        "7": {(module.FEW_SHOT, module.measure_aligned)},
        "11": {(module.HALVES, module.measure_halves)},
    }
    together = {module._measuring(row) for row in read_experiment("together")[0] if "teacher" not in row.source}
    assert together == {(module.SHIFTED, module.measure_shifted)}


def test_without_training_only_what_is_there_counts(stand_in, tmp_path):
    asked = stand_in({"cls+mse": 0.9})
    for losses, seed in [("cls", 0), ("cls", 1), ("cls", 2), ("cls+mse", 1), ("cls+mse", 2)]:
        path = AlignRun(losses, seed=seed).folder(tmp_path) / module.FEW_SHOT
        path.parent.mkdir(parents=True)
        path.touch()
    table = measure_table("1", [0, 1, 2], tmp_path, train=False)
    assert sorted(asked) == ["cls 0", "cls 1", "cls 2", "cls+mse 1", "cls+mse 2"]
    assert table.missing["L_cls + L_mse"] == "seeds 1, 2 alone"
    assert table.missing["L_im-cst"] == "not run"
    first, second = table.verdicts[:2]
    assert (first.seeds, first.effect.mean) == (2, pytest.approx(40)), "seeds that both runs have"
    assert second is None


def test_one_seed_shows_an_effect_and_no_verdict(stand_in, tmp_path):
    stand_in({"cls+mse": 0.9})
    found = measure_table("1", [0], tmp_path).verdicts[0]
    assert found.verdict == OPEN
    assert found.effect.mean == pytest.approx(40)
