"""The other notebooks run from end to end at toy size."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from published import write_toy_published

from dadlab.files import ROOT


def execute(name: str, folder: Path, **parameters: Any) -> None:
    papermill.execute_notebook(
        ROOT / "notebooks" / f"{name}.ipynb",
        folder / f"{Path(name).name}.ipynb",
        parameters,
        kernel_name="python3",
        progress_bar=False,
        cwd=str(ROOT),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("train_teacher", {"steps": 3, "draws": 1, "batch": 8, "limit": 20, "shown": 4}),
        ("train_discretizer", {"steps": 4, "batch": 8, "perceptual_steps": 3, "shown": 4}),
        ("train_diffusion", {"steps": 2, "batch": 4, "limit": 20, "shown": 4}),
    ],
)
def test_assets_can_be_trained(tmp_path, name, parameters):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_toy_published(photos)
    execute(name, tmp_path, photos_dir=str(photos), out=str(tmp_path / "out"), **parameters)
    assert list((tmp_path / "out").rglob("*.safetensors"))


@pytest.mark.slow
def test_robustness_writes_its_record(tmp_path):
    execute(
        "robustness",
        tmp_path,
        methods=["plain", "kd", "dad"],
        seeds=[0, 1],
        splits=["val", "val_context", "val+val_context"],
        home="val",
        corruptions=False,
        limit=40,
        variants=1,
        views=2,
        epochs=1,
        attack="paper",
        runs_dir=str(tmp_path / "runs"),
        out=str(tmp_path / "main.json"),
    )
    record = json.loads((tmp_path / "main.json").read_text())
    assert {row["method"] for row in record["rows"]} == {"plain", "kd", "dad"}
    assert any((d["first"], d["second"]) == ("dad", "kd") for d in record["differences"])


TOY = {"epochs": 1, "views": 2, "variants": 1}


@pytest.mark.slow
def test_attack_writes_its_record(tmp_path):
    execute(
        "attack",
        tmp_path,
        seeds=[0],
        epsilons=[0.0, 8.0],
        others={"KD": {"method": "kd"}, "matched control": {"method": "dad_q_matched"}},
        limit=40,
        shared=TOY,
        shown=3,
        runs_dir=str(tmp_path / "runs"),
        out=str(tmp_path / "attack.json"),
    )
    record = json.loads((tmp_path / "attack.json").read_text())
    assert [point["epsilon"] for point in record["curve"]] == [0.0, 8.0]
    assert record["curve"][0]["kept"] > record["curve"][1]["kept"]
    assert [line["name"] for line in record["others"]] == ["chosen", "KD", "matched control"]
    assert not {"rendition", "sketch", "stylized"} & set(record["n"])


@pytest.mark.slow
def test_attack_refuses_a_test_shift(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="val and val_context alone"):
        execute("attack", tmp_path, splits=["val", "sketch"])


@pytest.mark.slow
def test_distance_writes_its_record(tmp_path):
    execute(
        "distance",
        tmp_path,
        splits=["val", "val_context"],
        seeds=[0, 1],
        limit=40,
        shared=TOY,
        runs_dir=str(tmp_path / "runs"),
        out=str(tmp_path / "distance.json"),
    )
    points = {
        (p["regime"], p["split"]): p["distance"] for p in json.loads((tmp_path / "distance.json").read_text())["points"]
    }
    assert points["narrow", "val"] < points["narrow", "val_context"]
    assert points["broad", "val_context"] < points["broad", "val"]


@pytest.mark.slow
def test_training_beside_the_notebook(tmp_path):
    toy = {"limit": 40, "views": 2, "epochs": 2, "batch": 8, "ema": 0.5, "augreg": "light2", "attack": "paper"}
    runs, out = str(tmp_path / "runs"), tmp_path / "train.json"
    how = {**toy, "processes": 2, "tracker": "", "splits": ["val"], "runs_dir": runs, "out": str(out)}
    execute("train", tmp_path, **how, launch=False, script=str(tmp_path / "train.sh"))
    (described,) = Path(runs).glob("*/run.json")
    assert (tmp_path / "train.sh").read_text().startswith("exec env "), "signals are to reach torchrun, not a shell"
    for told in ("train.ipynb", "train.sh"):
        assert f"-m dadlab.job {described} --runs-dir {runs} --splits val" in (tmp_path / told).read_text()
    assert [path.name for path in described.parent.iterdir()] == ["run.json"], "nothing is trained"
    execute("train", tmp_path, **how)
    record = json.loads(out.read_text())
    assert set(record["top1"]) == {"val"}
    assert (tmp_path / "runs" / record["run"] / "timm" / "model.safetensors").is_file()


@pytest.mark.slow
def test_generate_makes_draws_and_shows_what_it_would_send(tmp_path, files):
    given = {"limit": 40, "teacher": str(files["teacher"]), "discretizer": str(files["vqgan"]), "variants": 1}
    more = {"processes": 2, "images": "webp", "repository": "lab/toy", "shown": 2, "runs_dir": str(tmp_path / "runs")}
    script = tmp_path / "generate.sh"
    execute("generate", tmp_path, **given, **more, launch=False, script=str(script))
    (described,) = (tmp_path / "runs" / "stores").iterdir()
    told = rf"exec \S+ -m dadlab.workers {described} --runs {tmp_path / 'runs'} --processes 2"
    assert re.match(told, script.read_text())
    assert described.suffix == ".json", "nothing is generated"
    execute("generate", tmp_path, **given, **more)
    (record,) = (tmp_path / "runs" / "stores").glob("*-metrics.json")
    assert sum(json.loads(record.read_text())["samples"].values()) == 40
    assert list((tmp_path / "runs" / "stores").glob("*-images/shard-*.arrow"))
    assert "would send 4 files" in (tmp_path / "generate.ipynb").read_text()


@pytest.mark.slow
def test_inspect_shows_its_pictures(tmp_path):
    execute("inspect", tmp_path, limit=40, epochs=1, runs_dir=str(tmp_path / "runs"))
    cells = nbformat.read(tmp_path / "inspect.ipynb", 4).cells
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    assert [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"] == []
    assert sum("image/png" in out.get("data", {}) for out in outputs) == 5
    assert list((tmp_path / "runs").rglob("summary-*.arrow"))


@pytest.mark.slow
def test_spectra_of_given_files(tmp_path):
    told = {"owl": "a round bird", "gull": "a white bird", "bag": "a box with a handle"}
    (tmp_path / "base.json").write_text(json.dumps(told))
    (tmp_path / "captions.json").write_text(json.dumps({label: [f"a {label}", "a bird"] for label in told}))
    execute(
        "figures/spectra",
        tmp_path,
        files={"base": str(tmp_path / "base.json")},
        captions_file=str(tmp_path / "captions.json"),
        out=str(tmp_path),
    )
    record = json.loads((tmp_path / "spectra.json").read_text())
    assert record["labels"] == list(told)
    assert list(record["spread"]) == ["base", "caption, class mean", "plain", "random words", "shuffled"]


@pytest.mark.slow
def test_spectra_of_the_embedded_benchmark(tmp_path):
    execute("figures/spectra", tmp_path, each=3, out=str(tmp_path))
    record = json.loads((tmp_path / "spectra.json").read_text())
    assert len(record["labels"]) == 55
    assert all(found["effective rank, σ²"] > 1 for found in record["spread"].values())


@pytest.mark.slow
def test_enrichment_writes_its_record(tmp_path):
    execute("vlm_ood/enrichment", tmp_path, drawings=[0, 1], limit=55, out=str(tmp_path / "enrichment.json"))
    record = json.loads((tmp_path / "enrichment.json").read_text())
    assert len(record["rows"]) == 2 * 2 * 4
    assert {row["n"] for row in record["rows"]} == {55}
    assert record["template"] in record["templates"]


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the second paper's runs live: its tables share them."""
    return tmp_path_factory.mktemp("aligned")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("table_01_alignment", ["1"]),
        ("table_02_geometry", ["2", "M_neigh", "M_rel", "M_vlalign"]),
        ("table_05_language", ["5", "6", "7"]),
        ("table_08_vit", ["8"]),
        ("table_09_filter", ["9"]),
        ("table_10_shots", ["10", "11"]),
        ("together", ["together"]),
    ],
)
def test_tables_of_the_second_paper(aligned, tmp_path, name, tables):
    limit = 165 if name == "together" else 55  # of fewer images a teacher that reads odd names keeps no sample
    toy = {"epochs": 1, "batch": 8, "views": 1, "limit": limit}
    given = {"seeds": [0, 1], "shared": toy, "runs_dir": str(aligned), "out": str(tmp_path / "table.json")}
    execute(f"vlm_ood/{name}", tmp_path, **given)
    record = json.loads((tmp_path / "table.json").read_text())
    assert sorted(record["tables"]) == tables
    told = json.loads(shlex.split(record["command"])[-1])
    assert {key: told[key] for key in given} == given, "the record's command makes it again"
    for table in record["tables"].values():
        assert "not run" not in {row["missing"] for row in table["rows"]}
        assert {claim["verdict"] for claim in table["claims"]} <= {
            "holds",
            "does not hold",
            "cannot be told at this scale",
        }
