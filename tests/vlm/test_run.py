import dataclasses
import json

import pytest
import torch
from toy_benchmarks import write_birds

from dadlab.vlm import run as module
from dadlab.vlm.run import AlignRun

LOGITS = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.1, 0.0], [0.0, 0.1]])
LABELS = torch.zeros(4, dtype=torch.int64)  # right and sure, wrong and sure, right, wrong


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"losses": "cls+mze"}, "unknown loss 'mze': did you mean 'mse'"),
        ({"losses": "cls+cls"}, "a loss is there twice"),
        ({"losses": "cst+cst_single"}, "a loss is there twice"),
        ({"text": "descriptions"}, "did you mean 'description'"),
        ({"naming": "brand"}, "unknown naming 'brand'"),
        ({"keep": "correkt"}, "did you mean 'correct'"),
        ({"keep_contrast": True}, "keep_contrast filters L_im-cst, which is not there"),
        ({"keep_at": 30.0}, "a probability in"),
        ({"keep": "percentile", "keep_at": 101.0}, "a percentile in"),
        ({"text": "learnt", "losses": "cls+cst"}, "closed-set classifier"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"tau": 0.0}, "tau, lr, epsilon and context_rate must be positive"),
        ({"lr": 0.0}, "lr, epsilon and context_rate must be positive"),
        ({"epsilon": -1.0}, "lr, epsilon and context_rate must be positive"),
        ({"k": 0}, "k must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"views": 0}, "views must be at least 1"),
        ({"last": 0}, "last must be at least 1"),
        ({"context": -1}, "context must not be negative"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"context_rate": 0.1}, "there is no learnt context"),
        ({"text": "learnt", "context": 8}, "closed-set classifier"),
        ({"text": "learnt", "beside": "view"}, "closed-set classifier"),
        ({"data": "flowers:/data", "beside": "dad"}, "samples are made of fashion alone"),
        ({"student": "resnet_xl"}, "unknown student"),
        ({"epochs": "twelve"}, "must be int"),
        ({"recipe": "step"}, "did you mean 'steps'"),
        ({"magnitude": -1}, "magnitude must not be negative"),
        ({"image_size": 64}, "fashion is drawn at 32 pixels"),
        ({"data": "flower:/data"}, "unknown data set 'flower': did you mean 'flowers'"),
        ({"data": "flowers:/data", "naming": "product"}, "flowers:/data has plain names alone"),
        ({"data": "flowers:/data", "text": "succinct"}, "flowers:/data needs descriptions"),
        ({"data": "flowers:/data", "text": "succinct", "descriptions": "a.json"}, "a folder, with succinct.json"),
        ({"data": "flowers:/data", "text": "shuffled"}, "needs descriptions, a file"),
        ({"data": "flowers:/data", "losses": "cls+cap"}, "L_cap needs captions, a file"),
        ({"captions": "told.json"}, "fashion .* has its own texts"),
    ],
)
def test_bad_fields_are_one_clear_line(fields, message):
    with pytest.raises(ValueError, match=message):
        AlignRun(**fields)


def test_every_field_counts_where_it_is_used():
    base = AlignRun("cls+cst+vlprox", beside="dad")
    changed = {
        "losses": "cls+cst",
        "keep": "all",
        "keep_at": 0.5,
        "keep_contrast": True,
        "k": 10,
        "text": "description",
        "naming": "product",
        "beside": "dad described",
        "epsilon": 2.0,
        "context": 8,
        "tau": 0.1,
        "teacher": "vit",
        "student": "vit_s",
        "seed": 1,
        "epochs": 13,
        "batch": 64,
        "lr": 1e-3,
        "weight_decay": 0.0,
        "views": 4,
        "limit": 10,
        "recipe": "steps",
        "magnitude": 9,
        "last": 5,
    }
    assert changed.keys() | {"data", "image_size", "descriptions", "captions", "context_rate"} == {
        entry.name for entry in dataclasses.fields(AlignRun)
    }
    prints = [dataclasses.replace(base, **{name: value}).fingerprint for name, value in changed.items()]
    assert len({base.fingerprint, *prints}) == 1 + len(changed)
    contexts = [dataclasses.replace(base, context=8, context_rate=rate).fingerprint for rate in (1.0, 0.1)]
    assert len({base.fingerprint, *contexts}) == 3


