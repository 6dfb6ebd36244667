import pytest
import timm

from dadlab.profile import PROFILES, make_profile
from dadlab.recipes import RECIPES, recipe_of
from dadlab.students import STUDENTS, check_student


@pytest.mark.parametrize("profile", list(PROFILES))
def test_recipes_are_of_students_and_make_profiles(profile):
    for student in RECIPES[profile]:
        check_student(student)
        for start in ("", "pretrained"):
            make_profile(profile, **recipe_of(profile, student, "dad", start))


def test_vits_compose_on_augreg_and_resnets_do_not():
    for profile, student, composes in (
        ("fashion", "vit_s", True),
        ("fashion", "resnet_s", False),
        ("imagenet", "vit_base_patch16_224", True),
        ("imagenet", "resnet50", False),
    ):
        assert (make_profile(profile, **recipe_of(profile, student, "dad")).augreg != "none") == composes


def test_recipes_are_those_of_the_records_and_of_the_paper():
    for student in ("vit_s", "vit_m"):
        assert recipe_of("fashion", student, "dad") == {"augreg": "light1", "lr": 1e-3}
    plain = make_profile("imagenet", **recipe_of("imagenet", "resnet50", "dad"))
    assert (plain.epochs, plain.batch, plain.dropout, plain.drop_path) == (100, 1024, 0, 0)
    tuned = make_profile("imagenet", **recipe_of("imagenet", "vit_base_patch16_224", "dad", "pretrained"))
    assert (tuned.optimizer, tuned.batch, tuned.weight_decay, tuned.dropout) == ("momentum", 512, 0, 0)
    assert 1_281_167 / tuned.batch * tuned.epochs == pytest.approx(20_000, rel=0.01)


def test_what_published_weights_a_name_is_tagged_with_does_not_matter():
    tagged = "vit_base_patch16_224.orig_in21k"
    assert recipe_of("imagenet", tagged, "dad") == recipe_of("imagenet", "vit_base_patch16_224", "dad")
    assert recipe_of("imagenet", tagged, "dad", "pretrained")["epochs"] == 8
    assert recipe_of("imagenet", "resnet50", "dad", "pretrained") == recipe_of("imagenet", "resnet50", "dad")
    assert timm.is_model(tagged)
    assert tagged not in STUDENTS


def test_methods_without_a_teacher_see_new_views():
    assert recipe_of("imagenet", "resnet18", "plain") == {"views": 300}
    assert recipe_of("imagenet", "resnet18", "dad") == recipe_of("fashion", "resnet_s", "plain") == {}


def test_an_unknown_profile_is_named():
    with pytest.raises(ValueError, match="did you mean 'imagenet'"):
        recipe_of("imagnet", "resnet50", "dad")
