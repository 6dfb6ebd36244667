"""Table 12's cells from made-up verdicts: nothing is trained or attacked here."""

from __future__ import annotations

import numpy as np
import pytest

from dadlab.tables import attacked as module
from dadlab.tables import measured as measuring
from dadlab.tables.measured import measure_rows
from dadlab.tables.published import load_table
from dadlab.tables.rows import read_rows
from dadlab.tables.sentences import judge_sentences, read_sentences
from dadlab.tables.verdicts import HOLDS, OPEN

RIGHT = {"dad": 0.5, "dat": 0.3, "plain": 0.2}
COUNTS = {"FGSM": 40, "PGD": 20, "AutoAttack": 10}


@pytest.fixture
def asked(monkeypatch):
    """What was asked of `measure_under_attack`; FGSM leaves the method's share right, the others nothing."""
    calls = []

    def made_up(run, runs_dir, attack, epsilon, *, split, limit, norm="linf"):
        calls.append((run.method, run.student, run.seed, attack, epsilon, split, limit, norm))
        share = {"fgsm": RIGHT[run.method], "none": 0.9}.get(attack, 0.0)
        whole = limit or 400
        return np.arange(whole) < share * whole

    monkeypatch.setattr(module, "measure_under_attack", made_up)
    return calls


def measure(tmp_path, **given):
    rows = [row for row in read_rows(12) if row.name[0] == "ResNet50"]
    return measure_rows(load_table(12), rows, [0, 1], tmp_path, cells=module.attacked(0.03, COUNTS), **given)


def test_columns_are_attacks_on_as_many_photographs_as_told(asked, tmp_path):
    measured = measure(tmp_path)
    assert ("dad", "resnet_s", 1, "autoattack", 0.03, "studio", 10, "linf") in asked
    assert measured.matrix("ResNet50 · ResNet50 DAD", "PGD").shape == (2, 20)
    assert measured.estimates["ResNet50 · ResNet50 DAT", "FGSM"].mean == pytest.approx(30)
    assert not measured.missing


def test_nobody_robust_to_autoattack_is_a_claim_that_enough_photographs_can_tell(asked, tmp_path, monkeypatch):
    sentences = [s for s in read_sentences(12) if s.text.endswith("above the plain ResNet50")]
    (found,) = judge_sentences(sentences, measure(tmp_path))
    assert found.verdict == OPEN
    assert {verdict.would_tell for verdict in found.verdicts} == {"437 images"}  # 1 − 0.0125^(1 / n) < 0.01
    monkeypatch.setitem(COUNTS, "AutoAttack", 437)
    (found,) = judge_sentences(sentences, measure(tmp_path))
    assert found.verdict == HOLDS


def test_nothing_is_attacked_that_was_not_trained(asked, tmp_path):
    measured = measure(tmp_path, train=False)
    assert not asked
    assert set(measured.missing.values()) == {f"{measuring.NOT_RUN} ({m}, resnet_s)" for m in RIGHT}


def test_masking_is_looked_for_in_every_row(asked, tmp_path, monkeypatch):
    """The first seed of each row; examples come from the block's first row, of another seed."""
    monkeypatch.setattr(module, "trained", lambda run, runs_dir: (run.method, run.seed))
    monkeypatch.setattr(
        module, "masking", lambda model, data, epsilon, *, surrogate: f"{model} {surrogate} {len(data)} {epsilon}"
    )
    found = module.signs_of_masking(measure(tmp_path), 0.03, 20, tmp_path)
    assert list(found) == [f"ResNet50 · {name}" for name in ("ResNet50", "ResNet50 DAT", "ResNet50 DAD")]
    assert found["ResNet50 · ResNet50 DAD"] == "('dad', 0) ('plain', 1) 20 0.03"


def test_curves_are_those_of_the_rows_and_seeds_that_were_measured(asked, tmp_path):
    drawn, clean = module.curves(measure(tmp_path), "ResNet50", [0.01, 0.03], {"FGSM": 40}, tmp_path)
    assert list(drawn) == ["FGSM"]
    assert {method: points[0.01].mean for method, points in drawn["FGSM"].items()} == pytest.approx(
        {method: 100 * share for method, share in RIGHT.items()}
    )
    assert clean == {"plain": 90.0, "dat": 90.0, "dad": 90.0}


def test_curves_are_of_one_block_at_every_radius(asked, tmp_path):
    measured = measure_rows(load_table(12), read_rows(12), [0], tmp_path, cells=module.attacked(0.03, COUNTS))
    asked.clear()
    module.curves(measured, "ViT-B", [0.01, 0.02], {"FGSM": 40}, tmp_path)
    assert {(student, attack, epsilon) for _, student, _, attack, epsilon, *_ in asked} == {
        ("vit_s", "fgsm", 0.01),
        ("vit_s", "fgsm", 0.02),
        ("vit_s", "none", 0.0),
    }


@pytest.mark.parametrize(("counts", "most"), [((40, 20), 40), ((0, 20), 0)])  # 0 is all
def test_curves_begin_with_as_many_photographs_as_any_attack_has(asked, tmp_path, counts, most):
    measured = measure(tmp_path)
    asked.clear()
    module.curves(measured, "ResNet50", [0.01], dict(zip(("FGSM", "PGD"), counts, strict=True)), tmp_path)
    assert {limit for *_, attack, _, _, limit, _ in asked if attack == "none"} == {most}
