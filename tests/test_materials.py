import json
from dataclasses import replace

import pytest
import timm
import torch
from filelock import FileLock

from dadlab import materials
from dadlab.data import load_split
from dadlab.dataset import Dataset
from dadlab.discretizer import load_discretizer
from dadlab.files import write_json
from dadlab.generate import generate
from dadlab.materials import Stream, discretized, kept_share, prepare, store_folder
from dadlab.methods import METHODS
from dadlab.profile import ATTACKS, make_profile
from dadlab.samples import StoredSamples
from dadlab.store import open_dataset


@pytest.fixture
def options(files) -> dict:
    return {
        "limit": 40,
        "views": 2,
        "variants": 2,
        "teacher": str(files["teacher"]),
        "discretizer": str(files["vqgan"]),
        "transfer": str(files["transfer"]),
    }


@pytest.mark.parametrize("kind", ["hf", "hf-stream"])
def test_training_from_a_stream_is_told_what_it_costs(monkeypatch, tmp_path, capsys, photos40, kind):
    monkeypatch.setattr(materials, "training_split", lambda *args, **kwargs: photos40)
    prepare(make_profile(data=f"{kind}:somebody/photographs"), METHODS["plain"], tmp_path)
    assert ("a row group for every image; hf: reads" in capsys.readouterr().out) == (kind == "hf-stream")


@pytest.mark.parametrize("method", METHODS)
def test_each_method_gets_what_it_asks_for(options, method, tmp_path):
    found = prepare(make_profile(**options), METHODS[method], tmp_path)
    assert len(found.clean.dataset) == 40
    asks = METHODS[method]
    assert (found.clean.teacher is None) == (not asks.uses_teacher)
    assert (found.second is None) == (asks.second in ("none", "partner"))
    assert (found.second is found.clean) == (method == "kd_two_views")
    assert (tmp_path / "stores").exists() == asks.stored
    if asks.stored:
        assert (found.second.teacher is None) == (not asks.uses_teacher)


def test_discretized_samples_are_the_stores_accepted_ones(options, tmp_path, capsys):
    profile, clean = make_profile(**options), load_split("fashion", "train", limit=40)
    found = discretized(clean, profile, tmp_path)
    rows = open_dataset(store_folder(clean, profile, tmp_path))
    assert len(rows) == 80
    assert len(found) == sum(rows["accepted"])
    assert kept_share(clean, profile, tmp_path) == len(found) / 80
    assert f"kept {len(found)} of 80 samples" in capsys.readouterr().out


def test_processes_load_their_models_side_by_side(options, tmp_path, monkeypatch):
    """A large teacher takes minutes; of the store alone it is one after the other."""
    profile, clean = make_profile(**options), load_split("fashion", "train", limit=40)
    lock, loaded = store_folder(clean, profile, tmp_path).with_suffix(".lock"), []

    def free(load):
        def loading(*given):
            with FileLock(lock, blocking=False):
                loaded.append(load)
            return load(*given)

        return loading

    lock.parent.mkdir(parents=True)
    for name in ("teacher_of", "load_discretizer"):
        monkeypatch.setattr(materials, name, free(getattr(materials, name)))
    discretized(clean, profile, tmp_path)
    assert len(loaded) >= 2


@pytest.mark.parametrize(("processes", "said"), [("8", 1), ("1", 0)])
def test_that_one_process_makes_the_samples_is_said_before_it_starts(
    options, tmp_path, monkeypatch, capsys, processes, said
):
    profile, clean = make_profile(**options), load_split("fashion", "train", limit=40)
    monkeypatch.setenv("WORLD_SIZE", processes)
    line = "one process makes all samples, the others wait: notebooks/generate.ipynb"

    def start(*given, **more):
        assert capsys.readouterr().out.count(line) == said
        return generate(*given, **more)

    monkeypatch.setattr(materials, "generate", start)
    discretized(clean, profile, tmp_path)
    monkeypatch.setattr(materials, "generate", generate)
    discretized(clean, profile, tmp_path)
    assert line not in capsys.readouterr().out


def test_the_matched_control_has_the_views_that_survive_attack(options, tmp_path):
    profile, clean = make_profile(**options), load_split("fashion", "train", limit=40)
    attacked, control = (discretized(clean, profile, tmp_path, matched=matched) for matched in (False, True))
    without = open_dataset(store_folder(clean, replace(profile, attack=ATTACKS["none"]), tmp_path))
    kept = open_dataset(store_folder(clean, profile, tmp_path))["accepted"]
    both = [a and b for a, b in zip(kept, without["accepted"], strict=True)]
    assert 0 < len(control) == sum(both) <= len(attacked) < len(without)
    assert control.labels.tolist() == [label for label, stays in zip(without["label"], both, strict=True) if stays]
    assert not torch.equal(control.pixels[: len(attacked)], attacked.pixels[: len(control)])


def test_the_matched_control_need_not_fit_into_memory(options, tmp_path, monkeypatch):
    profile, clean = make_profile(**options), load_split("fashion", "train", limit=40)
    held = discretized(clean, profile, tmp_path, matched=True)
    monkeypatch.setattr("dadlab.samples.IN_MEMORY", 1000)
    drawn = discretized(clean, profile, tmp_path, matched=True)
    assert (type(held), type(drawn)) == (Dataset, StoredSamples)
    assert torch.equal(drawn.labels, held.labels)
    every = torch.arange(len(held))
    torch.testing.assert_close(drawn.images(every), held.images(every), atol=1.01 / 255, rtol=0)


