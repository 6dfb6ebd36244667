import pytest
import torch
from toy_store import MANIFEST, rows, two_shards

from dadlab.dataset import to_bytes
from dadlab.decode import materialize
from dadlab.discretizer import Identity
from dadlab.store import open_dataset, open_store, write_shard


def test_materialize_draws_accepted_rows_alone_in_order(tmp_path, tiny_vqgan, photos40):
    stored = open_dataset(two_shards(tmp_path).folder)
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
