import numpy as np
import pytest

from dadlab.captions import tokenizer
from dadlab.tables.verdicts import FAILS, HOLDS
from dadlab.teacher import ClipTeacher, load_teacher
from dadlab.vlm import enrichment
from dadlab.vlm.enrichment import KINDS, best_prompt, hits, judged, spreads, tabulate, texts
from dadlab.vlm.language import cut_texts
from dadlab.vlm.openvocab import NAMINGS, labels_of

OOD = labels_of("ood")


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("resnet", ("bag",), ("{}",))


@pytest.fixture(scope="module")
def found(teacher):
    return hits(teacher, "val", [0, 1], limit=55)


def test_texts_are_finished_prompts():
    (label, *_) = OOD
    assert texts(OOD, "plain", "plain")[0] == f"a photo of {label.plain}"
    assert texts(OOD, "product", "description")[0] == f"a photo of {label.product} . {label.description}"
    assert (
        texts(OOD, "product", "description", template="a {}", join=", ")[0] == f"a {label.product}, {label.description}"
    )


def test_controls_keep_name_and_length_and_no_label_its_description():
    told = texts(OOD, "plain", "description")
    shuffled, random = (texts(OOD, "plain", kind, seed=3) for kind in ("shuffled", "random words"))
    assert sorted(text.split(" . ")[1] for text in shuffled) == sorted(text.split(" . ")[1] for text in told)
    assert not [pair for pair in zip(told, shuffled, strict=True) if pair[0] == pair[1]]
    assert [len(text.split()) for text in random] == [len(text.split()) for text in told]
    assert texts(OOD, "plain", "random words", seed=4) != random
    assert texts(OOD, "plain", "shuffled", seed=4) != shuffled


def test_controls_are_not_cut_either():
    for naming in NAMINGS:
        for kind in KINDS:
            for seed in range(5):
                assert cut_texts(tokenizer(), texts(OOD, naming, kind, seed=seed)) == [], (naming, kind)


def test_hits_by_text(found):
    assert set(found) == {(naming, kind) for naming in NAMINGS for kind in KINDS}
    assert {rows.shape for rows in found.values()} == {(2, 55)}
    assert found["plain", "plain"].mean() > 10 / 55, "the teacher knows colours and garments"
    assert found["product", "plain"].mean() < 10 / 55, "an invented name says nothing"


def test_every_drawing_has_images_and_controls_of_its_own(teacher, monkeypatch):
    drawn, seeds = [], []
    load, say = enrichment.load_open, enrichment.texts
    monkeypatch.setattr(
        enrichment, "load_open", lambda split, *, drawing, limit: drawn.append(drawing) or load(split, limit=limit)
    )
    monkeypatch.setattr(enrichment, "texts", lambda *a, seed, **k: seeds.append(seed) or say(*a, seed=seed, **k))
    hits(teacher, "val", [2], kinds=("plain",), limit=55)
    assert (drawn, seeds) == ([2], [2] * len(NAMINGS))


def test_a_teacher_reads_texts_with_its_own_tokenizer(teacher):
    def last_word(texts, **settings):
        return tokenizer()([text.rpartition(" ")[2] for text in texts], **settings)

    blind = ClipTeacher(teacher.clip, last_word, teacher.preprocess, ("bag",), ("{}",))
    templates, limits = ["a photo of {}"], {"limit": 55}  # an image a label
    found = hits(blind, "val", [0], kinds=("plain",), **limits)["plain", "plain"]
    assert found.sum() <= 10, "garments without their colour are ten names, and no other is ever answered"
    assert best_prompt(blind, templates, **limits)[1]["a photo of {}"] == pytest.approx(100 * found.mean(), abs=0.01)
    assert spreads(blind, "ood")[0]["effective rank, σ²"] <= 9, "of ten features around their mean"


def test_table_pairs_each_text_with_plain():
    rows = {("plain", "plain"): np.eye(4, dtype=bool), ("plain", "description"): np.ones((4, 4), bool)}
    table = tabulate({"ood": rows})
    assert [row["accuracy"]["mean"] for row in table["rows"]] == [25.0, 100.0]
    assert table["rows"][0]["drawings"] == [25.0] * 4
    (pair,) = table["differences"]
    assert (pair["split"], pair["naming"], pair["text"], pair["mean"]) == ("ood", "plain", "description", 75.0)


def test_claims_are_judged_by_the_rule_of_all_tables():
    right = np.random.default_rng(0).random((5, 300))
    shares = {"plain": 0.5, "description": 0.9, "shuffled": 0.95}
    measured = {split: {("plain", kind): right < share for kind, share in shares.items()} for split in ("id", "ood")}
    claims, verdicts = judged(measured)
    assert [(claim.second, claim.on) for claim in claims[:2]] == [("plain", "id, plain"), ("shuffled", "id, plain")]
    assert [found.verdict for found in verdicts] == [HOLDS, FAILS] * 2
    assert {found.level for found in verdicts} == {1 - 0.05 / 4}


def test_spreads_have_a_row_a_naming_and_text(teacher):
    rows = spreads(teacher, "ood")
    assert [(row["naming"], row["text"]) for row in rows] == [(n, k) for n in NAMINGS for k in KINDS]
    assert all(1 < row["effective rank, σ²"] <= row["effective rank, σ"] <= 54 for row in rows)
    assert spreads(teacher, "ood", template="{}")[0] != rows[0], "the template reaches the texts"


def test_best_prompt_is_the_one_that_does_best(teacher, monkeypatch):
    accuracies = {"{}": 0.2, "a {}": 0.6, "one {}": 0.4}

    def stand_in(_, split, *__, template, **___):
        assert split == "val", "no prompt is chosen on a test"
        return {("plain", "plain"): np.array([accuracies[template]])}

    monkeypatch.setattr(enrichment, "hits", stand_in)
    assert best_prompt(teacher, list(accuracies)) == ("a {}", {"{}": 20.0, "a {}": 60.0, "one {}": 40.0})


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown kind of text 'long'"):
        texts(OOD, "plain", "long")
