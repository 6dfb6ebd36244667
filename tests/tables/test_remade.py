"""Teachers and discretizers trained for a question, a few steps each."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from published import a_class, write_toy_published

from dadlab.discretizer import load_discretizer
from dadlab.files import ROOT, write_json
from dadlab.making.discretizer import train_vqgan
from dadlab.making.teacher import STYLES, train_clip
from dadlab.photos import load_photos
from dadlab.profile import make_profile
from dadlab.tables import remade as module
from dadlab.tables.remade import SETS, knowledge, spread, style_discretizer, style_teacher, teachers_photographs
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
        write_json(out, "weights")

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
    with pytest.raises(ValueError, match="no style to learn: choose among studio"):
        style_discretizer((), photos, tmp_path)


def test_a_discretizer_is_trained_once_on_drawings_of_its_seed(photos, tmp_path, monkeypatch):
    seen = []

    def train(images, labels, out, **given):
        seen.append((images, given["seed"]))
        write_json(out, "weights")

    monkeypatch.setattr(module, "train_vqgan", train)
    assert not style_discretizer(("studio",), photos, tmp_path, train=False).exists()
    files = [style_discretizer(("studio",), photos, tmp_path, seed=seed) for seed in (0, 1) for _ in range(2)]
    assert len(set(files)) == 2
    (first, zero), (second, one) = seen
    assert (zero, one) == (0, 1)
    assert first.shape == second.shape == (len(photos), 3, 32, 32)
    assert not torch.equal(first, second)  # what it sees is drawn anew


def test_what_a_discretizers_training_writes_is_one(photos, tmp_path):
    file = style_discretizer(("studio",), photos, tmp_path, steps=2, batch=2, perceptual_steps=2)
    assert load_discretizer(str(file)).quantize.n_e == 1024


def test_the_seed_0_of_all_styles_is_the_embedded_teachers_recipe():
    """The defaults of both functions, as the notebooks have them that made what is committed."""
    for notebook, made, names in (
        ("train_teacher", (style_teacher, train_clip), ("steps", "batch", "seed", "peak", "tower")),
        ("train_discretizer", (style_discretizer, train_vqgan), ("steps", "batch", "seed", "peak", "perceptual_steps")),
    ):
        known = papermill.inspect_notebook(ROOT / "notebooks" / f"{notebook}.ipynb")
        for function in made:
            defaults = inspect.signature(function).parameters
            for name in names:
                if name in defaults:
                    assert defaults[name].default == ast.literal_eval(known[name]["default"]), (function, name)


def test_a_teacher_is_known_by_what_it_answers_and_by_what_it_keeps(tmp_path):
    profile = make_profile("fashion", limit=20, variants=1)
    known = knowledge(profile, ["studio"], tmp_path)
    assert list(known) == ["studio", "samples kept"]
    assert known["studio"] == pytest.approx(88.0, abs=0.1)  # of the 2,000 test photographs, the committed teacher
    assert known["samples kept"] in np.arange(0, 101, 5)


def test_spread_over_a_field_stands_beside_the_spread_over_seeds():
    lines = [("teacher", name, seed) for name in ("own", "other") for seed in (0, 1)]
    found = spread(pd.DataFrame({"a": [40, 60, 80, 100]}, index=pd.MultiIndex.from_tuples(lines)))["a"]
    assert found["teacher", "own"] == pytest.approx(50)
    assert found["teacher", "deviation"] == pytest.approx(40 / 2**0.5)  # of 50 and 90
    assert found["teacher", "over seeds"] == pytest.approx(20 / 2**0.5)  # of 40 and 60, and of 80 and 100
