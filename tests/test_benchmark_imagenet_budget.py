import json

import pytest

from benchmarks import imagenet_budget, imagenet_work
from dadlab.demo import ROOT
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.tables.rows import read_rows

RESNET = {"epochs": 100, "batch": 1024, "augreg": "none", "dropout": 0.0, "drop_path": 0.0}
FRESH = {"views": 300}


@pytest.fixture(scope="module")
def work():
    return imagenet_work.work_an_image()


def test_operations_are_those_of_the_published_networks(work):
    """4.09, 17.6 and 81 billion multiplications forward; backward is twice that, but for the pixels' gradient."""
    assert work["resnet50"] == pytest.approx(3 * 2 * 4.09, rel=0.02)
    assert work["vit_base_patch16_224"] == pytest.approx(3 * 2 * 17.6, rel=0.02)
    assert work["teacher"] == pytest.approx(2 * 81, rel=0.02)


def test_a_sample_is_two_discretizations_and_four_passes_of_the_teacher(work):
    """φ(x), φ(Q(x)) with its gradient for the pixels, about as much again, and φ(Q(x'))."""
    assert work["sample"] == pytest.approx(2 * work["discretizer"] + 4 * work["teacher"], rel=0.01)


def test_hours_by_hand(work):
    rows = {row.key: row for row in read_rows(1, "imagenet")}
    chosen = [rows["ViT-B/16 · + DAD (Ours)"], rows["ResNet50 · DAT"], rows["teacher · CLIP"]]
    speeds = dict.fromkeys(("sample", *imagenet_work.STUDENTS), (200.0, 100.0))
    found = imagenet_budget.hours(work, speeds, chosen, 8)
    images = 1_281_167 * 300  # of 2 passes each
    assert found["rows"]["ViT-B/16 · + DAD (Ours)"][0] == pytest.approx(2 * images * 0.1052 / 200 / 8 / 3600, rel=0.02)
    gflop = 100 * (3 * work["resnet50"] + 2 * work["discretizer"])
    assert found["rows"]["ResNet50 · DAT"][1] == pytest.approx(1281.167 * gflop / 100 / 8 / 3600, rel=0.02)
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


@pytest.mark.parametrize(
    ("key", "method", "student", "more"),
    [
        ("ViT-B/16 · ViT", "plain", "vit_base_patch16_224", {"augreg": "none", **FRESH}),
        ("ViT-B/16 · + DAD (Ours)", "dad", "vit_base_patch16_224", {}),
        ("ResNet50 · DAT", "dat", "resnet50", {**RESNET, **FRESH}),
        ("ResNet50 · DAD (Ours)", "dad", "resnet50", RESNET),
    ],
)
def test_the_runs_of_the_guide_are_those_that_the_table_looks_for(key, method, student, more):
    """`notebooks/IMAGENET.md`, step 2."""
    given = {"data": "imagenet:/data/imagenet", "discretizer": "vqgan_f8.safetensors", "accumulate": 4}
    (row,) = (row for row in read_rows(1, "imagenet", shared=given) if row.key == key)
    assert row.run(0) == Run(make_profile("imagenet", **given, **more), method, student)


def test_the_guide_quotes_the_kept_result(work):
    kept = json.loads((ROOT / "papers" / "dad" / "results" / "imagenet_budget.json").read_text())
    assert kept["GFLOP an image"] == work
    guide = (ROOT / "notebooks" / "IMAGENET.md").read_text()
    assert imagenet_budget.tables(kept) in guide
    assert "estimated, not measured" in guide
