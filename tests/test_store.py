import numpy as np
import pytest
from toy_store import MANIFEST, rows, two_shards

from dadlab.store import open_dataset, open_store, tally, write_shard


@pytest.fixture
def store(tmp_path):
    return two_shards(tmp_path / "store")


def test_dataset_has_every_row_in_order_of_shards(store):
    found = open_dataset(store.folder)
    assert list(found["index"]) == list(range(7))
    assert list(found["codes"][5]) == rows(4, [True] * 3, 1)["codes"][1].tolist()
    np.testing.assert_array_equal(np.float32(found["logits"][0]), rows(0, [False] * 4)["logits"][0])


def test_codes_of_the_largest_codebook_survive(tmp_path):
    codes = np.array([[0, 16383, 16384, 32768, 65535]], np.uint16)
    write_shard(open_store(tmp_path, 1, MANIFEST), 0, {**rows(0, [True]), "codes": list(codes)})
    assert list(open_dataset(tmp_path)["codes"][0]) == codes[0].tolist()


def test_same_rows_same_bytes(store, tmp_path):
    again = open_store(tmp_path / "again", 2, MANIFEST)
    write_shard(again, 0, rows(0, [False, True, False, True]))
    assert again.path(0).read_bytes() == store.path(0).read_bytes()


def test_reasons_add_up(store):
    counts = tally(open_dataset(store.folder))
    assert counts == {"kept": 3, "teacher wrong on x": 1, "lost by Q": 1, "fooled by the attack": 2}


def test_same_manifest_opens_the_store_again(store):
    again = open_store(store.folder, 2, MANIFEST)
    assert again == store
    assert again.missing() == []


@pytest.mark.parametrize(
    ("change", "shards", "named"),
    [
        ({"teacher": "x"}, 2, "another teacher;"),
        ({"data": "x"}, 2, "another data;"),
        ({"attack": {"epsilon": 2.0}}, 2, "another attack;"),
        ({}, 3, "another shards;"),
        ({"data": "x", "teacher": "x"}, 2, "another data, teacher;"),
        ({"variants": 2}, 2, "another variants;"),
    ],
    ids=str,
)
def test_stale_store_is_refused(store, change, shards, named):
    with pytest.raises(ValueError, match=rf"{store.folder}: store was made with {named} use another folder or delete"):
        open_store(store.folder, shards, {**MANIFEST, **change})


def test_unfinished_store_says_what_is_missing(store):
    store.path(0).unlink()
    assert store.missing() == [0]
    with pytest.raises(ValueError, match=rf"{store.folder}: 1 of 2 shards missing; run generation again"):
        open_dataset(store.folder)


def test_no_store_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}: no store here"):
        open_dataset(tmp_path)


def test_failed_shard_leaves_nothing(store):
    store.path(0).unlink()
    before = sorted(store.folder.iterdir())
    with pytest.raises(ValueError, match="length"):
        write_shard(store, 0, {**rows(0, [True] * 4), "label": [1]})
    assert sorted(store.folder.iterdir()) == before
