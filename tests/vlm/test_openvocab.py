from collections import Counter

import numpy as np
import pytest
import torch

from dadlab.captions import tokenizer
from dadlab.photos import CLASSES, Photos, load_photos
from dadlab.render import COLOURS, render
from dadlab.vlm import openvocab
from dadlab.vlm.language import cut_texts, enriched, prompts
from dadlab.vlm.openvocab import (
    NAMINGS,
    SPLITS,
    assigned,
    caption_texts,
    descriptions,
    labels_of,
    load_labels,
    load_open,
    load_shift,
    make_labels,
    names,
    write_labels,
)


def test_committed_labels_are_what_the_rule_gives(tmp_path):
    write_labels(tmp_path / "labels.json")
    assert load_labels(tmp_path / "labels.json") == load_labels() == tuple(make_labels())


def test_half_of_all_pairs_is_unseen_and_every_part_is_seen():
    labels = load_labels()
    assert [label.plain for label in labels] == [f"{colour} {kind}" for kind in CLASSES for colour in COLOURS]
    unseen = Counter(part for label in labels if not label.seen for part in label.plain.split(" ", 1))
    assert sum(unseen.values()) == 2 * 55
    assert {unseen[colour] for colour in COLOURS} == {5}
    assert {unseen[kind] for kind in CLASSES} == {5, 6}


def test_no_two_garments_are_unseen_in_the_same_colours():
    unseen = {kind: frozenset(x.plain for x in load_labels() if not x.seen) for kind in CLASSES}
    colours = {kind: frozenset(n.split()[0] for n in unseen[kind] if n.endswith(f" {kind}")) for kind in CLASSES}
    assert len(set(colours.values())) == len(CLASSES)


def test_names_are_distinct_and_descriptions_do_not_name_the_garment():
    labels = load_labels()
    assert len({label.name(naming) for label in labels for naming in NAMINGS}) == 220
    for label in labels:
        colour, kind = label.plain.split(" ", 1)
        assert colour in label.description.split()
        assert not any(f" {other} " in f" {label.description} " for other in CLASSES), kind
    assert len({label.description for label in labels}) == 110


def test_no_text_is_cut_and_every_word_of_a_description_is_one_token():
    encode, labels = tokenizer(), load_labels()
    for naming in NAMINGS:
        said = enriched(names(labels, naming), descriptions(labels, naming))
        assert cut_texts(encode, prompts(said, "a studio photo of a {}")) == []
    words = {word for label in labels for word in label.description.split()}
    assert [word for word in sorted(words) if len(encode.encode(word)) != 1] == []


def test_photographs_take_the_colours_in_turn():
    labels = np.array([0] * 23 + [1] * 11)
    photos, colours = assigned(Photos(np.zeros((34, 28, 28), np.uint8), labels, np.arange(34)))
    assert photos.index.tolist() == [*range(22), *range(23, 34)]
    assert colours == [*COLOURS, *COLOURS, *COLOURS]


@pytest.fixture(scope="module")
def val():
    return load_open("val", limit=110)


def test_images_are_in_the_colour_of_their_label(val):
    """Drawn again one by one, with the seed found by trying, each comes out the same."""
    photos, colours = assigned(load_photos("val"))
    known = [f"{colour} {CLASSES[k]}" for colour, k in zip(colours, photos.labels, strict=True)]
    row = known.index(val.classes[0])
    one = photos.take(np.array([row]))
    position = int((val.labels == 0).nonzero()[0])
    for seed in range(1_000_000, 1_000_400):
        image, (colour,) = render(one.pixels, "studio", seed=seed, index=one.index)
        if colour == colours[row]:
            break
    assert torch.equal(image[0], val.pixels[position])


def test_limit_keeps_the_first_of_every_label(val):
    assert torch.bincount(val.labels).tolist() == [2] * 55
    assert val.classes == tuple(names(labels_of("val")))
    assert val.images(torch.tensor([3]), 0).shape == (1, 3, 32, 32)


def test_naming_changes_classes_alone(val):
    other = load_open("val", naming="product", limit=110)
    assert torch.equal(other.pixels, val.pixels)
    assert other.classes == tuple(names(labels_of("val"), "product"))
    assert other.fingerprint != val.fingerprint