def test_logits_belong_to_the_stream(options, tmp_path, tiny_teacher):
    second = prepare(make_profile(**options), METHODS["dad_q"], tmp_path).second
    rows = torch.arange(min(4, len(second.dataset)))
    assert second.logits(rows, 0).shape == (len(rows), 10)
    with pytest.raises(IndexError):
        second.logits(torch.tensor([len(second.dataset)]), 0)


def test_no_teacher_no_logits(photos40):
    assert Stream(photos40, None).logits(torch.arange(4), 0).numel() == 0


@pytest.mark.parametrize(
    "change",
    [{"attack": "paper"}, {"variants": 3}, {"teacher": "resnet"}, {"discretizer": "identity"}],
    ids=str,
)
def test_another_store_for_another_profile(options, change, photos40, tmp_path):
    one, other = make_profile(**options), make_profile(**{**options, **change})
    assert store_folder(photos40, one, tmp_path) != store_folder(photos40, other, tmp_path)


@pytest.mark.parametrize("change", [{"epochs": 1}, {"lr": 0.1}, {"alpha": 0.1}, {"views": 3}], ids=str)
def test_the_recipe_shares_the_store(options, change, photos40, tmp_path):
    one, other = make_profile(**options), make_profile(**{**options, **change})
    assert store_folder(photos40, one, tmp_path) == store_folder(photos40, other, tmp_path)


@pytest.mark.parametrize("augreg", ["none", "medium2"])
def test_a_source_is_seen_as_its_sample_is(options, augreg, tmp_path, tiny_teacher):
    """Where neither attack nor Q changes anything, a sample is its source: φ of both is the same, in any view."""
    profile = make_profile(**{**options, "discretizer": "identity", "attack": "none", "augreg": augreg})
    stream = prepare(profile, METHODS["ard"], tmp_path).second
    rows = torch.randperm(len(stream.dataset))
    assert len(rows) > 4
    torch.testing.assert_close(
        stream.logits(rows, 1), tiny_teacher(stream.dataset.images(rows, 1)), rtol=1e-3, atol=1e-3
    )


def test_second_view_needs_two(options, tmp_path):
    with pytest.raises(ValueError, match="views of at least 2"):
        prepare(make_profile(**{**options, "views": 1}), METHODS["kd_two_views"], tmp_path)


def test_published_classifier_teaches_like_any_other(options, tmp_path, monkeypatch):
    torch.manual_seed(0)
    weights = tmp_path / "vit.pth"
    torch.save({"state_dict": timm.create_model("test_vit", num_classes=10).state_dict()}, weights)
    profile = make_profile(**{**options, "teacher": f"timm:test_vit/{weights}", "views": 1, "variants": 1, "limit": 20})
    monkeypatch.setattr("dadlab.materials.open_samples", lambda folder, discretizer, clean: clean)
    found = prepare(profile, METHODS["dad"], tmp_path)
    assert found.second.logits(torch.arange(20), 0).shape == (20, 10)
    store = store_folder(found.clean.dataset, profile, tmp_path)
    assert len(open_dataset(store)) == 20
    weights.write_bytes(weights.read_bytes() + b" ")
    assert store_folder(found.clean.dataset, profile, tmp_path) != store


def test_a_published_teacher_is_not_loaded_where_everything_is_there(options, tmp_path, monkeypatch):
    weights = tmp_path / "vit.pth"
    torch.save(timm.create_model("test_vit", num_classes=10).state_dict(), weights)
    profile = make_profile(**{**options, "teacher": f"timm:test_vit/{weights}", "limit": 20})
    clean = load_split("fashion", "train", limit=20)
    made = prepare(profile, METHODS["kd"], tmp_path).clean
    discretizer = load_discretizer(profile.discretizer)
    stored = materials._stored(clean, profile, discretizer, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(materials, "teacher_of", None)  # asking would fail
        found = prepare(profile, METHODS["kd"], tmp_path).clean
        assert materials._stored(clean, profile, discretizer, tmp_path) == stored
    rows = torch.arange(20)
    assert torch.equal(found.logits(rows, 1), made.logits(rows, 1))
    found.teacher.path(1, 0).unlink()
    assert torch.equal(prepare(profile, METHODS["kd"], tmp_path).clean.logits(rows, 1), made.logits(rows, 1))
    manifest = json.loads((stored / "manifest.json").read_text())
    write_json(stored / "manifest.json", manifest | {"teacher": "another"})
    with pytest.raises(ValueError, match="store was made with another teacher"):
        materials._stored(clean, profile, discretizer, tmp_path)
    assert not materials.known_teacher(profile, clean.classes[::-1], tmp_path)
    weights.write_bytes(weights.read_bytes() + b" ")
    assert not materials.known_teacher(profile, clean.classes, tmp_path)


def test_unknown_discretizer_stops_before_the_teacher_works(options, tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.teacher.StudentTeacher.forward", lambda *args: pytest.fail("the teacher worked"))
    with pytest.raises(ValueError, match="unknown discretizer 'studo'"):
        prepare(make_profile(**{**options, "discretizer": "studo"}), METHODS["dad"], tmp_path)
