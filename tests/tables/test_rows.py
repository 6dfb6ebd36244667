"""Which training stands for which row."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm

from dadlab.fingerprints import fingerprint
from dadlab.methods import METHODS
from dadlab.tables.published import load_table
from dadlab.tables.rows import NOT_YET, ROWS, read_rows

NUMBERS = [str(number) for number in range(1, 13)]
MARKS = ("later", "ours", "some")
WRITTEN_DOWN = {
    "1": "1f4fff46ddfb",
    "2": "e47da1073c4d",
    "3": "a8dcfab4769e",
    "4": "6126f5a85efd",
    "5": "b637f54dcf82",
    "6": "f9afd9216bd8",
    "7": "a3aa4f3bba49",
    "8": "ae5e74818da1",
    "9": "088e28c35705",
    "10": "bb2e5acbf904",
    "11": "c6b7cd409b9c",
    "12": "80afc4d43039",
}


@pytest.mark.parametrize("number", NUMBERS)
def test_every_published_row_has_a_training_or_a_reason(number):
    published, rows = load_table(number), read_rows(number)
    names = {row.name for row in rows}
    printed = {tuple(np.atleast_1d(name)) for name in published.index}
    assert printed <= names
    assert all(row.missing or row.method in METHODS or row.name[0] in ("teacher", "change") for row in rows)


def test_rows_take_stand_ins_recipes_and_overrides():
    rows = {row.key: row for row in read_rows(1, shared={"epochs": 3})}
    assert (rows["ViT-B/16 · ViT"].student, rows["ViT-B/16 · ViT"].profile.augreg) == ("vit_s", "none")
    assert rows["ViT-B/16 · + DAD (Ours)"].profile.augreg == "light1"
    assert (rows["ViT-B/16 · ViT"].profile.lr, rows["ResNet50 · DAD (Ours)"].profile.lr) == (1e-3, 6e-3)
    assert rows["ResNet50 · DAD (Ours)"].student == "resnet_s"
    assert {row.profile.epochs for row in rows.values()} == {3}
    swapped = {row.key: row for row in read_rows(1, students={"ViT-B": "resnet_m"})}
    assert swapped["ViT-B/16 · + DAD (Ours)"].student == "resnet_m"
    assert swapped["ViT-B/16 · + DAD (Ours)"].profile.augreg == "none"
    larger = {row.key: row for row in read_rows(1, students={"ViT-B": "vit_m"}, shared={"augreg": "medium2"})}
    assert [larger[f"ViT-B/16 · {name}"].profile.augreg for name in ("ViT", "+ DAT")] == ["none", "medium2"]
    assert larger["ViT-B/16 · + DAT"].profile.lr == 1e-3
    other = {row.key: row for row in read_rows(5)}["RN34 · CLIP-RN101"]
    assert other.profile.teacher == "vit"


@pytest.mark.parametrize("number", NUMBERS)
def test_rows_at_imagenets_scale_are_named_or_missing(number):
    rows = read_rows(number, "imagenet")
    assert [row.name for row in rows] == [row.name for row in read_rows(number)]
    assert all(bool(row.what) != bool(row.missing) for row in rows)


def test_methods_without_teacher_see_a_new_view_every_epoch():
    """At ImageNet's scale; the others see as many as their teacher's answers are cached for."""
    views = {row.key: row.profile.views for row in read_rows(1, "imagenet") if row.method and not row.missing}
    assert views["ResNet50 · DAT"] == views["ViT-B/16 · + Pyramid AT"] == 300
    assert views["ResNet50 · DAD (Ours)"] == views["ResNet50 · DAT + DAD (Ours)"] == 8


def test_rows_at_imagenets_scale():
    rows = {row.key: row for row in read_rows(5, "imagenet")}
    assert (rows["RN50 · CLIP-ViT-L"].student, rows["RN50 · CLIP-ViT-L"].profile.epochs) == ("resnet50", 100)
    assert rows["RN50 · CLIP-ViT-L"].profile.augreg == "none"
    assert rows["ViT-B · CLIP-ViT-L"].profile.augreg == "strong2"


def test_table_4_fine_tunes_published_weights_and_trains_from_scratch_what_table_1_does():
    rows = {row.key: row for row in read_rows(4, "imagenet")}
    tuned, scratch = rows["DAD (Ours)"], rows["AugReg-ViT, from scratch"]
    assert timm.get_pretrained_cfg(tuned.student).tag == "orig_in21k", "neither AugReg nor ImageNet-1K has touched it"
    assert (tuned.profile.start, tuned.profile.epochs, tuned.profile.batch) == ("pretrained", 8, 512)
    first = {row.key: row for row in read_rows(1, "imagenet")}
    assert scratch.run(0) == first["ViT-B/16 · AugReg-ViT"].run(0)
    other = read_rows(4, "imagenet", students={"ViT-B": "vit_base_patch16_224.augreg_in21k"})
    assert [row.profile.epochs for row in other] == [8, 8, 8, 300, 300, 300]


def test_each_way_of_diffusion_is_a_row():
    rows = {row.key: row for row in read_rows(10)}
    assert rows["Stable-Diffusion"].what == "dad, resnet_s, discretizer diffusion-text"
    assert rows["Stable-Diffusion, image-to-image"].profile.discretizer == "diffusion"
    assert rows["Stable-Diffusion, class in the prompt"].profile.discretizer == "diffusion-text-class"


def test_bad_names_say_what_is_meant():
    with pytest.raises(ValueError, match="unknown table '13'"):
        read_rows(13)
    with pytest.raises(ValueError, match="did you mean 'ResNet50'"):
        read_rows(1, students={"ResNet5": "resnet_m"})
    with pytest.raises(ValueError, match="unknown profile"):
        read_rows(1, "imagenette")
    with pytest.raises(ValueError, match=r"unknown student 'vit_x'.*vit_s"):
        read_rows(1, students={"ViT-B": "vit_x"})


def test_a_method_that_is_not_there_is_said_to_be_missing(tmp_path):
    data = json.loads(ROWS.read_text())
    data["tables"] = {"1": {"rows": [["ResNet50", "tomorrow's", {"method": "later"}]], "claims": []}}
    (tmp_path / "rows.json").write_text(json.dumps(data))
    (row,) = read_rows(1, path=tmp_path / "rows.json")
    assert row.missing == NOT_YET


def test_gains_are_over_the_row_that_is_named():
    rows = {row.key: row for row in read_rows(8)}
    assert rows["distilled · ResNet34"].over == "original · ResNet34"
    assert rows["original · ResNet34"].over == "original · ResNet34"  # itself: another student is no gain


def test_an_average_change_is_over_rows_with_references_of_their_own():
    rows = read_rows(8)
    (mean,) = (row for row in rows if row.change)
    assert (mean.key, mean.what) == ("change · Average Change", "mean change, rows of distilled")
    of = [row for row in rows if row.name[0] == mean.change]
    assert [row.over for row in of] == [f"original · {row.name[1]}" for row in of]
    assert len(of) == 4


def test_table_9_has_the_rows_that_its_sentences_about_rn50_want():
    rows = {row.key: row for row in read_rows(9)}
    assert rows["RN50 · -"].what == "plain, resnet_m"
    assert rows["RN50 · CLIP-ViT-L"].what == "kd, resnet_m"


@pytest.mark.parametrize("number", NUMBERS)
def test_claims_have_no_field_that_is_not_explained(number):
    data = json.loads(ROWS.read_text())
    for claim in data["tables"][number]["claims"]:
        assert claim.keys() <= {"text", "first", "than", "on", "above", *MARKS}
        assert all(claim[mark] is True for mark in MARKS if mark in claim)
    assert all(f"`{mark}`" in data["about"] for mark in MARKS)


def test_what_is_compared_is_what_was_written_down():
    """Whoever changes a row or a claim says so in papers/LOG.md, with the verdict that was known, and renews this."""
    tables = json.loads(ROWS.read_text())["tables"]
    assert {number: fingerprint(table) for number, table in tables.items()} == WRITTEN_DOWN


def test_margins_are_those_of_the_claims_words():
    tables = json.loads(ROWS.read_text())["tables"].values()
    margins = {claim["text"]: claim["above"] for table in tables for claim in table["claims"] if "above" in claim}
    point = "Neither DAT nor DAD is robust to AutoAttack: at most a point above the plain ResNet50"
    assert margins == {
        "In distribution DAD stays competitive for ViT-B: at most a point below AugReg alone": -1.0,
        "As augmentation alone DAD remains competitive: at most two points below Pyramid AT and DAT on average": -2.0,
        point: -1.0,
        point.replace("ResNet50", "ViT-B"): -1.0,
    }


@pytest.mark.parametrize(
    ("number", "students"),
    [(1, {"vit_s", "resnet_s"}), (8, {"vit_m", "vit_s", "resnet_m", "resnet_s"}), (9, {"resnet_m", "resnet_s"})],
)
def test_students_of_a_table(number, students):
    assert {row.student for row in read_rows(number) if row.method} == students


def test_a_row_that_is_trained_as_another_says_so():
    """AugReg is for ViTs: on a ResNet a row with it is the row without it."""
    twice = {row.key: row.missing for row in read_rows(4, students={"ViT-B": "resnet_s"})}
    assert twice["AugReg-ViT, from scratch"] == "the same training here as ViT, from scratch"
    assert not twice["ViT, from scratch"]
    assert not any(row.missing for row in read_rows(4) if "scratch" in row.key)
