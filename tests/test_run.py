from dadlab.profile import make_profile
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
