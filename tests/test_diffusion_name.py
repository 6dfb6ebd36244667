from __future__ import annotations

import pytest

from dadlab.diffusion_name import DiffusionName, check_online, check_unlabelled, names_diffusion, parse_diffusion


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("diffusion", DiffusionName(hub=False, text=False, names=False, place="")),
        ("diffusion-text-class", DiffusionName(hub=False, text=True, names=True, place="")),
        ("diffusion-class:a.safetensors", DiffusionName(hub=False, text=False, names=True, place="a.safetensors")),
        ("diffusers:a/b", DiffusionName(hub=True, text=False, names=False, place="a/b")),
    ],
)
def test_names_have_parts(name, parts):
    assert names_diffusion(name)
    assert parse_diffusion(name) == parts


@pytest.mark.parametrize("name", ["diffusers", "diffusion-class-text:a", "diffusion-txt", "diffusers-text"])
def test_misspelt_names_are_told_from_other_discretizers(name):
    assert names_diffusion(name)
    with pytest.raises(ValueError, match=f"^{name}: say diffusion, .*before the colon"):
        parse_diffusion(name)


@pytest.mark.parametrize("name", ["studio", "identity", "diffusion_mine.safetensors", "my/diffusion.safetensors"])
def test_other_discretizers_are_none(name):
    assert not names_diffusion(name)
    check_unlabelled(name)


def test_prompts_that_name_classes_need_them():
    check_unlabelled("diffusion-text")
    with pytest.raises(ValueError, match=r"diffusers-class:m: .* take it without -class"):
        check_unlabelled("diffusers-class:m")


def test_text_to_image_is_no_discretizer_of_images_that_nobody_filters():
    check_online("studio")
    check_online("diffusion")
    with pytest.raises(ValueError, match=r"diffusers-text:m: shows nothing of x, .* take it without -text"):
        check_online("diffusers-text:m")
    with pytest.raises(ValueError, match="take it without -class"):
        check_online("diffusion-class")
