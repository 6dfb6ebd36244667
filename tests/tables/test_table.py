from __future__ import annotations

import math

import pytest

from dadlab.tables import table as module
from dadlab.tables.published import ALL_CLASSES, load_table
from dadlab.tables.sentences import NOT_MEASURED, Sentence
from dadlab.tables.table import Table, read_table
from dadlab.tables.verdicts import FAILS, HOLDS, Claim
from tables.made_up import PUBLISHED, made_up


@pytest.mark.parametrize(
    ("profile", "told", "trains"),
    [("fashion", None, True), ("fashion", False, False), ("imagenet", None, False), ("imagenet", True, True)],
)
def test_nothing_is_trained_for_imagenet_unless_told(profile, told, trains, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "measure_rows", lambda *given, **how: asked.append((given, how)))
    table = read_table(11, profile)
    table.measure([0, 1], str(tmp_path), columns=["A"], train=told)
    assert asked == [
        ((table.published, table.rows, [0, 1], tmp_path), {"columns": ["A"], "train": trains, "cells": None})
    ]


def test_rows_have_the_students_and_the_fields_that_are_given():
    table = read_table(11, "fashion", students={"ViT-B": "resnet_m"}, shared={"epochs": 3})
    trained = [row for row in table.rows if row.method]
    assert {(row.student, row.profile.epochs) for row in trained} == {("resnet_m", 3)}
    assert list(table.published.columns) == list(load_table(11).columns)


def test_columns_of_all_classes_are_added_where_they_are_asked_for():
    ours = set(read_table(1, "imagenet", all_classes=True).published.columns) - set(load_table(1).columns)
    assert ours == set(ALL_CLASSES)


def test_its_record_says_what_was_measured_and_the_verdict_on_each_sentence(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    said = [
        Sentence("a is better", (Claim("", "N · a", "N · b", "ImageNet"),)),
        Sentence("b errs less", (Claim("", "N · b", "N · a", "C", -math.inf, 0.0),)),
        Sentence("c is better", (Claim("", "N · c", "N · b", "ImageNet"),)),
    ]
    told = Table("fashion", PUBLISHED, measured.rows, said).record(measured, command="made up")
    assert told["command"] == "made up"
    assert told["rows"][1]["cells"]["ImageNet"]["mean"] == pytest.approx(80)
    verdicts = {claim["claim"]: claim["verdict"] for claim in told["claims"]}
    assert verdicts == {"a is better": HOLDS, "b errs less": FAILS, "c is better": NOT_MEASURED}


def test_sentences_and_printed_slips_are_shown_before_any_result():
    table = read_table(5, "fashion")
    assert list(table.listed.data.index) == [sentence.said for sentence in table.sentences]
    slips = table.slips.data
    assert len(slips) == len(table.published.attrs["notes"]) > 0
    assert "Repeats the row of ViT-S" in table.slips.to_html()
