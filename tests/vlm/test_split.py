import pytest
import torch

from dadlab.vlm.split import LISTS, by_lists, by_rule, drawn_classes, letters

LABELS = torch.arange(4).repeat_interleave(torch.tensor([10, 9, 13, 7]))
NAMES = ("001.Black_footed_Albatross", "002.Mallard", "Ram C/V Van 2012", "zoo")
FILES = [f"{NAMES[label].replace('/', '-')}/{row}.jpg" for row, label in enumerate(LABELS.tolist())]


def test_the_rule_sets_three_tenths_rounded_down_aside():
    split = by_rule(LABELS, [0, 2], [3, 1])
    assert (split.seen, split.unseen) == ((0, 2), (1, 3))
    assert [split.classes(name) for name in ("train", "id", "ood", "shots", "rest")] == [(0, 2)] * 2 + [(1, 3)] * 3
    assert LABELS[split.rows["train"]].bincount().tolist() == [7, 0, 10], "10 − 3 and 13 − 3 (of 3.9)"
    assert LABELS[split.rows["id"]].bincount().tolist() == [3, 0, 3]
    assert torch.equal(split.rows["ood"], (LABELS % 2).nonzero()[:, 0])
    assert not set(split.rows["train"].tolist()) & set(split.rows["id"].tolist())
    assert split.rows["id"].tolist() == [1, 2, 8, 19, 21, 25], "drawn, not the last, and the same for ever"
    again = by_rule(LABELS, [2, 0], [1, 3])
    assert all(torch.equal(rows, again.rows[name]) for name, rows in split.rows.items())


def test_shots_are_the_first_five_of_every_unseen_class_and_the_rest_all_others():
    split = by_rule(LABELS, [0, 2], [1, 3])
    assert split.rows["shots"].tolist() == [10, 11, 12, 13, 14, 32, 33, 34, 35, 36]
    assert split.rows["rest"].tolist() == [15, 16, 17, 18, 37, 38]


def test_drawn_classes_are_all_classes_once():
    seen, unseen = drawn_classes(11, 6)
    assert (len(seen), sorted(seen + unseen)) == (6, list(range(11)))
    assert seen == [0, 1, 2, 4, 8, 9], "drawn once for all: other classes would be other results"


def test_letters_ignore_what_file_systems_and_authors_change():
    assert letters("001.Black_footed_Albatross") == letters("black footed albatross")
    assert letters("Ram_C-V_Van_2012") == letters("Ram C/V Van 2012") != letters("Ram C/V Van 2011")


def write_lists(folder, **rows):
    for split, listed in LISTS.items():
        folders = [NAMES[label].replace(" ", "_").replace("/", "_") for label in LABELS.tolist()]
        lines = [f"{split}/{folders[row]}/{row}.jpg" for row in reversed(rows[split])]
        (folder / listed).write_text("\n".join(lines))


def test_lists_decide(tmp_path):
    write_lists(tmp_path, train=[0, 1, 19], id=[2, 20], ood=range(10, 19))
    split = by_lists(tmp_path, FILES, LABELS, NAMES)
    assert {name: split.rows[name].tolist() for name in LISTS} == {
        "train": [0, 1, 19],
        "id": [2, 20],
        "ood": list(range(10, 19)),
    }
    assert (split.seen, split.unseen) == ((0, 2), (1,))


def test_all_that_is_wrong_with_lists_is_said_at_once(tmp_path):
    write_lists(tmp_path, train=[0, 1], id=[1], ood=[3])
    (tmp_path / LISTS["ood"]).write_text("val/zoo/nothing.jpg\nval/zoo/32.jpg")
    with pytest.raises(ValueError, match=r"1 of 2 images are not here, first val/zoo/nothing.jpg; .*images twice"):
        by_lists(tmp_path, FILES, LABELS, NAMES)
    (tmp_path / LISTS["train"]).unlink()
    with pytest.raises(ValueError, match=r"train_data.txt is missing beside"):
        by_lists(tmp_path, FILES, LABELS, NAMES)
    for rows in ({"train": [0, 1], "id": [2], "ood": [3]}, {"train": [0], "id": [10], "ood": [11]}):
        write_lists(tmp_path, **rows)
        with pytest.raises(ValueError, match=r"^val_data.txt has classes of the other lists$"):
            by_lists(tmp_path, FILES, LABELS, NAMES)


def test_a_class_that_is_tested_as_seen_must_be_trained(tmp_path):
    write_lists(tmp_path, train=[0, 1], id=[2, 20], ood=[11])
    with pytest.raises(ValueError, match=r"^val_on_train_data.txt has classes that train_data.txt has not$"):
        by_lists(tmp_path, FILES, LABELS, NAMES)


def test_an_empty_list_is_named(tmp_path):
    write_lists(tmp_path, train=[0, 1], id=[2], ood=[])
    with pytest.raises(ValueError, match=r"^val_data.txt names no image$"):
        by_lists(tmp_path, FILES, LABELS, NAMES)
