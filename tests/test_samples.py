import copy
import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

from dadlab import samples
from dadlab.dataset import Dataset
from dadlab.decode import materialize
from dadlab.discretizer import Identity
from dadlab.generate import generate, read_variants
from dadlab.pixels import write_images
from dadlab.profile import Attack
from dadlab.samples import image_samples, images_folder, open_samples, open_sources, stored_samples
from dadlab.store import open_dataset

ATTACK = Attack(epsilon=4.0, step_size=4.0)


@pytest.fixture(scope="module")
def folder(photos40, tiny_teacher, tiny_vqgan, tmp_path_factory):
    """A store of three shards, one of which has nothing accepted in it."""
    made = tmp_path_factory.mktemp("stores") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dadlab.generate.SHARD", 16)
        patch.setattr("dadlab.generate.TILE", 8)
        wrong = Dataset("wrong", photos40.classes, photos40.pixels, photos40.labels.clone())
        told = tiny_teacher(tiny_vqgan(tiny_vqgan(photos40.images(torch.arange(40))))).argmax(1)
        wrong.labels[:] = torch.where(torch.arange(40) < 16, (told + 5) % 10, told)
        generate(wrong, tiny_teacher, tiny_vqgan, Attack(epsilon=0.0, steps=0), made)
    return made


@pytest.fixture(scope="module")
def whole(folder, tiny_vqgan, photos40):
    return materialize(open_dataset(folder), tiny_vqgan, photos40)


def test_the_fixture_has_an_empty_shard(folder):
    accepted = np.array(open_dataset(folder)["accepted"])
    assert 0 < accepted.sum() <= 24
    assert not accepted[:16].any()


def test_drawn_on_demand_like_in_memory(folder, whole, tiny_vqgan, photos40):
    found = stored_samples(folder, tiny_vqgan, photos40)
    assert (len(found), found.classes) == (len(whole), whole.classes)
    assert torch.equal(found.labels, whole.labels)
    index = torch.tensor([3, 0, 7])
    for view in (-1, 2):
        expected = whole.images(index, view)
        torch.testing.assert_close(found.images(index, view), expected, atol=1.01 / 255, rtol=0)
    assert torch.equal(found.images(index, 2), found.images(index, 2))


def test_taking_some_keeps_them_apart(folder, tiny_vqgan, photos40):
    found = stored_samples(folder, tiny_vqgan, photos40)
    some = found.take(torch.tensor([5, 1]))
    assert torch.equal(some.images(torch.tensor([1])), found.images(torch.tensor([1])))
    assert torch.equal(some.labels, found.labels[[5, 1]])
    assert len({found.fingerprint, some.fingerprint, found.take(torch.tensor([1, 5])).fingerprint}) == 3
    assert stored_samples(folder, tiny_vqgan, photos40).fingerprint == found.fingerprint


def test_it_goes_through_a_pickle_without_its_files(folder, tiny_vqgan, photos40):
    found = stored_samples(folder, tiny_vqgan, photos40)
    again = pickle.loads(pickle.dumps(found))
    assert torch.equal(again.images(torch.arange(2)), found.images(torch.arange(2)))


def test_small_stores_are_drawn_on_the_accelerator(folder, tiny_vqgan, photos40, monkeypatch):
    monkeypatch.setattr(samples, "local_device", lambda: torch.device("meta"))
    monkeypatch.setattr(samples, "materialize", lambda rows, q, source: q.quantize.embedding.weight.device.type)
    assert open_samples(folder, copy.deepcopy(tiny_vqgan), photos40) == "meta"


def test_small_stores_are_held_in_memory_and_large_ones_are_not(folder, tiny_vqgan, photos40, whole, monkeypatch):
    small = open_samples(folder, tiny_vqgan, photos40)
    assert type(small) is Dataset
    assert small.fingerprint == whole.fingerprint
    monkeypatch.setattr(samples, "IN_MEMORY", 1000)
    assert type(open_samples(folder, tiny_vqgan, photos40)) is samples.StoredSamples


