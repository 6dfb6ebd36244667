from dataclasses import replace

import pytest
import torch
from toy_benchmarks import BIRDS, WRITE, draw, toy_sizes, write_birds

from dadlab.vlm.benchmarks import _halves, listing, load_benchmark, published_sizes
from dadlab.vlm.split import LISTS


def test_sizes_are_table_13():
    assert published_sizes("cars") == {"train": 2874, "id": 1164, "ood": 4106, "seen": 98, "unseen": 98}
    assert sum(published_sizes("sun")[name] for name in ("train", "id", "ood")) == 108_754, "all of SUN397"


def test_as_many_classes_are_seen_as_table_13_says():
    seen, unseen = _halves([str(k) for k in range(101)], 0, published_sizes("food"))
    assert (len(seen), len(unseen)) == (51, 50)


@pytest.mark.parametrize("kind", WRITE)
def test_every_archive_is_read_as_it_lies(kind, toy_benchmarks, tmp_path, capsys):
    data, sizes = f"{kind}:{WRITE[kind](tmp_path)}", toy_sizes(kind)
    splits = {name: load_benchmark(data, name, image_size=32) for name in ("train", "id", "ood", "shots", "rest")}
    assert {name: len(splits[name]) for name in ("train", "id", "ood")} == {n: sizes[n] for n in ("train", "id", "ood")}
    assert len(splits["shots"]) == 5 * sizes["unseen"]
    assert splits["shots"].classes == splits["rest"].classes == splits["ood"].classes
    assert splits["train"].classes == splits["id"].classes
    assert not set(splits["train"].classes) & set(splits["ood"].classes)
    assert capsys.readouterr().out == "", "nothing to say where sizes are Table 13's"
    dark = splits["ood"].images(torch.arange(len(splits["ood"]))).mean((1, 2, 3))
    levels = [dark[splits["ood"].labels == label] for label in range(sizes["unseen"])]
    assert max(float(part.max() - part.min()) for part in levels) < 0.004, "a label's pictures are all of one grey"
    assert len({round(float(part.mean()) * 255) for part in levels}) == sizes["unseen"]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("birds", ("black footed albatross", "laysan albatross", "mallard", "artic tern")),
        ("sun", ("abbey", "apartment building outdoor", "synagogue indoor", "zoo")),
        ("tiered", ("kit fox", "missile", "English Setter", "projectile")),
        ("food", ("apple pie", "ceviche", "donuts", "waffles")),
        ("cars", ("AM General Hummer SUV 2000", "Audi TT RS Coupe 2012", "Ram C/V Cargo Van Minivan 2012")),
    ],
)
def test_class_names_are_ready_for_prompts(kind, names, toy_benchmarks, tmp_path):
    assert listing(f"{kind}:{WRITE[kind](tmp_path)}").names[: len(names)] == names


def test_tiered_keeps_its_authors_classes(toy_benchmarks, tmp_path):
    found = listing(f"tiered:{WRITE['tiered'](tmp_path)}")
    assert (found.split.seen, found.split.unseen) == ((0, 1), (2, 3))


def test_the_authors_lists_decide(toy_benchmarks, tmp_path, capsys):
    write_birds(tmp_path)
    file = "{0}/{1}/{2}_{3:04d}_{4}.jpg".format
    rows = {"train": (1, range(6)), "id": (1, range(6, 10)), "ood": (2, range(10))}
    for split, (label, part) in rows.items():
        lines = [file("any", BIRDS[label], BIRDS[label][4:], k, 796 + k) for k in part]
        (tmp_path / LISTS[split]).write_text("\n".join(lines))
    assert load_benchmark(f"birds:{tmp_path}", "ood").classes == ("mallard",)
    assert len(load_benchmark(f"birds:{tmp_path}", "id", image_size=32)) == 4
    told = capsys.readouterr().out
    assert "Table 13, which are in brackets: 6 train (14), 4 id (6), 10 ood (20)" in told, "said, not refused"
    assert told.count("\n") == 1


def test_another_split_of_the_same_files_is_another_fingerprint(toy_benchmarks, tmp_path):
    data = f"birds:{write_birds(tmp_path)}"
    found = listing(data)
    rows = {**found.split.rows, "train": found.split.rows["train"][1:]}
    assert replace(found, split=replace(found.split, rows=rows)).fingerprint != found.fingerprint
    assert replace(found, names=found.names[::-1]).fingerprint != found.fingerprint


def test_five_images_of_a_class_would_leave_none_to_test(toy_benchmarks, tmp_path):
    with pytest.raises(ValueError, match=r"no more than 5 images of black footed albatross, .* and others"):
        listing(f"birds:{write_birds(tmp_path, each=5)}")


def test_another_release_is_told_not_refused(toy_benchmarks, tmp_path, capsys):
    write_birds(tmp_path, each=11)
    assert len(load_benchmark(f"birds:{tmp_path}", "ood")) == 22
    assert "44 images (40)" in capsys.readouterr().out


def test_limit_takes_the_first_of_every_class(toy_benchmarks, tmp_path):
    dataset = load_benchmark(f"birds:{write_birds(tmp_path)}", "ood", image_size=32, limit=6)
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(load_benchmark(f"birds:{tmp_path}", "shots", limit=6)) == 10, "shots are all kept"


def test_all_that_is_wrong_is_said_at_once(toy_benchmarks, tmp_path):
    write_birds(tmp_path)
    home = tmp_path / "CUB_200_2011" / "images"
    for k in range(3):
        draw(home / "005.mallard" / f"{k}.jpg", 4)
    (tmp_path / LISTS["ood"]).write_text("")
    found = "5 classes, 4 wanted; no more than 5 images of mallard; two classes are called mallard; train_data.txt"
    with pytest.raises(ValueError, match=found):
        load_benchmark(f"birds:{tmp_path}", "train")


def test_images_that_are_listed_but_not_there_are_named(toy_benchmarks, tmp_path):
    WRITE["food"](tmp_path)
    (tmp_path / "food-101" / "images" / "donuts" / "1003.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 images are missing, first food-101/images/donuts/1003.jpg"):
        load_benchmark(f"food:{tmp_path}", "train")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("flower:/nowhere", "did you mean 'flowers'"),
        ("flowers:/nowhere", "no flowers-102/jpg, no flowers-102/imagelabels.mat, no flowers-102/setid.mat"),
        ("tiered:/nowhere", "no train, no val in this folder, as dadlab.vlm.archives"),
    ],
)
def test_data_that_are_not_there(data, message):
    with pytest.raises(ValueError, match=message):
        load_benchmark(data, "train")


def test_a_damaged_archive_and_an_unknown_split_are_one_line(toy_benchmarks, tmp_path):
    WRITE["birds"](tmp_path)
    with pytest.raises(ValueError, match=r"unknown split of birds:.*'idd': did you mean 'id'"):
        load_benchmark(f"birds:{tmp_path}", "idd")
    WRITE["food"](tmp_path)
    (tmp_path / "food-101" / "meta" / "test.json").unlink()
    with pytest.raises(ValueError, match=r"food:.*not as its authors' archive has it"):
        load_benchmark(f"food:{tmp_path}", "train")
