"""Rows, measured tables and sentences about them, on made-up runs: nothing is trained here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dadlab.estimates import accuracy, difference
from dadlab.methods import METHODS
from dadlab.tables import measured as module
from dadlab.tables import rows as rows_module
from dadlab.tables.published import TABLES, load_table
from dadlab.tables.record import printed_in, record
from dadlab.tables.rows import NOT_YET, ROWS, Row, read_rows
from dadlab.tables.sentences import (
    LESS,
    NOT_MEASURED,
    Judged,
    Sentence,
    as_listed,
    judge_sentences,
    read_sentences,
    verdict_table,
)
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN, Claim
from dadlab.tables.view import beside, styled
from dadlab.teacher import load_teacher

NUMBERS = [str(number) for number in range(1, 13)]
PROFILE = read_rows(1)[0].profile


@pytest.mark.parametrize("number", NUMBERS)
def test_every_published_row_has_a_training_or_a_reason(number):
    published, rows = load_table(number), read_rows(number)
    names = {row.name for row in rows}
    printed = {tuple(np.atleast_1d(name)) for name in published.index} - {("change", "Average Change")}
    assert printed <= names
    assert all(row.missing or row.method in METHODS or row.name[0] == "teacher" for row in rows)


@pytest.mark.parametrize("number", NUMBERS)
def test_sentences_name_rows_and_columns_that_exist(number):
    columns, names = load_table(number).columns, {row.key for row in read_rows(number)}
    sentences = read_sentences(number)
    for claim in (claim for sentence in sentences for claim in sentence.comparisons):
        assert {part for row in (claim.first, claim.second) for part in row.split(LESS)} <= names
        assert claim.on in columns
    assert len(as_listed(sentences)) == len(sentences)


def test_published_numbers_agree_with_their_sentences_but_for_the_known_slips():
    """What the paper says of its own numbers, by its own numbers."""
    wrong = set()
    for number in NUMBERS:
        published = load_table(number)
        for sentence in read_sentences(number, published.attrs["lower_is_better"]):
            for claim in sentence.comparisons:
                parts = [row.split(LESS) for row in (claim.first, claim.second)]
                printed = [[printed_in(published, row, claim.on) for row in rows] for rows in parts]
                if any(None in values for values in printed):
                    continue
                first, second = (values[0] - sum(values[1:]) for values in printed)
                if not claim.above < first - second < claim.below:
                    wrong.add((number, claim.first, claim.second, claim.on))
    assert {number for number, *_ in wrong} <= {"1", "5", "8", "9", "12"}, wrong
    assert {second for number, _, second, _ in wrong if number == "1"} == {
        "ViT-B/16 · + DAD (Ours) − ViT-B/16 · AugReg-ViT"  # +11.7 for the smaller model, +18.5 for the larger
    }


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


def test_rows_at_imagenets_scale():
    rows = {row.key: row for row in read_rows(5, "imagenet")}
    assert (rows["RN50 · CLIP-ViT-L"].student, rows["RN50 · CLIP-ViT-L"].profile.epochs) == ("resnet50", 100)
    assert rows["RN50 · CLIP-ViT-L"].profile.augreg == "none"
    assert rows["ViT-B · CLIP-ViT-L"].profile.augreg == "strong2"


def test_a_trained_teacher_is_trained_once_and_named_by_its_file(monkeypatch, tmp_path):
    row = next(row for row in read_rows(9) if row.name == ("RN34", "RN50 + AugMix"))
    assert row.what == "kd, resnet_s, teacher: augmix, resnet_m"
    absent = module.with_teacher(row, tmp_path, train=False)
    assert absent.missing == "not run (teacher: augmix, resnet_m, seed 1000)"

    def train(run, runs_dir):
        (run.folder(runs_dir)).mkdir(parents=True)
        (run.folder(runs_dir) / "student.safetensors").write_text(f"{run.method} {run.seed}")

    monkeypatch.setattr(module, "train_run", train)
    ready = module.with_teacher(row, tmp_path, train=True)
    assert Path(ready.profile.teacher).read_text() == "augmix 1000"
    assert ready.run(0).fingerprint != row.run(0).fingerprint  # the file's content counts
    monkeypatch.setattr(module, "train_run", None)  # calling it would fail
    assert module.with_teacher(row, tmp_path, train=True) == ready


def test_runs_that_are_not_there_are_named_unless_they_may_be_trained(tmp_path):
    there, absent = (row.run(0) for row in read_rows(11)[:2])
    there.folder(tmp_path).mkdir()
    (there.folder(tmp_path) / "student.safetensors").touch()
    module.require_trained([there], tmp_path, train=False)
    module.require_trained([there, absent], tmp_path, train=True)
    with pytest.raises(ValueError, match=r"1 runs are not in .*, first dad-resnet_s-s0"):
        module.require_trained([there, absent, absent], tmp_path, train=False)


def test_a_discrete_vit_is_a_teacher_that_is_no_run(tmp_path):
    small = {"limit": 40, "epochs": 1, "batch": 8}
    (row,) = (row for row in read_rows(9, shared=small) if row.name == ("RN34", "DrViT-S"))
    assert row.what == "kd, resnet_s, teacher: discrete_vit, vit_s"
    ready = module.with_teacher(row, tmp_path, train=True)
    assert module.with_teacher(row, tmp_path, train=False) == ready
    assert ready.run(0).fingerprint != row.run(0).fingerprint
    assert load_teacher(ready.profile.teacher)(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_a_diffusion_model_without_weights_is_missing_and_says_who_makes_them(monkeypatch, tmp_path):
    monkeypatch.setattr(rows_module, "ASSETS", tmp_path)
    rows = {row.key: row for row in read_rows(10)}
    assert "`dadlab.making.diffusion` makes them" in rows["Stable-Diffusion"].missing
    assert str(tmp_path) not in rows["Stable-Diffusion"].missing
    (tmp_path / "diffusion_studio.safetensors").touch()
    rows = {row.key: row for row in read_rows(10)}
    assert rows["Stable-Diffusion"].what == "dad, resnet_s, discretizer diffusion-text"
    assert rows["Stable-Diffusion, image-to-image"].profile.discretizer == "diffusion"


def test_bad_names_say_what_is_meant():
    with pytest.raises(ValueError, match="unknown table '13'"):
        read_rows(13)
    with pytest.raises(ValueError, match="did you mean 'ResNet50'"):
        read_rows(1, students={"ResNet5": "resnet_m"})
    with pytest.raises(ValueError, match="unknown profile"):
        read_rows(1, "imagenette")
    with pytest.raises(ValueError, match=r"unknown student 'vit_x'.*vit_s"):
        read_rows(1, students={"ViT-B": "vit_x"})
    with pytest.raises(ValueError, match="unknown column 'Sketchy': did you mean 'Sketch'"):
        module.measure_rows(load_table(1), [], [0], Path(), columns=["Sketchy"])


def test_a_method_that_is_not_there_is_said_to_be_missing(tmp_path):
    data = json.loads(ROWS.read_text())
    data["tables"] = {"1": {"rows": [["ResNet50", "tomorrow's", {"method": "later"}]], "claims": []}}
    (tmp_path / "rows.json").write_text(json.dumps(data))
    (row,) = read_rows(1, path=tmp_path / "rows.json")
    assert row.missing == NOT_YET


def test_average_varies_as_its_parts_do():
    parts = [np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.5])]
    whole = module.average(parts)
    assert whole.mean() == pytest.approx((0.75 + 0.5) / 2)
    # Var = Σ var_k / N_k / K², with population variances: (3/16 / 4) / 4
    assert whole.var() / len(whole) == pytest.approx(3 / 16 / 4 / 4)


def test_interval_of_an_average_is_that_of_its_parts():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 400)) < 0.8, rng.random((3, 100)) < 0.3
    both = np.stack([module.average([a.astype(float), b.astype(float)]) for a, b in zip(first, second, strict=True)])
    found, alone = accuracy(both), accuracy(np.repeat(second, 1, 0))
    assert found.mean == pytest.approx(50 * (first.mean() + second.mean()))
    assert 0.4 < (found.high - found.low) / (alone.high - alone.low) < 0.75


PUBLISHED = pd.DataFrame(
    {"ImageNet": [80.0, 70.0, 60.0], "C": [50.0, 40.0, 60.0], "Avg": [65.0, 65.0, 50.0]},
    index=pd.MultiIndex.from_tuples([("teacher", "T"), ("N", "a"), ("N", "b")], names=["block", "method"]),
)
PUBLISHED.attrs = {"averages": {"Avg": ["ImageNet", "C"]}, "lower_is_better": ["C"], "title": "t", "unit": "%"}


def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, there: tuple[str, ...] = ("a", "b")) -> module.Measured:
    """A table whose row a is right on 8 of 10 with mCE 30, b on 2 of 10 with mCE 50."""
    right = {"plain": 2, "kd": 8, "": 9}
    cell = {method: np.arange(10) < count for method, count in right.items()}
    monkeypatch.setattr(module, "measure", lambda run, *_: {"studio": cell[run.method]})
    monkeypatch.setattr(module, "measure_corruptions", lambda run, _: {"fog": 0.3 if run.method == "kd" else 0.5})
    monkeypatch.setattr(module, "teacher_correct", lambda *_: cell[""])
    monkeypatch.setattr(module, "teacher_corruptions", lambda *_: {"fog": 0.2})
    monkeypatch.setattr(module, "mce_baseline", lambda _: {"fog": 1.0})
    monkeypatch.setattr(module, "_trained", lambda row, seed, _: not row.method or (row.name[1] in there and seed < 2))
    methods = {"a": "kd", "b": "plain"}
    rows = [Row(("teacher", "T"), PROFILE)]
    rows += [Row(("N", name), PROFILE, method, "resnet_s") for name, method in methods.items()]
    rows += [Row(("N", "c"), PROFILE, missing=NOT_YET)]
    return module.measure_rows(PUBLISHED, rows, [0, 1, 2], tmp_path, train=False)


def test_a_table_is_measured_and_what_is_missing_is_said(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path, there=("a",))
    assert measured.missing == {"N · a": "seeds 0, 1 alone", "N · b": "not run (plain, resnet_s)", "N · c": NOT_YET}
    assert measured.estimates["N · a", "ImageNet"].mean == pytest.approx(80)
    assert measured.estimates["N · a", "C"].mean == pytest.approx(30)
    assert measured.estimates["N · a", "Avg"].mean == pytest.approx(75)  # C enters as 100 − C
    assert measured.estimates["teacher · T", "Avg"].mean == pytest.approx((90 + 80) / 2)


def test_styled_table_has_the_best_bold_and_no_teacher_among_them(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    html = styled(measured).to_html()
    bold = html[: html.index("</style>")].split("font-weight: bold")[0].rsplit("}", 1)[-1]
    frame = beside(measured)
    assert frame["", "remark"].tolist() == ["", "seeds 0, 1 alone", "seeds 0, 1 alone", NOT_YET]
    assert "#T_t_row1_col0" in bold  # published ImageNet: a with 70
    assert "#T_t_row1_col1" in bold  # published C: 40 is less than 60
    assert "#T_t_row1_col4" in bold  # measured C
    assert "row0" not in bold
    assert "80.0 ± " in html
    assert "—" in html


def test_record_follows_every_cell_to_its_runs(monkeypatch, tmp_path):
    found = json.loads(json.dumps(record(made_up(monkeypatch, tmp_path), command="x")))
    teacher, a, b, c = found["rows"]
    assert (a["cells"]["C"]["published"], a["cells"]["C"]["mean"]) == (40.0, 30.0)
    assert a["cells"]["ImageNet"]["seeds"] == {"0": 80.0, "1": 80.0}
    assert a["runs"]["0"].startswith("kd-resnet_s-s0-")
    assert (teacher["method"], c["missing"], c["cells"]["C"]) == ("teacher", NOT_YET, {"published": None})
    assert b["cells"]["ImageNet"]["n"] == 10
    assert a["cells"]["ImageNet"].get("gain") is None
    assert b["cells"]["ImageNet"]["gain"] == {
        "over": "N · a",
        "published": -10.0,
        "mean": -60.0,
        "low": -96.94,  # 2.262 (t of nine) standard errors of 16.33 away
        "high": -23.06,
    }
    assert set(found) >= {"profile", "seeds", "machine", "commit", "command", "title"}


def claims(*comparisons: tuple[str, str, str, float, float]) -> Sentence:
    return Sentence("s", tuple(Claim("s", *names, above, below) for *names, above, below in comparisons))


def test_a_sentence_is_as_good_as_its_worst_comparison(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    up, down = ("N · a", "N · b", "ImageNet", 0.0, np.inf), ("N · b", "N · a", "ImageNet", 0.0, np.inf)
    less, unknown = ("N · a", "N · b", "C", -np.inf, 0.0), ("N · a", "N · c", "C", -np.inf, 0.0)
    said = judge_sentences([claims(up, less), claims(up, down), claims(up, unknown)], measured)
    assert [found.verdict for found in said] == [HOLDS, FAILS, NOT_MEASURED]
    assert said[0].verdicts[0].level == pytest.approx(1 - 0.05 / 6)
    assert said[0].verdicts[0].effect.mean == pytest.approx(60)
    assert Judged(said[0].sentence, (said[0].verdicts[0], None)).verdict == NOT_MEASURED
    assert len(verdict_table(said).data) == 6


def test_an_open_comparison_leaves_a_sentence_open(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    (found,) = judge_sentences([claims(("N · a", "N · b", "ImageNet", 59.0, np.inf))], measured)
    assert found.verdict == OPEN
    assert found.verdicts[0].would_tell


def test_gains_are_compared_as_differences_of_rows(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    gain = f"N · a{LESS}N · b"
    (found,) = judge_sentences([claims((gain, "N · b", "ImageNet", 0.0, np.inf))], measured)
    assert found.verdicts[0].effect.mean == pytest.approx(80 - 20 - 20)
    (found,) = judge_sentences([claims((f"N · a{LESS}N · c", "N · b", "ImageNet", 0.0, np.inf))], measured)
    assert found.verdict == NOT_MEASURED


def test_gains_are_over_the_row_that_is_named():
    rows = {row.key: row for row in read_rows(8)}
    assert rows["distilled · ResNet34"].over == "original · ResNet34"
    assert rows["original · ResNet34"].over == "original · ResNet34"  # itself: another student is no gain


def test_columns_stand_for_splits():
    assert module.split_of("ImageNet", "fashion") == "studio"
    assert module.split_of("Rendition", "fashion") == "rendition"
    assert module.split_of("FGSM", "fashion") is None


def test_difference_is_quick_and_unchanged_by_the_order_of_images():
    rng = np.random.default_rng(0)
    first, second = rng.random((5, 2000)) < 0.6, rng.random((5, 2000)) < 0.5
    found, mixed = difference(first, second), difference(first[:, ::-1], second[:, ::-1])
    assert found.low == pytest.approx(mixed.low, abs=0.15)
    assert TABLES.is_file()


def test_at_imagenets_scale_nothing_is_trained_and_all_that_is_missing_is_said(toy_imagenet, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "measure", None)  # calling it would fail
    rows = read_rows(1, "imagenet", shared={"data": f"imagenet:{toy_imagenet}"})
    measured = module.measure_rows(load_table(1), rows, [0, 1], tmp_path, train=False)
    assert measured.values == {}
    assert measured.missing["teacher · CLIP"] == "not run (teacher)"
    assert measured.missing["ResNet50 · DAD (Ours)"] == "not run (dad, resnet50, augreg none)"
    assert "has no batch norm" in measured.missing["ViT-B/16 · Advprop"]  # a run that cannot be says why
    assert len(styled(measured).data) == len(rows)
    assert not list(tmp_path.iterdir())
