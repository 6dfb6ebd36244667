"""Teachers of more and fewer styles, a few steps each."""

from __future__ import annotations

import pytest
from published import a_class, write_toy_published

from dadlab.making.teacher import STYLES
from dadlab.photos import load_photos
from dadlab.tables import diversity as module
from dadlab.tables.diversity import SETS, style_teacher, teachers_photographs
from dadlab.teacher import load_teacher

SMALL = {"steps": 2, "batch": 4}


@pytest.fixture(scope="module")
def photos():
    return a_class(load_photos("val"), 1)


def test_sets_are_nested_and_end_with_all():
    assert [len(styles) for styles in SETS.values()] == [1, 2, 4]
    assert SETS["1 style"] == ("studio",)
    assert SETS["4 styles"] == STYLES


def test_a_teacher_is_trained_once_on_as_many_drawings_whatever_its_styles(photos, tmp_path, monkeypatch):
    seen = []

    def train(photos, config, out, **given):
        seen.append((given["styles"], given["draws"]))
        out.write_text("weights")

    monkeypatch.setattr(module, "train_clip", train)
    assert not style_teacher(STYLES, photos, tmp_path, train=False).exists()
    files = [style_teacher(styles, photos, tmp_path) for styles in SETS.values() for _ in range(2)]
    assert [draws * len(styles) for styles, draws in seen] == [8, 8, 8]
    assert len(set(files)) == 3
    assert style_teacher(STYLES, photos, tmp_path, seed=1) not in files


def test_what_is_written_is_a_teacher(photos, tmp_path):
    file = style_teacher(("studio",), photos, tmp_path, drawings=1, **SMALL)
    teacher = load_teacher(str(file))
    assert teacher.text_features.shape[0] == 10


def test_photographs_are_the_students_or_those_nobody_else_sees(tmp_path):
    write_toy_published(tmp_path)
    assert set(teachers_photographs().index) == set(load_photos("train").index)
    assert len(teachers_photographs(str(tmp_path))) == 10 * 4  # what the toy files have to spare


def test_bad_sets_are_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="8 drawings cannot be shared evenly between 3 styles"):
        style_teacher(STYLES[:3], photos, tmp_path)
    with pytest.raises(ValueError, match="unknown style 'stylised'"):
        style_teacher(("stylised",), photos, tmp_path)
