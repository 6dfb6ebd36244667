from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dadlab.vlm.openvocab import load_open
from dadlab.vlm.run import AlignRun
from dadlab.vlm.samples import samples_beside
from dadlab.vlm.train import train_aligned

TOY = AlignRun("cls+cst", epochs=1, batch=16, views=2, limit=110, beside="dad")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def test_a_second_view_is_of_the_same_images(runs):
    clean = load_open("train", limit=110)
    assert samples_beside(replace(TOY, beside=""), clean, runs) is None
    assert samples_beside(replace(TOY, beside="view"), clean, runs) is clean


def test_dad_samples_are_made_once_and_fewer_are_kept_than_without_attack(runs, capsys):
    clean = load_open("train", limit=110)
    made, plain = (samples_beside(replace(TOY, beside=kind), clean, runs) for kind in ("dad", "q"))
    assert 0 < len(made) < len(plain) <= 220
    assert set(made.labels.tolist()) <= set(range(55))
    assert f"dad: kept {len(made)} of 220 samples" in capsys.readouterr().out
    again = samples_beside(TOY, clean, runs)
    assert torch.equal(again.labels, made.labels)
    assert len(list((runs / "stores").glob("*/manifest.json"))) == 2, "the store was found again"


def test_descriptions_in_the_head_make_other_samples(runs):
    clean = load_open("train", limit=110)
    names, told = (samples_beside(replace(TOY, beside=kind), clean, runs) for kind in ("dad", "dad described"))
    assert names.fingerprint != told.fingerprint
    enriched = samples_beside(replace(TOY, text="description"), clean, runs)
    assert enriched.fingerprint == told.fingerprint, "with descriptions as label texts the head has them, too"


def test_half_of_every_batch_is_samples_and_clean_images_are_seen_as_often(runs):
    alone, beside = replace(TOY, beside=""), TOY
    (few, _), (many, _) = train_aligned(alone, runs), train_aligned(beside, runs)
    steps = [len(run.folder(runs).joinpath("loss.jsonl").read_text().splitlines()) for run in (alone, beside)]
    assert steps == [1, 1], "an epoch is an epoch of clean images"
    assert any(not torch.equal(a, b) for a, b in zip(few.parameters(), many.parameters(), strict=True))
