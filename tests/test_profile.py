import math
from dataclasses import replace

import pytest

from dadlab import ATTACKS, Attack, Profile, make_profile
from dadlab.profile import PROFILES, nearest


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"epoch": 3}, r"profile parameter 'epoch': did you mean 'epochs'"),
        ({"qqqq": 3}, r"'qqqq': choose one of .*temperature"),
        ({"epochs": "3"}, r"profile parameter 'epochs' must be int, got '3'"),
        ({"epochs": 3.0}, r"'epochs' must be int, got 3\.0"),
        ({"epochs": True}, r"'epochs' must be int, got True"),
        ({"lr": "fast"}, r"'lr' must be float, got 'fast'"),
        ({"teacher": 1}, r"'teacher' must be str, got 1"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"views": 0}, "views must be at least 1, got 0"),
        ({"batch": -1}, "batch must be at least 1, got -1"),
        ({"variants": 0}, "variants must be at least 1, got 0"),
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"limit": -1}, "limit"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": math.nan}, "'temperature' must be finite, got nan"),
        ({"lr": math.inf}, "'lr' must be finite, got inf"),
        ({"alpha": -0.5}, "alpha must not be negative, got -0.5"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative, got -1.0"),
        ({"attack": {"epsilon": math.nan}}, "attack parameter 'epsilon' must be finite, got nan"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"ema": 1.0}, "ema must lie in"),
        ({"augmix_severity": 0.0}, r"augmix_severity must lie in \[0.1, 10\], got 0.0"),
        ({"top_logits": -1}, "top_logits must not be negative"),
        ({"schedule": "cosine"}, "unknown schedule 'cosine': did you mean 'warm_cosine'"),
        ({"optimizer": "adamww"}, "unknown optimizer 'adamww': did you mean 'adamw"),
        ({"augreg": "medium3"}, "unknown augreg 'medium3': did you mean 'medium"),
        ({"augreg": "light2", "batch": 7}, "batch must be even, got 7"),
        ({"attack": 5}, "attack"),
        ({"attack": "papr"}, r"attack preset 'papr': did you mean 'paper'"),
        ({"attack": {"eps": 1.0}}, r"attack parameter 'eps': did you mean"),
        ({"attack": {"steps": 1.5}}, r"attack parameter 'steps' must be int, got 1\.5"),
        ({"attack": {"norm": "l1"}}, r"norm 'l1': choose 'l2' or 'linf'"),
    ],
    ids=str,
)
def test_bad_parameters_are_named(parameters, names):
    with pytest.raises(ValueError, match=names):
        make_profile(**parameters)


@pytest.mark.parametrize(
    "field", [{"epsilon": -1.0}, {"step_size": -1.0}, {"steps": -1}, {"start": 1.1}, {"start": -0.1}]
)
def test_attack_out_of_range_is_named(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Attack(**field)


def test_a_radius_in_255ths_is_refused():
    with pytest.raises(ValueError, match=r"an L∞ epsilon lies in \[0, 1\], as pixels do; 8/255, perhaps"):
        make_profile(attack={"norm": "linf"})  # with the profile's own, an L2 radius
    assert Attack(norm="linf", epsilon=1.0).epsilon == 1


def test_whole_number_is_a_float_where_one_is_wanted():
    assert make_profile(lr=1) == Profile(lr=1.0)
    assert type(make_profile(lr=1).lr) is float


@pytest.mark.parametrize("preset", PROFILES)
def test_of_an_attack_what_is_not_said_is_the_profiles(preset):
    usual, found = make_profile(preset).attack, make_profile(preset, attack={"steps": 3, "step_size": 4.0}).attack
    assert found == replace(usual, steps=3, step_size=4.0)


@pytest.mark.parametrize("preset", ATTACKS)
def test_attack_by_preset_by_fields_and_by_value_are_the_same(preset):
    value = ATTACKS[preset]
    fields = {name: getattr(value, name) for name in ("norm", "epsilon", "step_size", "steps", "start", "through")}
    assert make_profile(attack=preset) == make_profile(attack=fields) == make_profile(attack=value)


def test_presets_of_the_paper():
    paper, code = ATTACKS["paper"], ATTACKS["official-code"]
    assert (paper.norm, paper.epsilon, paper.step_size, paper.steps, paper.start) == ("l2", 0.1, 0.1, 1, 0.0)
    assert (code.step_size, code.start) == (0.01, 0.8)
    assert ATTACKS["none"].steps == 0


def test_profiles_cannot_be_changed():
    with pytest.raises(AttributeError):
        Profile().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(("name", "hint"), [("dadd", "did you mean 'dad'"), ("zzz", "choose one of dad, kd")])
def test_nearest_name(name, hint):
    with pytest.raises(ValueError, match=f"unknown method '{name}': {hint}"):
        nearest(name, {"dad": 1, "kd": 2}, "method")


def test_known_name_is_looked_up():
    assert nearest("kd", {"dad": 1, "kd": 2}, "method") == 2


def test_imagenet_is_a_profile_of_its_own():
    found = make_profile("imagenet", data="imagenet:elsewhere", epochs=100)
    assert (found.image_size, found.attack, found.augreg) == (224, ATTACKS["paper"], "strong2")
    assert (found.data, found.epochs) == ("imagenet:elsewhere", 100)
    assert (found.augmix_severity, Profile().augmix_severity) == (1.0, 3.0)  # as in AugMix's own code
    assert make_profile("fashion") == Profile()
    with pytest.raises(ValueError, match="unknown profile 'imagenett': did you mean 'imagenet'"):
        make_profile("imagenett")
