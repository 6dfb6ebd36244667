import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_benchmarks import write_birds, write_flowers

from dadlab.vlm import evaluate, train
from dadlab.vlm.benchmarks import listing
from dadlab.vlm.evaluate import after_shots, measure_aligned, measure_halves, teacher_values
from dadlab.vlm.label_texts import FixedTexts, prompted
from dadlab.vlm.language import text_features
from dadlab.vlm.material import captions_of, dataset_for, drawings, labels_for, of_labels, rows_of_labels, teacher_of
from dadlab.vlm.objective import Batch
from dadlab.vlm.openvocab import labels_of, load_open
from dadlab.vlm.run import AlignRun
from dadlab.vlm.train import train_aligned

TOY = AlignRun("cls+cst+vlprox", epochs=1, batch=128, views=1, recipe="steps", lr=0.05, weight_decay=1e-4)


def test_labels_are_numbered_anew():
    dataset, labels = load_open("ood", limit=110), labels_of("ood")
    half = of_labels(dataset, labels, labels[1::2])
    assert half.labels.unique().tolist() == list(range(27))
    first = (dataset.labels == 1).nonzero()[:, 0]
    assert torch.equal(half.pixels[half.labels == 0], dataset.pixels[first])
    rows, numbers = rows_of_labels(dataset, labels, labels[1::2], 7)
    assert torch.equal(dataset.pixels[rows], half.pixels)
    assert torch.equal(numbers, half.labels + 7)


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


def same_features(images: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(images), 64)


def test_unequal_classes_count_alike(tmp_path, toy_benchmarks):
    root = write_birds(tmp_path)
    for file in sorted((root / "CUB_200_2011" / "images" / "004.Artic_Tern").iterdir())[6:]:
        file.unlink()
    run = replace(TOY, data=f"birds:{root}")
    labels = dataset_for(run, "ood").labels
    texts, unseen = FixedTexts(run, teacher_of(run), []), labels_for(run, "ood")
    assert labels.bincount().min() < labels.bincount().max()
    always = evaluate._on(run, same_features, texts, "ood"), evaluate._among(run, same_features, texts, unseen)
    assert [len(values) for values in always] == [16, 6], "without the shots"
    for values in always:
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
    assert [label.seen for split in ("id", "ood") for label in labels_for(run, split)] == [True] * 2 + [False] * 2


@pytest.fixture
def captioned(tmp_path, toy_benchmarks) -> AlignRun:
    """L_cap on birds whose captions say of which class and which of its pictures they are, listed backwards."""
    told, root = tmp_path / "captions.json", write_birds(tmp_path)
    run = replace(TOY, losses="cls+cap", data=f"birds:{root}", captions=str(told), batch=8)
    names = reversed(listing(run.data).files.names)
    told.write_text(json.dumps({name: f"bird {name.split('/')[-2][2]} {name.split('_')[-2][2:]}" for name in names}))
    return run


def test_every_image_is_shown_with_its_own_caption(tmp_path, captioned, monkeypatch):
    found = captions_of(replace(captioned, limit=4), "train")
    assert [text[:6] for text in found] == ["bird 1", "bird 1", "bird 2", "bird 2"], "two of either seen class"
    monkeypatch.setattr(evaluate, "SHOT_EPOCHS", 1)
    seen, objective = list[Batch](), train.objective
    monkeypatch.setattr(train, "objective", lambda run, student, b: seen.append(b) or objective(run, student, b))
    after_shots(captioned, tmp_path / "runs", labels_for(captioned, "ood"))
    teacher, splits = teacher_of(captioned), ("train", "shots")
    texts = [text for split in splits for text in captions_of(captioned, split)]
    known = text_features(teacher.clip, teacher.tokenizer, texts)
    for batch in (seen[0], seen[-1]):
        nearest = [texts[k] for k in (batch.captions @ known.T).argmax(1).tolist()]
        assert [int(text[5]) - 1 for text in nearest] == batch.labels.tolist(), "captions of the labels shown"
    assert set(seen[-1].labels.tolist()) & {2, 3}, "shots were shown, with theirs"


def test_captions_that_do_not_fit_are_named_before_work(tmp_path, captioned):
    path = Path(captioned.captions)
    told = json.loads(path.read_text())
    shot = next(name for name in told if "Mallard_0000" in name)
    path.write_text(json.dumps({name: text for name, text in told.items() if name != shot} | {"emu.jpg": "an emu"}))
    with pytest.raises(ValueError, match=rf"captions do not fit .*missing: '{shot}'; unknown: 'emu.jpg'"):
        train_aligned(captioned, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_descriptions_has_a_file_a_prompt(tmp_path, toy_benchmarks):
    run = replace(TOY, data=f"birds:{write_birds(tmp_path)}", descriptions=str(tmp_path / "told"))
    names = listing(run.data).names
    (tmp_path / "told").mkdir()
    for prompt in ("base", "succinct"):
        (tmp_path / "told" / f"{prompt}.json").write_text(json.dumps({name: f"{prompt} {name}" for name in names}))
    for text, prompt in (("description", "base"), ("succinct", "succinct")):
        asked = replace(run, text=text)
        expected = [f"a photo of {name} . {prompt} {name}" for name in names[2:]]
        assert prompted(asked, labels_for(asked, "ood")) == expected
    with pytest.raises(ValueError, match=r"detailed.json: descriptions not found"):
        labels_for(replace(run, text="detailed"), "ood")


def test_photographs_have_one_drawing_and_the_same_shots_for_every_seed(tmp_path, toy_benchmarks):
    run = replace(TOY, data=f"birds:{write_birds(tmp_path)}")
    assert [len(drawings(asked)) for asked in (run, AlignRun())] == [1, 4]
    first, other = (dataset_for(run, "shots", drawing=drawing) for drawing in (0, 3))
    assert torch.equal(first.pixels, other.pixels)
    limited = replace(run, limit=4)
    assert [len(dataset_for(limited, split)) for split in ("train", "ood", "shots")] == [4, 4, 10]
    assert np.array_equal(first.labels, [0] * 5 + [1] * 5)
