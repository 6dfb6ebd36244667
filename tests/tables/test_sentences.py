"""What the paper says of its tables, judged on made-up ones."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dadlab.tables.measured import Measured
from dadlab.tables.published import load_table
from dadlab.tables.record import printed_in
from dadlab.tables.rows import ROWS, read_rows
from dadlab.tables.sentences import (
    IMPOSSIBLE,
    LATER,
    LESS,
    NOT_MEASURED,
    OURS,
    OVER,
    Judged,
    Sentence,
    as_listed,
    columns_of,
    judge_claims,
    judge_sentences,
    ratio,
    read_sentences,
    record_of,
    rows_in,
    value_of,
)
from dadlab.tables.summary import published_on
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN, Claim
from tables.made_up import made_up

NUMBERS = [str(number) for number in range(1, 13)]


@pytest.mark.parametrize("number", NUMBERS)
def test_sentences_name_rows_and_columns_that_exist(number):
    columns, names = load_table(number).columns, {row.key for row in read_rows(number)}
    sentences = read_sentences(number)
    for claim in (claim for sentence in sentences for claim in sentence.comparisons):
        assert {*rows_in(claim.first), *rows_in(claim.second)} <= names
        assert {*columns_of(claim.on)} <= {*columns}
    assert len(as_listed(sentences)) == len(sentences)


def test_published_numbers_agree_with_their_sentences_but_for_the_known_slips():
    """What the paper says of its own numbers, by its own numbers."""
    wrong = set()
    for number in NUMBERS:
        published = load_table(number)
        lower = published.attrs["lower_is_better"]
        cells = {
            row.key: {name: {"published": printed_in(published, row.key, name)} for name in published.columns}
            for row in read_rows(number)
        }
        for sentence in read_sentences(number, lower):
            found = set()
            for claim in sentence.comparisons:
                rows = {*rows_in(claim.first), *rows_in(claim.second)}
                printed = {row: published_on(cells.get(row, {}), claim.on, lower) for row in rows}
                if None in printed.values():
                    continue
                first, second = (value_of(name, printed.get) for name in (claim.first, claim.second))
                if not claim.above < first - second < claim.below:
                    found.add((number, claim.first, claim.second, claim.on))
            if len(found) > (len(sentence.comparisons) - 1) * sentence.some:
                wrong |= found
    large, small = "ViT-B/16 · + DAD (Ours) − ViT-B/16 · AugReg-ViT", "ResNet50 · DAD (Ours) − ResNet50 · ResNet50"
    assert wrong == {
        ("1", small, large, "Avg (Rendition, Sketch, A)"),  # +11.7 for the smaller model, +18.5 for the larger
        ("8", "distilled · ResNet34 − original · ResNet34", "distilled · ViT-B − original · ViT-B", "Rendition"),
        ("12", "ViT-B · ViT-B - DAD", "ViT-B · ViT-B", "FGSM"),  # 47.2 with DAD, 49.4 without
    }


def claims(*comparisons: tuple[str, str, str, float, float]) -> Sentence:
    return Sentence("s", tuple(Claim("s", *names, above, below) for *names, above, below in comparisons))


def test_a_sentence_is_as_good_as_its_worst_comparison(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    up, down = ("N · a", "N · b", "ImageNet", 0.0, np.inf), ("N · b", "N · a", "ImageNet", 0.0, np.inf)
    less, unknown = ("N · a", "N · b", "C", -np.inf, 0.0), ("N · a", "N · c", "C", -np.inf, 0.0)
    said = judge_sentences([claims(up, less), claims(up, down), claims(up, unknown)], measured)
    assert [found.verdict for found in said] == [HOLDS, FAILS, NOT_MEASURED]
    assert said[0].verdicts[0].level == pytest.approx(1 - 0.05 / 4)  # `up` is one comparison
    assert said[0].verdicts[0].effect.mean == pytest.approx(60)
    holds, fails = said[1].verdicts
    assert Judged(said[0].sentence, (holds, None)).verdict == NOT_MEASURED
    assert Judged(said[0].sentence, (fails, None)).verdict == FAILS
    assert [len(found["comparisons"]) for found in record_of(said)] == [len(found.verdicts) for found in said]


def test_a_comparison_that_two_sentences_make_counts_once(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    both = [Claim(text, "N · a", "N · b", "ImageNet") for text in ("first", "second")]
    said = judge_sentences([Sentence(claim.text, (claim,)) for claim in both], measured)
    assert {found.verdicts[0].level for found in said} == {0.95}


def test_one_turn_tells_nothing_and_its_record_says_so():
    """As a round of Table 7."""
    right = {"A": {0: np.ones(20)}}, {"A": {0: np.zeros(20)}}
    measured = replace(of_seeds(a=right[0], b=right[1]), turns="rounds")
    said = replace(claims(("a", "b", "A", 0.0, np.inf)), some=True, ours=True)
    judged = judge_sentences([said], measured)
    assert (judged[0].verdict, judged[0].verdicts[0].would_tell) == (OPEN, "at least 2 rounds")
    (told,) = record_of(judged)
    assert (told["some"], told["ours"], told["comparisons"][0]["seeds"]) == (True, True, 1)


def test_rows_that_nobody_can_train_are_left_out_and_the_sentence_says_so(monkeypatch, tmp_path):
    """A row that was not run yet is another matter."""
    measured = made_up(monkeypatch, tmp_path, there=("a",))
    *others, last = measured.rows
    measured = replace(measured, rows=[*others, replace(last, missing="student 'vit_s' has no batch norm")])
    up, gone = ("teacher · T", "N · a", "ImageNet", 0.0, np.inf), ("teacher · T", "N · c", "ImageNet", 0.0, np.inf)
    not_run = ("teacher · T", "N · b", "ImageNet", 0.0, np.inf)
    some, none, later = judge_sentences([claims(up, gone), claims(gone), claims(up, not_run)], measured)
    assert (some.sentence.said, len(some.verdicts)) == ("s (left out: N · c)", 1)
    assert some.verdict not in (NOT_MEASURED, IMPOSSIBLE)
    assert some.verdicts[0].level == pytest.approx(1 - 0.05 / 3)  # those that cannot be made count
    assert (none.verdict, none.sentence.said) == (IMPOSSIBLE, "s (left out: N · c)")
    assert (later.verdict, later.sentence.said) == (NOT_MEASURED, "s")
    assert [found["verdict"] for found in record_of([none])] == [IMPOSSIBLE]


@pytest.mark.parametrize(("mark", "remark"), [("later", LATER), ("ours", OURS)])
def test_sentences_that_were_added_later_or_are_our_own_say_so(mark, remark):
    listed = [said for number in range(1, 13) for said in as_listed(read_sentences(number)).index]
    data = json.loads(ROWS.read_text(encoding="utf-8"))["tables"].values()
    marked = [claim["text"] for table in data for claim in table["claims"] if claim.get(mark)]
    assert marked
    assert {said for said in listed if remark in said} == {text + remark for text in marked}


@pytest.mark.parametrize(
    ("number", "first", "second", "on"),
    [
        (1, "ResNet50 · DAD (Ours)", "ResNet50 · DAT + DAD (Ours)", "Avg (Rendition, Sketch, A)"),
        (2, "ViT-B/16 · + Pyramid AT", "teacher · CLIP", "C"),
        (3, "DAD (Ours)", "KD", "mean of C, Stylized, Rendition, Sketch, A"),
        (4, "AugReg-ViT, from scratch", "ViT", "Avg"),
        (5, "RN50 · ViT-B + DAT", "RN50 · CLIP-ViT-L", "C"),
        (7, "DAD as augmentation", "Pyramid AT", "Training Budget"),
        (9, "RN50 · DrViT-S", "RN50 · -", "Rendition"),
        (10, "VQGAN", "Stable-Diffusion", "Avg"),
        (11, "VQGAN - Sample", "VQGAN - Grad", "V2"),
    ],
)
def test_prose_that_is_easily_overlooked_is_listed(number, first, second, on):
    claims = [claim for sentence in read_sentences(number) for claim in sentence.comparisons]
    assert (first, second, on) in {(claim.first, claim.second, claim.on) for claim in claims}


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
    times = f"N · a{OVER}N · b"
    (found,) = judge_sentences([claims((times, "N · b", "ImageNet", 0.0, np.inf))], measured)
    assert found.verdicts[0].effect.mean == pytest.approx(100 * 80 / 20 - 20)
    (found,) = judge_sentences([claims((f"N · a{LESS}N · c", "N · b", "ImageNet", 0.0, np.inf))], measured)
    assert found.verdict == NOT_MEASURED


def test_a_ratios_interval_is_that_of_fieller_where_its_base_is_sure():
    """Fieller's interval, of two means that vary together, over draws of correctness on 400 photographs."""
    draws = np.random.default_rng(0)
    base = (draws.random((1, 400)) < 0.6).astype(float)
    values = np.where(draws.random((1, 400)) < 0.8, base, 1 - base)
    found, spread = ratio(values, base), np.cov(values[0], base[0]) / 400
    mean, far = values.mean() / base.mean(), 1.96
    g = far**2 * spread[1, 1] / base.mean() ** 2
    inner = spread[0, 0] - 2 * mean * spread[0, 1] + mean**2 * spread[1, 1]
    inner -= g * (spread[0, 0] - spread[0, 1] ** 2 / spread[1, 1])
    fieller = far * np.sqrt(inner) / base.mean() / (1 - g)
    assert found.mean() == pytest.approx(mean)
    assert far * found.std(ddof=1) / 20 == pytest.approx(fieller, rel=0.02)


