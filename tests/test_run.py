import dataclasses
import json

import pytest

from dadlab.profile import Profile, make_profile
from dadlab.run import Run, read_run


def test_kd_is_the_same_run_whatever_the_attack():
    one, other = (Run(make_profile(attack=preset), "kd") for preset in ("paper", "fashion"))
    assert one.fingerprint == other.fingerprint


def test_dad_is_not():
    one, other = (Run(make_profile(attack=preset), "dad") for preset in ("paper", "fashion"))
    assert one.fingerprint != other.fingerprint


def test_the_sampling_control_never_attacks():
    assert Run(make_profile(attack="fashion"), "dad_q").profile.attack.steps == 0


def test_attacks_of_a_methods_own_are_not_the_profiles():
    one, other = (
        make_profile(attack=preset, discretizer=q) for preset, q in (("paper", "broad"), ("fashion", "studio"))
    )
    same = {m for m in ("at", "advprop", "pyramid_at", "dat", "dat_dad") if Run(one, m) == Run(other, m)}
    assert same == {"at", "advprop", "pyramid_at"}


def test_batch_norm_may_be_anywhere():
    assert Run(Profile(), "advprop", "mobilenetv3_small_050").student == "mobilenetv3_small_050"


def test_files_count_by_their_content(tmp_path):
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(b"one")
    first = Run(make_profile(teacher=str(weights)), "kd").fingerprint
    weights.write_bytes(b"two")
    assert Run(make_profile(teacher=str(weights)), "kd").fingerprint != first


@pytest.mark.parametrize(
    ("change", "sharing"),
    [
        ({"attack": "paper"}, ("plain", "kd", "kd_two_views", "dad_q")),
        ({"discretizer": "broad"}, ("plain", "kd", "kd_two_views")),
        ({"variants": 3}, ("plain", "kd", "kd_two_views")),
        ({"temperature": 2.0}, ("plain",)),
        ({"alpha": 0.1}, ("plain",)),
        ({"teacher": "vit"}, ("plain",)),
        ({"epochs": 3}, ()),
        ({"lr": 0.1}, ()),
        ({"train": "train_context"}, ()),
        ({"limit": 100}, ()),
        ({"batch": 7}, ()),
    ],
    ids=str,
)
def test_runs_are_shared_by_methods_that_do_not_use_what_changed(change, sharing):
    methods = ("plain", "kd", "kd_two_views", "dad_q", "dad_q_matched", "dad")
    base, changed = make_profile(), make_profile(**change)
    same = tuple(m for m in methods if Run(base, m).fingerprint == Run(changed, m).fingerprint)
    assert same == sharing


def test_folder_tells_method_student_and_seed_apart(tmp_path):
    runs = [Run(Profile(), m, s, k) for m in ("kd", "dad") for s in ("resnet_s", "vit_s") for k in (0, 1)]
    assert len({run.folder(tmp_path) for run in runs}) == 8
    assert runs[-1].folder(tmp_path).name.startswith("dad-vit_s-s1-")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"method": "dadd"}, "unknown method 'dadd': did you mean 'dad'"),
        ({"method": "kd", "seed": "0"}, "'seed' must be int"),
        ({"method": "at", "seed": -2}, "seed must lie in .*got -2"),
        ({"method": "kd", "seed": 2**62}, "seed must lie in"),
        ({"method": "kd", "student": 3}, "'student' must be str"),
        ({"method": "advprop", "student": "vit_s"}, "student 'vit_s' has no batch norm.*take a ResNet"),
        ({"method": "fast_advprop", "student": "convnext_atto"}, "'convnext_atto' has no batch norm"),
        ({"method": "advprop", "student": "resnet_x"}, "unknown student 'resnet_x'"),
    ],
    ids=str,
)
def test_bad_runs_are_named(arguments, names):
    with pytest.raises(ValueError, match=names):
        Run(Profile(), **arguments)


@pytest.mark.parametrize(
    ("method", "known"),
    [
        ("plain", "5109c414aac4"),
        ("kd", "35174791dd88"),
        ("kd_two_views", "4067eed9f23f"),
        ("dad_q", "1819c18b69ad"),
    ],
)
def test_runs_of_the_first_settings_are_found_again(method, known):
    """As they were before the profile had optimizer, accumulate, ema, augreg and top_logits."""
    assert Run(Profile(), method).fingerprint == known


