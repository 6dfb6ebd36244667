import numpy as np
import pytest
import torch

from dadlab.discretizer import Identity
from dadlab.store import REASONS, materialize, open_dataset, open_store, tally, to_bytes, write_shard

MANIFEST = {"data": "d", "teacher": "t", "attack": {"epsilon": 1.0}}


def rows(start: int, accepted: list[bool], seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    count = len(accepted)
    return {
        "index": list(range(start, start + count)),
        "variant": [0] * count,
        "label": [(start + k) % 10 for k in range(count)],
        "accepted": accepted,
        "reason": [REASONS[0] if yes else REASONS[1 + k % 3] for k, yes in enumerate(accepted)],
        "distance": rng.random(count).astype(np.float32).tolist(),
        "logits": list(rng.random((count, 10)).astype(np.float32)),
        "codes": list(rng.integers(0, 16, (count, 256)).astype(np.uint16)),
        "pixels": [None] * count,
    }


@pytest.fixture
def store(tmp_path):
    """Two shards: samples 0–3 of which 1 and 3 are accepted, 4–6 of which 4 is."""
    made = open_store(tmp_path / "store", 2, MANIFEST)
    write_shard(made, 1, rows(4, [True, False, False], 1))
    write_shard(made, 0, rows(0, [False, True, False, True]))
    return made


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


def test_materialize_draws_accepted_rows_alone_in_order(store, tiny_vqgan, photos40):
    stored = open_dataset(store.folder)
    found = materialize(stored, tiny_vqgan, photos40)
    assert found.labels.tolist() == [1, 3, 4]
    codes = torch.tensor([list(stored["codes"][k]) for k in (1, 3, 4)]).view(3, 16, 16)
    assert torch.equal(found.pixels, to_bytes(tiny_vqgan.decode(codes)))
    assert found.classes == photos40.classes


def test_pixel_space_is_kept_exactly(tmp_path, photos40):
    made = open_store(tmp_path, 1, MANIFEST)
    pixels = list(photos40.pixels[:3].flatten(1).numpy())
    write_shard(made, 0, {**rows(0, [True, False, True]), "codes": [None] * 3, "pixels": pixels})
    found = materialize(open_dataset(tmp_path), Identity(), photos40)
    assert torch.equal(found.pixels, photos40.pixels[[0, 2]])


def test_nothing_accepted_says_what_to_do(tmp_path, tiny_vqgan, photos40):
    write_shard(open_store(tmp_path, 1, MANIFEST), 0, rows(0, [False, False]))
    with pytest.raises(ValueError, match="kept no discretized sample: lower epsilon"):
        materialize(open_dataset(tmp_path), tiny_vqgan, photos40)


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


@pytest.mark.parametrize(("value", "byte"), [(0.0, 0), (1.0, 255), (0.5 / 255 + 1e-4, 1), (0.5 / 255 - 1e-4, 0)])
def test_bytes_are_rounded(value, byte):
    assert to_bytes(torch.tensor([value])).tolist() == [byte]
