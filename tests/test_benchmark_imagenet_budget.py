import json
import os
import re
import subprocess
from dataclasses import fields

import papermill
import pytest
import yaml

from benchmarks import imagenet_budget, imagenet_work
from dadlab.files import ROOT
from dadlab.notebooks import typed
from dadlab.profile import Profile, make_profile
from dadlab.recipes import recipe_of
from dadlab.run import Run
from dadlab.tables.published import load_table, with_all_classes
from dadlab.tables.rows import read_rows

GUIDE = (ROOT / "notebooks" / "IMAGENET.md").read_text()


@pytest.fixture(scope="module")
def work():
    return imagenet_work.work_an_image()


def test_operations_are_those_of_the_published_networks(work):
    """4.09, 17.6 and 81 billion multiplications forward; backward is twice that, but for the pixels' gradient."""
    assert work["resnet50"] == pytest.approx(3 * 2 * 4.09, rel=0.02)
    assert work["vit_base_patch16_224"] == pytest.approx(3 * 2 * 17.6, rel=0.02)
    assert work["teacher"] == pytest.approx(2 * 81, rel=0.02)
    shapes = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), *3 * [(256, 256)], (256, 512)]
    pixels = [224**2] * 2 + [112**2] * 2 + [56**2] * 4 + [28**2]
    once = sum(9 * a * b * n for (a, b), n in zip(shapes, pixels, strict=True))
    assert work["transfer"] == pytest.approx(3 * 2 * once / 1e9, rel=0.02)  # a VGG-19 to relu4_1, twice, and its mirror


def test_a_sample_is_two_discretizations_and_four_passes_of_the_teacher(work):
    """φ(x), φ(Q(x)) with its gradient for the pixels, about as much again, and φ(Q(x'))."""
    assert work["sample"] == pytest.approx(2 * work["discretizer"] + 4 * work["teacher"], rel=0.01)


def test_hours_by_hand(work):
    rows = {row.key: row for row in read_rows(1, "imagenet")}
    names = ("ViT-B/16 · + DAD (Ours)", "ResNet50 · DAT", "ResNet50 · Debiased", "teacher · CLIP")
    chosen = [rows[name] for name in names]
    speeds = dict.fromkeys(("sample", *imagenet_work.STUDENTS), (200.0, 100.0))
    found = imagenet_budget.hours(work, speeds, chosen, 8)
    images = 1_281_167 * 300  # of 2 passes each
    assert found["rows"]["ViT-B/16 · + DAD (Ours)"][0] == pytest.approx(2 * images * 0.1052 / 200 / 8 / 3600, rel=0.02)
    gflop = 100 * (3 * work["resnet50"] + 2 * work["discretizer"])
    assert found["rows"]["ResNet50 · DAT"][1] == pytest.approx(1281.167 * gflop / 100 / 8 / 3600, rel=0.02)
    gflop = 100 * (2 * work["resnet50"] + work["transfer"])
    assert found["rows"]["ResNet50 · Debiased"][1] == pytest.approx(1281.167 * gflop / 100 / 8 / 3600, rel=0.02)
    assert "evaluation alone" in found["rows"]["teacher · CLIP"]
    assert found["once"]["samples"][1] == pytest.approx(2 * found["once"]["samples"][0], abs=0.1)


def test_measured_speeds_take_the_assumptions_place(work, tmp_path):
    generation, resnet, vit = (tmp_path / f"{name}.json" for name in ("generation", "resnet", "vit"))
    generation.write_text(json.dumps({"shapes": {"name": "imagenet"}, "images a second": {"dadlab": 100}}))
    for path, student, speed in ((resnet, "resnet50", 2000), (vit, "vit_base_patch16_224", 1000)):
        settings = {"student": student, "image_size": 224}
        path.write_text(json.dumps({"settings": settings, "photographs a second": {"plain": speed}}))
    speeds = imagenet_budget.measured(work, generation, [resnet, vit])
    assert speeds["resnet50"] == pytest.approx((48.6, 48.6), rel=0.01)
    found = imagenet_budget.hours(work, speeds, read_rows(1, "imagenet"), 1)
    assert found["once"]["samples"][0] == pytest.approx(1_281_167 / 100 / 3600, abs=0.1)
    with pytest.raises(ValueError, match="no measured step of vit_base_patch16_224"):
        imagenet_budget.measured(work, generation, [resnet])
    generation.write_text(json.dumps({"shapes": {"name": "toy"}}))
    with pytest.raises(ValueError, match="measured with --shapes toy; imagenet is wanted"):
        imagenet_budget.measured(work, generation, [resnet, vit])


def test_entries_are_as_large_as_their_formats_say(tmp_path):
    found = imagenet_work.bytes_an_entry(tmp_path)
    assert 784 * 14 / 8 < found["of it codes"] < 1_700  # 14 bits a code, at least
    assert found["of it logits"] < 4_000  # of 1,000 float32, each its own
    assert 64 * 4 + 2 <= found["cached answer, top 64"] < 270
    assert 2000 <= found["cached answer, all"] < 2010