def test_claims_of_one_text_are_one_sentence_and_keep_their_scale():
    """All claims count in the correction, and a measure that is no points is told with three decimals."""
    draws = np.random.default_rng(0).normal(0, 1e-3, (5, 200))
    measured = {("a", "cosine"): 0.05 + draws, ("b", "cosine"): draws, ("b", "size"): draws, ("a", "size"): draws + 1}
    claims = [Claim("alike", "a", "b", "cosine", scale=1), Claim("small", "a", "b", "size", scale=1, below=0, above=-9)]
    claims += [Claim("alike", "a", "b", "size", scale=1)]
    alike, small = judge_claims(claims, measured)
    assert [found.on for found in alike.sentence.comparisons] == ["cosine", "size"]
    assert (alike.verdict, small.verdict) == (HOLDS, FAILS)
    assert {found.level for found in (*alike.verdicts, *small.verdicts)} == {1 - 0.05 / 3}
    assert record_of([alike])[0]["comparisons"][0]["effect"]["mean"] == pytest.approx(0.05)


def test_one_comparison_is_enough_for_a_sentence_that_says_some(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    up, down = ("N · a", "N · b", "ImageNet", 0.0, np.inf), ("N · b", "N · a", "ImageNet", 0.0, np.inf)
    unsure, unknown = ("N · a", "N · b", "ImageNet", 59.0, np.inf), ("N · c", "N · b", "ImageNet", 0.0, np.inf)
    said = [(up, down, unknown), (down, unsure), (down, unknown), (down, down)]
    found = judge_sentences([replace(claims(*each), some=True) for each in said], measured)
    assert [judged.verdict for judged in found] == [HOLDS, OPEN, NOT_MEASURED, FAILS]


def of_seeds(**rows: dict[str, dict[int, np.ndarray]]) -> Measured:
    published = pd.DataFrame()
    published.attrs = {"lower_is_better": ["C"]}
    return Measured(published, [], range(5), rows, {})


def test_rows_are_paired_by_seed_in_whatever_order_they_were_measured():
    """Seeds differ by tens of points, rows of one seed by ten: unpaired that could not be told."""
    right = {seed: (np.arange(100) < 20 + 12 * seed).astype(float) for seed in range(5)}
    more = {seed: (np.arange(100) < 30 + 12 * seed).astype(float) for seed in reversed(range(5))}
    measured = of_seeds(a={"A": more}, b={"A": right})
    (ahead,) = judge_sentences([claims(("a", "b", "A", 0.0, np.inf))], measured)
    assert ahead.verdict == HOLDS
    assert ahead.verdicts[0].effect.mean == pytest.approx(10)
    shuffled = {seed: right[4 - seed] for seed in range(5)}
    (unpaired,) = judge_sentences([claims(("a", "b", "A", 0.0, np.inf))], of_seeds(a={"A": more}, b={"A": shuffled}))
    assert unpaired.verdict == OPEN


def test_a_mean_of_columns_counts_what_is_better_lower_the_other_way_round():
    half, all_, none = np.array([0.0, 1.0] * 50), np.ones(100), np.zeros(100)
    a, b = {"A": all_, "C": none}, {"A": half, "C": all_}
    three = [{column: dict.fromkeys(range(3), values) for column, values in cells.items()} for cells in (a, b)]
    measured = of_seeds(a=three[0], b=three[1])
    (found,) = judge_sentences([claims(("a", "b", "mean of A, C", 0.0, np.inf))], measured)
    assert found.verdicts[0].effect.mean == pytest.approx((100 + 100) / 2 - (50 + 0) / 2)
    (missing,) = judge_sentences([claims(("a", "b", "mean of A, V2", 0.0, np.inf))], measured)
    assert missing.verdict == NOT_MEASURED


def test_a_margin_is_turned_where_less_is_better(tmp_path):
    said = {"text": "no worse by two", "first": "a", "than": ["b"], "on": ["A", "C"], "above": -2.0}
    (tmp_path / "rows.json").write_text(json.dumps({"tables": {"1": {"claims": [said]}}}))
    ((more, less),) = (s.comparisons for s in read_sentences(1, ["C"], tmp_path / "rows.json"))
    assert (more.above, more.below) == (-2.0, np.inf)
    assert (less.above, less.below) == (-np.inf, 2.0)