def test_folders_called_as_builtins_make_no_other_runs(tmp_path, monkeypatch):
    known = Run(Profile(), "dad").fingerprint
    monkeypatch.chdir(tmp_path)
    for name in ("fashion", "resnet", "studio"):
        (tmp_path / name / "train").mkdir(parents=True)
        (tmp_path / name / "train" / "0.jpg").write_text("hoot")
    assert Run(Profile(), "dad").fingerprint == known


def test_images_in_a_folder_called_as_a_teacher_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prints = []
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / "resnet").mkdir(exist_ok=True)
        (tmp_path / "resnet" / name).write_text("hoot")
        prints += [Run(make_profile(data=place), "plain").fingerprint for place in ("resnet", str(tmp_path / "resnet"))]
    assert prints[0] != prints[2]
    assert prints[1] != prints[3]


def test_a_run_on_what_an_earlier_attack_made_is_not_found_again():
    """It was made before attacked images were clipped after every step."""
    assert Run(Profile(), "dad").fingerprint != "1c93577f1ba1"


@pytest.mark.parametrize(("method", "known"), [("dat", "8787c626f3bd"), ("dat_dad", "936a8ea612ac")])
def test_a_run_that_searched_for_codes_in_half_precision_is_not_found_again(method, known):
    assert Run(Profile(), method).fingerprint != known


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd"},
        {"schedule": "warm_cosine"},
        {"accumulate": 2},
        {"ema": 0.9},
        {"augreg": "light1"},
        {"top_logits": 3},
        {"dropout": 0.1},
        {"drop_path": 0.1},
        {"start": "pretrained"},
    ],
    ids=str,
)
def test_later_settings_make_other_runs(change):
    assert Run(make_profile(**change), "dad").fingerprint != Run(Profile(), "dad").fingerprint


@pytest.mark.parametrize(
    ("change", "sharing"),
    [
        ({"attack": "paper"}, ("augmix", "debiased", "dist")),
        ({"teacher": "vit"}, ("augmix", "debiased")),
        ({"temperature": 2.0}, ("augmix", "debiased", "dist", "dad_augmentation", "rslad")),
        ({"alpha": 0.1}, ("augmix", "debiased", "dist", "dad_augmentation", "rslad")),
        ({"augmix_severity": 1.0}, ("debiased", "dist", "dad_augmentation", "ard", "rslad")),
        ({"transfer": "other.safetensors"}, ("augmix", "dist", "dad_augmentation", "ard", "rslad")),
    ],
    ids=str,
)
def test_later_methods_share_runs_too(change, sharing):
    """Weights that a method's own paper sets are not the profile's; DAD samples as augmentation are a teacher's."""
    methods = ("augmix", "debiased", "dist", "dad_augmentation", "ard", "rslad")
    base, changed = make_profile(), make_profile(**change)
    assert tuple(m for m in methods if Run(base, m).fingerprint == Run(changed, m).fingerprint) == sharing


def test_what_a_student_starts_from_counts_by_its_content(tmp_path):
    weights = tmp_path / "student.safetensors"
    weights.write_bytes(b"one")
    first = Run(make_profile(start=str(weights)), "plain").fingerprint
    weights.write_bytes(b"two")
    assert Run(make_profile(start=str(weights)), "plain").fingerprint != first


def test_description_is_read_back(tmp_path):
    run = Run(make_profile(attack="official-code", augreg="medium2", limit=7), "dad", "vit_s", 3)
    (tmp_path / "run.json").write_text(json.dumps(dataclasses.asdict(run)))
    assert read_run(tmp_path / "run.json") == run


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("{", "not a readable run description"),
        ("[]", "not a run description"),
        ('{"profile": {}}', "run parameter 'method' is missing"),
        ('{"profile": {}, "method": "kd", "sed": 1}', "run parameter 'sed': did you mean 'seed'"),
        ('{"profile": {"epoch": 1}, "method": "kd"}', "profile parameter 'epoch': did you mean 'epochs'"),
    ],
)
def test_bad_descriptions_are_named(tmp_path, content, names):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=names):
        read_run(tmp_path / "run.json")
