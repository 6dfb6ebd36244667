import pytest

from dadlab.profile import Profile, make_profile
from dadlab.run import Run


def test_kd_is_the_same_run_whatever_the_attack():
    one, other = (Run(make_profile(attack=preset), "kd") for preset in ("paper", "fashion"))
    assert one.fingerprint == other.fingerprint


def test_dad_is_not():
    one, other = (Run(make_profile(attack=preset), "dad") for preset in ("paper", "fashion"))
    assert one.fingerprint != other.fingerprint


def test_the_sampling_control_never_attacks():
    assert Run(make_profile(attack="fashion"), "dad_q").profile.attack.steps == 0


def test_files_count_by_their_content(tmp_path):
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(b"one")
    first = Run(make_profile(teacher=str(weights)), "kd").fingerprint
    weights.write_bytes(b"two")
    assert Run(make_profile(teacher=str(weights)), "kd").fingerprint != first


@pytest.mark.parametrize(
    ("change", "sharing"),
    [
        ({"attack": "paper"}, {"plain", "kd", "kd_two_views", "dad_q"}),
        ({"discretizer": "broad"}, {"plain", "kd", "kd_two_views"}),
        ({"variants": 3}, {"plain", "kd", "kd_two_views"}),
        ({"temperature": 2.0}, {"plain"}),
        ({"alpha": 0.1}, {"plain"}),
        ({"teacher": "vit"}, {"plain"}),
        ({"epochs": 3}, set()),
        ({"lr": 0.1}, set()),
        ({"train": "train_context"}, set()),
        ({"limit": 100}, set()),
        ({"batch": 7}, set()),
    ],
    ids=str,
)
def test_runs_are_shared_by_methods_that_do_not_use_what_changed(change, sharing):
    methods = ("plain", "kd", "kd_two_views", "dad_q", "dad_q_matched", "dad")
    base, changed = make_profile(), make_profile(**change)
    same = {m for m in methods if Run(base, m).fingerprint == Run(changed, m).fingerprint}
    assert same == sharing


def test_folder_tells_method_student_and_seed_apart(tmp_path):
    runs = [Run(Profile(), m, s, k) for m in ("kd", "dad") for s in ("resnet_s", "vit_s") for k in (0, 1)]
    assert len({run.folder(tmp_path) for run in runs}) == 8
    assert runs[-1].folder(tmp_path).name.startswith("dad-vit_s-s1-")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"method": "dda"}, "unknown method 'dda': did you mean 'dad'"),
        ({"method": "kd", "seed": "0"}, "'seed' must be int"),
        ({"method": "kd", "student": 3}, "'student' must be str"),
    ],
    ids=str,
)
def test_bad_runs_are_named(arguments, names):
    with pytest.raises(ValueError, match=names):
        Run(Profile(), **arguments)
