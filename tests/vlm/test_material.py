import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_benchmarks import write_birds, write_flowers

from dadlab.vlm import evaluate
from dadlab.vlm.evaluate import measure_aligned, measure_halves, teacher_values
from dadlab.vlm.label_texts import FixedTexts
from dadlab.vlm.language import text_features
from dadlab.vlm.material import dataset_for, labels_for, of_labels, teacher_of
from dadlab.vlm.openvocab import labels_of, load_open
from dadlab.vlm.run import AlignRun
from dadlab.vlm.train import train_aligned

TOY = AlignRun("cls+cst+vlprox", epochs=1, batch=128, views=1, recipe="steps", lr=0.05, weight_decay=1e-4)


def test_labels_are_numbered_anew():
    dataset, labels = load_open("ood", limit=110), labels_of("ood")
    half = of_labels(dataset, labels, labels[1::2], 7)
    assert half.labels.unique().tolist() == list(range(7, 34))
    first = (dataset.labels == 1).nonzero()[:, 0]
    assert torch.equal(half.pixels[half.labels == 7], dataset.pixels[first])


def test_a_data_set_on_disk_is_trained_on_and_measured(tmp_path, toy_benchmarks, monkeypatch):
    monkeypatch.setattr(evaluate, "SHOT_EPOCHS", 1)
    run = replace(TOY, data=f"flowers:{write_flowers(tmp_path, each=7)}")
    student, texts = train_aligned(run, tmp_path / "runs")
    assert student(dataset_for(run, "id").images(torch.arange(3))).shape == (3, 64)
    teacher, seen = teacher_of(run), [label.plain for label in labels_for(run, "train")]
    assert torch.equal(texts(), text_features(teacher.clip, teacher.tokenizer, [f"a photo of {name}" for name in seen]))
    found = measure_aligned(run, tmp_path / "runs")
    lengths = {name: len(found[name]) for name in ("id", "ood", "retrieval", "5-shot", "M_rel train", "M_rel ood")}
    assert lengths == {"id": 102, "ood": 357, "retrieval": 102, "5-shot": 102, "M_rel train": 255, "M_rel ood": 357}
    assert "val" not in found
    assert teacher_values(run, tmp_path / "runs").keys() == {"id", "ood"}
    halves = measure_halves(run, tmp_path / "runs")
    assert [len(halves[f"{when} first half"]) for when in ("zero-shot", "after shots")] == [52, 52]


def test_unequal_classes_count_alike(tmp_path, toy_benchmarks):
    root = write_birds(tmp_path)
    for file in sorted((root / "CUB_200_2011" / "images" / "004.Artic_Tern").iterdir())[6:]:
        file.unlink()
    run = replace(TOY, data=f"birds:{root}")
    labels = dataset_for(run, "ood").labels
    values = evaluate._on(run, lambda images: torch.ones(len(images), 64), FixedTexts(run, teacher_of(run), []), "ood")
    assert labels.bincount().min() < labels.bincount().max()
    assert values.mean() == pytest.approx(0.5), "one answer for all images is right for one class of two"


def test_descriptions_are_read_by_name_and_checked_before_work(tmp_path, toy_benchmarks):
    told = tmp_path / "told.json"
    run = replace(TOY, data=f"birds:{write_birds(tmp_path)}", text="description", descriptions=str(told))
    with pytest.raises(ValueError, match=r"told.json: descriptions not found"):
        train_aligned(run, tmp_path / "runs")
    told.write_text(json.dumps({"mallard": "A green head.", "emu": "Tall."}))
    with pytest.raises(ValueError, match=r"missing: 'black footed albatross', .*unknown: 'emu'"):
        train_aligned(run, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    names = [
        label.plain
        for split in ("id", "ood")
        for label in labels_for(replace(run, text="plain", descriptions=""), split)
    ]
    told.write_text(json.dumps({name: f"As {name}s look." for name in reversed(names)}))
    assert [label.description for label in labels_for(run, "ood")] == [f"As {name}s look." for name in names[2:]]


def test_photographs_have_one_drawing_and_the_same_shots_for_every_seed(tmp_path, toy_benchmarks):
    run = replace(TOY, data=f"birds:{write_birds(tmp_path)}")
    first, other = (dataset_for(run, "shots", drawing=drawing) for drawing in (0, 3))
    assert torch.equal(first.pixels, other.pixels)
    limited = replace(run, limit=4)
    assert [len(dataset_for(limited, split)) for split in ("train", "ood", "shots")] == [4, 4, 10]
    assert np.array_equal(first.labels, [0] * 5 + [1] * 5)
