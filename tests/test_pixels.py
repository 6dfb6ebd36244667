import shutil

import datasets
import numpy as np
import pytest
import torch

from dadlab.decode import materialize
from dadlab.discretizer import Identity
from dadlab.generate import generate
from dadlab.pixels import write_images
from dadlab.profile import Attack
from dadlab.samples import image_samples, open_samples, stored_samples
from dadlab.store import open_dataset, read_shard, whole_store, write_shard


@pytest.fixture(scope="module")
def folder(photos40, tiny_teacher, tiny_vqgan, tmp_path_factory):
    made = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dadlab.generate.SHARD", 16)
        patch.setattr("dadlab.generate.TILE", 8)
        generate(photos40, tiny_teacher, tiny_vqgan, Attack(), made, variants=2)
    return made


@pytest.fixture(scope="module")
def expected(folder, tiny_vqgan, photos40):
    return materialize(open_dataset(folder), tiny_vqgan, photos40)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("encoding", ["webp", "png"])
def test_hugging_face_opens_the_folder_as_it_is(folder, expected, tiny_vqgan, photos40, tmp_path, encoding):
    write_images(folder, tiny_vqgan, photos40.classes, tmp_path / "images", encoding=encoding)
    found = datasets.load_dataset(str(tmp_path / "images"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["label"].names == list(photos40.classes)
    assert found["label"] == expected.labels.tolist()
    assert found[0]["image"].format.lower() == encoding
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in found["image"]])
    assert (pixels.int() - expected.pixels.int()).abs().max() <= 1  # drawn in other batches
    assert (pixels == expected.pixels).double().mean() > 0.999
    rows = [row for row in open_dataset(folder) if row["accepted"]]
    assert [(row["index"], row["variant"]) for row in found] == [(row["index"], row["variant"]) for row in rows]


def judged_in(folder, copy, *precisions):
    """A copy of a store whose shards say in turn in which precision their samples were judged."""
    shutil.copytree(folder, copy)
    store = whole_store(copy)
    for shard in range(store.shards):
        rows = read_shard(store, shard)
        columns = {name: rows.column(name).combine_chunks() for name in rows.column_names}
        write_shard(store, shard, columns, precision=precisions[shard % len(precisions)])
    return copy


def furthest(found, expected):
    """In levels of 255, sample by sample."""
    apart = found.images(torch.arange(len(found))) - expected.images(torch.arange(len(expected)))
    return 255 * apart.abs().flatten(1).amax(1)


def test_samples_are_drawn_in_the_precision_they_were_judged_in(folder, expected, tiny_vqgan, photos40, tmp_path):
    """As images, all at once, or on demand; bfloat16 keeps eight bits."""
    half = judged_in(folder, tmp_path / "half", "bfloat16")
    write_images(half, tiny_vqgan, photos40.classes, tmp_path / "images")
    found = image_samples(tmp_path / "images")
    assert 1.5 < furthest(found, expected).max() < 8
    for other in (open_samples(half, tiny_vqgan, photos40), stored_samples(half, tiny_vqgan, photos40)):
        assert furthest(found, other).max() <= 1.01  # drawn in other batches
    assert next(tiny_vqgan.parameters()).dtype == torch.float32


def test_images_of_a_mixed_store_are_drawn_shard_by_shard(folder, expected, tiny_vqgan, photos40, tmp_path):
    mixed = judged_in(folder, tmp_path / "mixed", "float32", "bfloat16")
    write_images(mixed, tiny_vqgan, photos40.classes, tmp_path / "images")
    found = furthest(image_samples(tmp_path / "images"), expected)
    first = sum(read_shard(whole_store(folder), 0, ["accepted"])["accepted"].to_pylist())
    assert found[:first].max() <= 1.01
    assert found[first:].max() > 1.5
    assert furthest(stored_samples(mixed, tiny_vqgan, photos40), expected).max() <= 1.01


def test_it_streams(folder, tiny_vqgan, photos40, tmp_path):
    write_images(folder, tiny_vqgan, photos40.classes, tmp_path)
    stream = datasets.load_dataset(str(tmp_path), split="train", streaming=True)
    assert next(iter(stream))["image"].size == (32, 32)


def test_lossless_means_lossless(photos40, tiny_teacher, tmp_path):
    generate(photos40, tiny_teacher, Identity(), Attack(epsilon=0.0, steps=0), tmp_path / "store")
    expected = materialize(open_dataset(tmp_path / "store"), Identity(), photos40)
    write_images(tmp_path / "store", Identity(), photos40.classes, tmp_path / "images")
    found = datasets.load_dataset(str(tmp_path / "images"), split="train", cache_dir=str(tmp_path / "cache"))
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in found["image"]])
    assert torch.equal(pixels, expected.pixels)


def test_a_lost_shard_is_drawn_again_with_the_same_bytes(folder, tiny_vqgan, photos40, tmp_path):
    images = write_images(folder, tiny_vqgan, photos40.classes, tmp_path, encoding="jpeg", quality=90)
    before = contents(tmp_path)
    images.path(2).unlink()
    (tmp_path / f".{images.path(2).name}.abcdefgh").write_bytes(b"half")
    write_images(folder, tiny_vqgan, photos40.classes, tmp_path, encoding="jpeg", quality=90)
    assert contents(tmp_path) == before


def test_other_settings_are_refused(folder, tiny_vqgan, photos40, tmp_path):
    write_images(folder, tiny_vqgan, photos40.classes, tmp_path)
    with pytest.raises(ValueError, match="another encoding"):
        write_images(folder, tiny_vqgan, photos40.classes, tmp_path, encoding="png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "gif"}, "unknown encoding 'gif'"),
        ({"encoding": "jpeg"}, "never lossless"),
        ({"encoding": "png", "quality": 9}, "png has no quality"),
        ({"quality": 101}, "quality 101"),
    ],
)
def test_impossible_encodings(folder, tiny_vqgan, photos40, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        write_images(folder, tiny_vqgan, photos40.classes, tmp_path / "images", **change)
    assert not (tmp_path / "images").exists()


def test_another_discretizer(folder, photos40, tmp_path):
    assert not whole_store(folder).missing()
    with pytest.raises(ValueError, match="made with another discretizer"):
        write_images(folder, Identity(), photos40.classes, tmp_path / "images")