def test_runs_of_before_there_were_data_on_disk_are_found_again():
    assert AlignRun().fingerprint == "89a456a43f9a"
    assert AlignRun("cls+cst+vlprox", text="description", seed=3).fingerprint == "fe4c8852e43f"


def test_data_on_disk_count_by_what_lies_there(tmp_path, toy_benchmarks):
    base = AlignRun(data=f"birds:{write_birds(tmp_path / 'one')}")
    assert dataclasses.replace(base, image_size=224).fingerprint != base.fingerprint != AlignRun().fingerprint
    told = tmp_path / "told.json"
    prints = set()
    for text in ("one", "two"):
        told.write_text(json.dumps({"mallard": text}))
        prints.add(dataclasses.replace(base, text="description", descriptions=str(told)).fingerprint)
        assert dataclasses.replace(base, descriptions=str(told)).fingerprint == base.fingerprint, "a text never read"
    assert len(prints) == 2
    by_prompt = tmp_path / "prompts"
    by_prompt.mkdir()
    (by_prompt / "base.json").write_text(told.read_text())
    (by_prompt / "succinct.json").write_text(json.dumps({"mallard": "brief"}))
    base_prompt, brief = (
        dataclasses.replace(base, text=t, descriptions=str(by_prompt)) for t in ("description", "succinct")
    )
    assert base_prompt.fingerprint in prints, "the same file, wherever it lies"
    assert brief.fingerprint not in prints
    assert (brief.described_in, base.described_in) == (str(by_prompt / "succinct.json"), "")
    captioned = dataclasses.replace(base, captions=str(told))
    assert captioned.fingerprint == base.fingerprint, "captions never read"
    prints = {dataclasses.replace(captioned, losses="cap").fingerprint}
    told.write_text(json.dumps({"other.jpg": "three"}))
    assert dataclasses.replace(captioned, losses="cap").fingerprint not in prints
    other = dataclasses.replace(base, data=f"birds:{write_birds(tmp_path / 'two', each=11)}")
    assert other.fingerprint != base.fingerprint


def test_what_a_loss_never_looks_at_does_not_count():
    assert AlignRun("cls", k=10, keep="all").fingerprint == AlignRun("cls").fingerprint
    filtered = AlignRun("cls+cst", keep_contrast=True)
    assert dataclasses.replace(filtered, keep="all").fingerprint != filtered.fingerprint
    for kind in ("view", "q"):
        assert AlignRun(beside=kind, epsilon=2.0).fingerprint == AlignRun(beside=kind).fingerprint, "no attack"


def test_runs_from_before_samples_stood_beside_are_found_again():
    assert AlignRun("cls+cst+vlprox").fingerprint == "4cea881dac52"
    assert AlignRun("cls+cst+vlprox", epsilon=3).fingerprint == "4cea881dac52", "there is no attack"
    assert AlignRun("cls+cst+vlprox", beside="view").fingerprint != "4cea881dac52"


def test_other_texts_are_another_run(tmp_path, monkeypatch):
    before = AlignRun().fingerprint
    other = tmp_path / "prompts.json"
    other.write_text("{}")
    monkeypatch.setattr(module, "PROMPTS", other)
    assert AlignRun().fingerprint != before


@pytest.mark.parametrize(
    ("keep", "at", "expected"),
    [
        ("all", 0.0, [True, True, True, True]),
        ("correct", 0.0, [True, False, True, False]),
        ("above", 0.9, [True, False, False, False]),
        ("percentile", 50.0, [True, False, True, False]),
        ("percentile", 25.0, [True, False, True, True]),
    ],
)
def test_filters(keep, at, expected):
    assert AlignRun("cls+vlprox", keep=keep, keep_at=at).keeps(LOGITS, LABELS).tolist() == expected


def test_titles_are_the_papers():
    assert AlignRun("cls+cst+vlprox").title == "L_cls + L_im-cst + L_vlprox"
