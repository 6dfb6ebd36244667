from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dadlab.vlm import evaluate as module
from dadlab.vlm import material
from dadlab.vlm.evaluate import measure_aligned, measure_halves, measure_shifted, teacher_values
from dadlab.vlm.label_texts import label_texts
from dadlab.vlm.material import Sources, teacher_of
from dadlab.vlm.openvocab import labels_of
from dadlab.vlm.run import AlignRun

TOY = AlignRun("cls+cst", epochs=1, batch=16, views=2, limit=110, text="description")
METRICS = ["distance", "M_rel", *(f"M_neigh {k}" for k in (3, 5, 10)), *(f"M_vlalign {k}" for k in (2, 3, 5))]


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material, "DRAWINGS", 2)
        patch.setattr(module, "SHOT_STEPS", 3)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def test_everything_is_measured_once(runs, monkeypatch):
    found = measure_aligned(TOY, runs)
    geometry = {f"{name} {split}" for name in METRICS for split in ("train", "ood")}
    assert found.keys() == {"val", "id", "ood", "retrieval", "5-shot", *geometry}
    assert {len(values) for values in found.values()} == {110}
    assert set(np.unique(found["ood"])) <= {0.0, 0.5, 1.0}, "two drawings of every photograph"
    assert 0 < found["distance ood"].mean() < 4
    assert found["M_vlalign 5 ood"].max() <= 10
    assert found["M_neigh 10 train"].max() <= 1
    monkeypatch.setattr(module, "train_aligned", lambda *_: pytest.fail("measured again"))
    again = measure_aligned(TOY, runs)
    assert all(np.array_equal(again[name], values) for name, values in found.items())


def test_the_teacher_knows_more_than_an_untrained_student_and_keeps_its_own_geometry(runs):
    teacher = teacher_values(TOY, runs)
    assert teacher["ood"].mean() > 0.7 > measure_aligned(TOY, runs)["ood"].mean()


def test_shifts_are_measured_beside(runs):
    found, teacher = measure_shifted(TOY, runs), teacher_values(TOY, runs)
    shifted = {f"{split} {style}" for split in ("id", "ood") for style in ("context", "rendition")}
    assert found.keys() == teacher.keys() == {"val", "id", "ood", *shifted}
    assert all(len(found[split]) == len(teacher[split]) > 50 for split in shifted)
    assert teacher["ood rendition"].mean() > found["ood rendition"].mean()


def test_a_closed_set_classifier_answers_for_unseen_labels_after_shots_alone(runs):
    found = measure_aligned(replace(TOY, losses="cls", text="learnt"), runs)
    assert found.keys() == {"val", "id", "5-shot"}


def test_zero_shot_accuracy_is_the_mean_over_the_last_epochs(runs, monkeypatch):
    run = replace(TOY, epochs=2, last=2)
    found = measure_aligned(run, runs)
    each = [module._on(run, *module.train_aligned(run, runs, before=k), "ood") for k in (0, 1)]
    assert np.array_equal(found["ood"], (each[0] + each[1]) / 2)
    assert not np.array_equal(each[0], each[1])


def test_halves_are_scored_apart(runs):
    found = measure_halves(TOY, runs)
    assert [len(found[f"{when} first half"]) for when in ("zero-shot", "after shots")] == [56, 56]
    assert [len(found[f"{when} second half"]) for when in ("zero-shot", "after shots")] == [54, 54]


def test_the_half_that_was_shown_is_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(
        module, "_split_by_half", lambda *given: [np.full(len(half), k) for k, half in enumerate(given[2:])]
    )
    monkeypatch.setattr(
        module, "after_shots", lambda *given: {"tuned": np.full(len(given[2]), 2), "others": np.full(len(given[3]), 3)}
    )
    found = measure_halves(TOY, tmp_path)
    assert {name: (len(values), values[0]) for name, values in found.items()} == {
        "zero-shot first half": (28, 0),
        "zero-shot second half": (27, 1),
        "after shots first half": (28, 2),
        "after shots second half": (27, 3),
    }


@pytest.mark.parametrize("text", ["plain", "shuffled"])
def test_shots_are_of_labels_behind_the_seen_ones_at_a_share_of_the_rate(text, tmp_path, monkeypatch):
    run, seen, unseen = replace(TOY, seed=2, lr=0.1, text=text), labels_of("train"), labels_of("ood")
    asked, drawn, load = {}, {}, module.dataset_for

    class Recorded:
        checkpoint = tmp_path / "none"

        def __init__(self, *given, **settings):
            asked.update(settings, texts=given[2], labels=given[3])

        def fit(self) -> None: ...

    def drawing_of(run, split, *, drawing=0):
        drawn[split] = drawing
        return load(run, "shots", drawing=drawing)

    monkeypatch.setattr(module, "Loop", Recorded)
    monkeypatch.setattr(module, "train_aligned", lambda *_: (None, label_texts(run, teacher_of(run), seen)))
    monkeypatch.setattr(module, "sources", lambda run, dataset, *_: Sources(dataset, None))
    monkeypatch.setattr(module, "dataset_for", drawing_of)
    monkeypatch.setattr(module, "_among", lambda run, student, texts, labels: labels)
    run.folder(tmp_path).mkdir()
    found = module.after_shots(run, tmp_path, unseen[4:6], unseen[:3])
    assert found == {"tuned": unseen[4:6], "others": unseen[:3]}
    assert asked["labels"] == [*seen, *unseen[4:6]]
    trained = label_texts(run, teacher_of(run), seen)
    assert torch.equal(asked["texts"](), torch.cat([trained(), trained.of(unseen[4:6])]))
    assert sorted(asked["beside"].dataset.labels.tolist()) == [55] * 5 + [56] * 5
    assert (asked["lr"], asked["steps"]) == (pytest.approx(0.006), module.SHOT_STEPS)
    assert drawn == {"train": 0, "shots": 2}


@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({"data": "flowers:somewhere", "recipe": "steps", "lr": 0.05}, 0.003),
        ({"data": "flowers:somewhere", "recipe": "one-cycle", "lr": 2e-4}, 1e-4),
        ({"recipe": "one-cycle", "lr": 6e-3}, 3.6e-4),
    ],
)
def test_shots_are_fine_tuned_on_at_the_papers_rates(fields, rate):
    assert module.shot_rate(AlignRun(**fields)) == pytest.approx(rate)


@pytest.mark.slow
def test_fine_tuning_learns_the_shots(runs, monkeypatch):
    monkeypatch.setattr(module, "SHOT_STEPS", 40)
    monkeypatch.setattr(module, "SHOT_RATE", 1.0)
    run = replace(TOY, seed=3)
    before = module._on(run, *module.train_aligned(run, runs), "ood").mean()
    labels = labels_of("ood")[:4]
    assert module.after_shots(run, runs, labels)["tuned"].mean() > before + 0.2