def test_decoding_at_every_reading_is_said(folder, tiny_vqgan, photos40, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(folder, tmp_path / "store")
    open_samples(folder, tiny_vqgan, photos40)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(samples, "IN_MEMORY", 1000)
    found = open_samples(folder, tiny_vqgan, photos40)
    assert f"{len(found):,} samples are decoded on the CPU each time they are read" in capsys.readouterr().out
    write_images(folder, tiny_vqgan, photos40.classes, images_folder(folder))
    capsys.readouterr()
    open_samples(folder, tiny_vqgan, photos40)
    assert capsys.readouterr().out == ""


def test_an_image_is_read_without_a_copy_of_its_shard(folder, tiny_vqgan, photos40, tmp_path):
    folder = shutil.copytree(folder, tmp_path / "store")  # later tests find no images beside the other one
    write_images(folder, tiny_vqgan, photos40.classes, images_folder(folder))
    found = image_samples(images_folder(folder))
    before, watched = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(watched)
    try:
        found.read(torch.arange(len(found)))
    finally:
        pa.set_memory_pool(before)
    assert watched.max_memory() in (None, 0)


def test_images_of_another_store_and_lossy_ones_are_refused(folder, tiny_vqgan, photos40, tmp_path):
    """A run's name knows neither."""
    folder = shutil.copytree(folder, tmp_path / "store")
    images = images_folder(folder)
    write_images(folder, tiny_vqgan, photos40.classes, images, encoding="jpeg", quality=30)
    with pytest.raises(ValueError, match=r"store-images: lossy images \(jpeg of quality 30\); write them again"):
        open_samples(folder, tiny_vqgan, photos40)
    shutil.rmtree(images)
    write_images(folder, tiny_vqgan, photos40.classes, images)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "seed": 7}))
    with pytest.raises(ValueError, match="store-images: images of another store than store is now; delete them"):
        open_samples(folder, tiny_vqgan, photos40)


@pytest.mark.parametrize("in_memory", [samples.IN_MEMORY, 1000])
def test_written_images_are_preferred(folder, tiny_vqgan, photos40, whole, tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(samples, "IN_MEMORY", in_memory)
    folder = shutil.copytree(folder, tmp_path / "store")
    write_images(folder, tiny_vqgan, photos40.classes, images_folder(folder))
    found = open_samples(folder, tiny_vqgan, photos40)
    assert isinstance(found.read, samples.ImageReader)
    assert found.fingerprint == image_samples(images_folder(folder)).fingerprint
    index = torch.arange(len(whole)).flip(0)
    difference = (found.images(index) - whole.images(index)).abs() * 255
    assert difference.max() <= 1.01
    assert torch.equal(found.labels, whole.labels)
    assert found.classes == photos40.classes


def test_pixel_space(photos40, tiny_teacher, tmp_path):
    labels = tiny_teacher(photos40.images(torch.arange(40))).argmax(1)
    source = Dataset("photographs", photos40.classes, photos40.pixels, labels)
    generate(source, tiny_teacher, Identity(), Attack(epsilon=0.0, steps=0), tmp_path)
    found = stored_samples(tmp_path, Identity(), source)
    assert torch.equal(found.images(torch.arange(40)), source.images(torch.arange(40)))


def test_nothing_accepted(photos40, tiny_teacher, tiny_vqgan, tmp_path):
    told = tiny_teacher(tiny_vqgan(tiny_vqgan(photos40.images(torch.arange(40))))).argmax(1)
    wrong = Dataset("wrong", photos40.classes, photos40.pixels, (told + 5) % 10)
    generate(wrong, tiny_teacher, tiny_vqgan, Attack(epsilon=0.0, steps=0), tmp_path)
    with pytest.raises(ValueError, match="kept no discretized sample"):
        stored_samples(tmp_path, tiny_vqgan, wrong)


def test_sources_are_the_views_that_samples_were_made_from(photos40, tiny_teacher, tiny_vqgan, tmp_path):
    """Row by row in the order of the samples, whatever order they are asked for in."""
    generate(photos40, tiny_teacher, Identity(), Attack(epsilon=0.0, steps=0), tmp_path / "store", variants=3)
    made = materialize(open_dataset(tmp_path / "store"), Identity(), photos40)
    sources = open_sources(tmp_path / "store", photos40)
    assert len(made) == len(sources) > 4
    index = torch.randperm(len(made))
    for view in (-1, 1):
        assert torch.equal(sources.images(index, view), made.images(index, view))
    assert torch.equal(sources.labels, made.labels)
    assert sources.fingerprint != photos40.fingerprint


def test_variants_are_drawn_in_the_order_they_are_asked_for(photos40):
    rows = torch.tensor([81, 3, 43, 80, 0])
    drawn = [photos40.images(torch.tensor([i]), v)[0] for i, v in ((1, 1), (3, -1), (3, 0), (0, 1), (0, -1))]
    assert torch.equal(read_variants(photos40, rows), torch.stack(drawn))
