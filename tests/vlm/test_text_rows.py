import json

import pytest
from toy_benchmarks import write_flowers

from dadlab.tables.verdicts import HOLDS
from dadlab.vlm.benchmarks import listing
from dadlab.vlm.label_texts import prompted
from dadlab.vlm.language import text_features
from dadlab.vlm.material import teacher_of
from dadlab.vlm.openvocab import labels_of
from dadlab.vlm.rows import measure_table
from dadlab.vlm.run import AlignRun, Unfit
from dadlab.vlm.spectrum import spread
from dadlab.vlm.text_rows import of_texts, tried


def test_table_6_needs_no_training(tmp_path):
    table = measure_table("6", [0, 1], tmp_path)
    assert table.values["plain", "cosine"].shape == (2, 55)
    assert 0 < table.values["plain", "cosine"].mean() < table.values["caption", "cosine"].mean() < 1
    assert table.verdicts[1].verdict == HOLDS
    assert not any(tmp_path.iterdir())


def test_ranks_and_cosines_are_those_of_the_spectrum():
    found, teacher = of_texts({"text": "description", "naming": "product"}, {}), teacher_of(AlignRun())
    texts = prompted(AlignRun(text="description", naming="product"), labels_of("ood"))
    about = spread(text_features(teacher.clip, teacher.tokenizer, texts))
    assert found["rank"].mean() == pytest.approx(about["effective rank, σ²"], abs=0.01)
    assert found["cosine"].mean() == pytest.approx(about["mean cosine"], abs=1e-4)


def test_controls_are_drawn_anew_for_every_seed():
    first, second = (of_texts({"text": "random words"}, {"seed": seed})["cosine"] for seed in (0, 1))
    assert abs(first - second).max() > 1e-3


def test_captions_on_disk_are_class_means_of_unseen_labels(tmp_path, toy_benchmarks):
    told = tmp_path / "told.json"
    shared = {"data": f"flowers:{write_flowers(tmp_path, each=7)}", "captions": str(told)}
    found = listing(shared["data"])
    captions = {name: f"a flower {k} {k}" for name, k in zip(found.files.names, found.labels.tolist(), strict=True)}
    told.write_text(json.dumps(captions))
    teacher = teacher_of(AlignRun())
    features = text_features(teacher.clip, teacher.tokenizer, [f"a flower {k} {k}" for k in found.split.unseen])
    expected = ((features @ features.T).sum(1) - 1) / 50
    assert of_texts({"text": "caption"}, shared)["cosine"] == pytest.approx(expected.numpy(), abs=1e-5)
    told.write_text(json.dumps(dict(list(captions.items())[:9])))
    with pytest.raises(Unfit, match="captions do not fit"):
        tried({"text": "caption"}, shared)