@pytest.fixture
def followed(tmp_path):
    """What a section of the guide starts when its blocks are typed as they are: the words of each command."""
    shell = '#!/bin/bash\n{ printf "%s\\t" "${0##*/}" "${@//$\'\\n\'/ }"; echo; } >> "$CALLS"\n'
    stand_ins = dict.fromkeys((".venv/bin/papermill", ".venv/bin/python", "srun"), shell)
    stand_ins["sbatch"] = shell + 'while [[ $1 == --* ]]; do [[ $1 == --job-name ]] && shift; shift; done; bash "$@"\n'
    stand_ins[".venv/bin/papermill"] += "test -d runs\n"  # papermill makes no folder
    stand_ins["scontrol"] = "#!/bin/bash\necho first\necho second\n"
    for name, text in stand_ins.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}

    def follow(title: str) -> list[list[str]]:
        (section,) = re.findall(rf"^## \d\. {title}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
        blocks = "\n".join(re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
        (tmp_path / "calls").unlink(missing_ok=True)
        subprocess.run(["bash", "-e", "-c", blocks], cwd=tmp_path, env=env, check=True)
        return [line.split("\t")[:-1] for line in (tmp_path / "calls").read_text().splitlines()]

    return follow


def parameters(call):
    """Those that papermill is given."""
    more = {name: typed(value) for flag, name, value in zip(call, call[1:], call[2:], strict=False) if flag == "-p"}
    return more | (yaml.safe_load(call[call.index("-y") + 1]) if "-y" in call else {})


def executed(calls, notebook):
    """Where each execution of a notebook goes, with its parameters."""
    found = [call for call in calls if call[:2] == ["papermill", f"notebooks/{notebook}.ipynb"]]
    assert len({call[2] for call in found}) == len(found), "one executed notebook over another"
    return {call[2]: parameters(call) for call in found}


def trained(calls):
    """The runs of those notebooks that train: what they are given, on top of the student's recipe."""
    names = {entry.name for entry in fields(Profile)}
    return [
        Run(
            make_profile(
                given["profile"],
                **recipe_of(given["profile"], given["student"], given["method"])
                | {name: value for name, value in given.items() if name in names},
            ),
            given["method"],
            given["student"],
        )
        for given in executed(calls, "train").values()
    ]


@pytest.mark.parametrize("title", ["One machine with eight GPUs", "SLURM, four nodes"])
def test_the_guide_trains_all_rows_of_the_table_and_no_other(title, followed):
    (table,) = executed(followed("One machine with eight GPUs"), "tables/table_01").values()
    rows = read_rows(1, table["profile"], shared=table["shared"])
    wanted = {row.run(seed) for row in rows if row.method for seed in table["seeds"]}
    found = trained(followed(title))
    assert len(found) == len(wanted) == 14
    assert set(found) == wanted


def test_the_guide_tests_teacher_and_students_on_every_column(followed):
    published = with_all_classes(load_table(1))
    columns = set(published.columns) - set(published.attrs["averages"])
    wanted = {"val" if name == "ImageNet" else name.lower() for name in columns}
    for title in ("SLURM, four nodes", "One machine with eight GPUs"):
        calls = followed(title)
        assert all(wanted <= set(given["splits"]) for given in executed(calls, "train").values())
    (asked,) = (call for call in calls if "dadlab.tables.answers" in call)
    assert set(asked[asked.index("--splits") + 1 :]) == wanted
    assert json.loads(asked[asked.index("--shared") + 1])["data"] == "imagenet:/data/imagenet"


def test_every_node_starts_what_the_guides_notebooks_wrote_down(followed):
    calls = followed("SLURM, four nodes")
    described = executed(calls, "train") | executed(calls, "generate")
    (images,) = [described.pop(path) for path in [*described] if "launch" not in described[path]]
    assert {given["launch"] for given in described.values()} == {False}
    assert {given["processes"] for given in described.values()} == {8}
    started = [call[-2:] for call in calls if call[0] == "srun"]
    assert sorted(started) == sorted(["bash", given["script"]] for given in described.values())
    assert images["images"] == "webp"
    (begun,) = (given for given in described.values() if "method" not in given)
    assert all(begun[name] == images[name] for name in ("profile", "data", "discretizer"))
    assert {given["rendezvous"] for given in executed(calls, "train").values()} == {"first:29500"}


@pytest.mark.parametrize("notebook", ["generate", "train", "tables/table_01"])
def test_the_guide_gives_parameters_that_its_notebooks_have(notebook, followed):
    known = papermill.inspect_notebook(ROOT / "notebooks" / f"{notebook}.ipynb")
    for title in ("One machine with eight GPUs", "SLURM, four nodes"):
        for given in executed(followed(title), notebook).values():
            assert set(given) <= set(known)


def test_the_guide_quotes_the_kept_result(work):
    kept = json.loads((ROOT / "papers" / "dad" / "results" / "imagenet_budget.json").read_text())
    assert kept["GFLOP an image"] == work
    assert imagenet_budget.tables(kept) in GUIDE
    assert "estimated, not measured" in GUIDE
