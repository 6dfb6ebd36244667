"""Pictures that follow the theme, and controls that everyone can use."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import ipywidgets as widgets
import pytest
import torch

from dadlab.pictures import canvas, thumbnail
from dadlab.widgets.frame import Pager, View, control, themed


@pytest.fixture
def svg() -> str:
    figure, ax = canvas(2, 1)
    ax.text(0.1, 0.1, "word")
    ax.plot([0, 1], [0, 1], color="black")
    thumbnail(ax, torch.rand(3, 4, 4), 1, 0, 1)
    thumbnail(ax, torch.rand(3, 4, 4), 0, 0, 1)
    return themed(figure, 'a "word" & more')


def test_a_picture_has_no_background_and_no_black(svg: str) -> None:
    assert "#ffffff" not in svg
    assert "#000000" not in svg
    assert "stroke: currentColor" in svg
    assert "--jp-content-font-color1" in svg


def test_a_picture_says_in_words_what_it_shows(svg: str) -> None:
    root = ET.fromstring(svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", 'a "word" & more')


def test_images_keep_their_own_pixels(svg: str) -> None:
    images = [element for element in ET.fromstring(svg).iter() if element.tag.endswith("image")]
    assert len(images) == 2
    assert all("pixelated" in image.get("style", "") for image in images)


def test_a_control_has_a_name_and_a_tip() -> None:
    made = control(widgets.IntSlider, "steps", tip="gradient steps")
    assert (made.description, made.tooltip) == ("steps", "gradient steps")


def test_pages_are_turned_within_their_number() -> None:
    pager = Pager(8)
    pager.fit(17)
    turned = []
    for turn in (pager.back, pager.forth, pager.forth, pager.forth):
        turn.click()
        turned.append(pager.page.value)
    assert turned == [1, 2, 3, 3]
    assert list(range(17))[pager.rows(3)] == [16]
    pager.fit(0)
    assert (pager.page.value, pager.page.max) == (1, 1)


def test_users_mistakes_are_told_in_a_line_and_bugs_with_their_place() -> None:
    view = View()
    view.tell(ValueError("no <such> store"))
    assert "no &lt;such&gt; store" in view.problem.value
    assert "details" not in view.problem.value
    with view.telling():
        [][1]
    assert "IndexError" in view.problem.value
    assert "<details>" in view.problem.value


def test_what_a_control_sets_off_is_told_when_it_fails() -> None:
    view, slider = View(), widgets.IntSlider()

    def act() -> None:
        if slider.value == 1:
            raise ValueError("one is too many")

    view.on(act, slider)
    slider.value = 1
    assert "one is too many" in view.problem.value
    slider.value = 2
    assert view.problem.value == ""