def test_other_drawing_same_photographs_and_labels(val):
    other = load_open("val", drawing=1, limit=110)
    assert torch.equal(other.labels, val.labels)
    assert not (other.pixels == val.pixels).flatten(1).all(1).any()


def test_shots_are_five_a_label_and_other_photographs_for_other_drawings():
    first, second = (load_open("shots", drawing=k) for k in (0, 1))
    assert torch.bincount(first.labels).tolist() == torch.bincount(second.labels).tolist() == [5] * 55
    assert first.classes == load_open("ood", limit=55).classes
    assert not torch.equal(first.pixels, second.pixels)


def test_shots_of_two_drawings_share_no_photograph(monkeypatch):
    shown = []

    def draw_nothing(photos: Photos, *_) -> torch.Tensor:
        shown.append(set(photos.index.tolist()))
        return torch.zeros(len(photos), 3, 32, 32, dtype=torch.uint8)

    monkeypatch.setattr(openvocab, "draw_in", draw_nothing)
    for drawing in (0, 1):
        openvocab._drawn.__wrapped__("shots", drawing, 0)
    assert [len(photographs) for photographs in shown] == [5 * 55] * 2
    assert not shown[0] & shown[1]


def test_rows_of_a_label_are_taken_from_the_first_asked_for_and_round_again():
    labels = np.array([0, 1] * 7)
    assert openvocab._each(labels, 2, 5, 3).tolist() == [0, 1, 10, 11, 12, 13]
    assert openvocab._each(labels, 1, 0, 0).tolist() == list(range(0, 14, 2))


def test_training_choices_and_tests_have_photographs_of_their_own():
    taken = {split: photographs for split, (photographs, _) in SPLITS.items()}
    assert taken == {"train": "train", "shots": "train", "val": "val", "id": "test", "ood": "test"}


@pytest.mark.slow
@pytest.mark.parametrize(("split", "each"), [("train", 81), ("val", 9), ("id", 18), ("ood", 18)])
def test_classes_have_equally_many_images(split, each):
    assert torch.bincount(load_open(split).labels).tolist() == [each] * 55


def test_captions_name_their_own_garment():
    labels = labels_of("ood")
    texts, owner = caption_texts(labels, 3)
    assert len(texts) == 3 * 55
    assert all(labels[k].plain.split(" ", 1)[1] in text for text, k in zip(texts, owner.tolist(), strict=True))
    assert caption_texts(labels, 3)[0] == texts != caption_texts(labels, 3, seed=1)[0]


@pytest.mark.parametrize("style", ["context", "rendition"])
def test_a_shift_shows_all_test_photographs_under_the_labels_they_came_out_with(style):
    photos = load_photos("test")
    pixels, colours = render(photos.pixels, style, seed=1_000_000, index=photos.index)
    split = [load_shift(style, seen=seen) for seen in (True, False)]
    assert [dataset.classes for dataset in split] == [tuple(names(labels_of(name))) for name in ("id", "ood")]
    assert sum(map(len, split)) == len(photos)
    for dataset in split:
        named = [dataset.classes[label] for label in dataset.labels]
        assert Counter(named) <= Counter(
            f"{colour} {CLASSES[k]}" for colour, k in zip(colours, photos.labels, strict=True)
        )
    assert torch.equal(torch.cat([d.pixels for d in split]).long().sum(), pixels.long().sum())
    assert len(load_shift(style, seen=False, limit=55)) <= 55


def test_seen_and_unseen_share_nothing():
    assert not set(names(labels_of("train"))) & set(names(labels_of("ood")))
    assert {split for split in SPLITS if labels_of(split) == labels_of("ood")} == {"shots", "ood"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: load_open("val_ood"), "unknown split 'val_ood'.*shots"),
        (lambda: load_open("val", naming="brand"), "unknown naming 'brand'"),
        (lambda: load_open("val", drawing=-1), "at least 0, got -1"),
        (lambda: load_shift("sketch", seen=True), "style .sketch. has no colours"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
