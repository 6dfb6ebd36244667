import pkgutil
import shutil

import numpy as np
import pytest
import torch
from open_clip import IMAGENET_CLASSNAMES
from PIL import Image
from published_imagenet import TOY, write_classes

from dadlab.data import identity, load_split, split_names
from dadlab.disk import imagenet
from dadlab.disk.encoded import Encoded
from dadlab.disk.folders import list_files


def timms(name: str) -> list[str]:
    return pkgutil.get_data("timm.data", f"_info/{name}").decode().split()


# the label space


def test_a_thousand_ids_in_order_with_their_names():
    words = imagenet.vocabulary()
    assert len(words.wnids) == len(words.names) == 1000
    assert list(words.wnids) == sorted(set(words.wnids))
    named = dict(zip(words.wnids, words.names, strict=True))
    assert (named["n01440764"], named["n02510455"], named["n15075141"]) == ("tench", "giant panda", "toilet paper")


@pytest.mark.parametrize(
    ("name", "theirs", "some"),
    [("a", "imagenet_a_synsets.txt", "n01498041"), ("rendition", "imagenet_r_synsets.txt", "n01443537")],
)
def test_subsets_are_the_published_two_hundred(name, theirs, some):
    words = imagenet.vocabulary()
    found = words.subsets[name]
    assert len(set(found)) == 200
    assert set(found) <= set(words.wnids)
    assert found[0] == some
    assert sorted(found) == sorted(timms(theirs))  # typed from the authors' code, counted against timm's copy


def test_names_for_prompts():
    synonyms = [", ".join([name, "and more"]) for name in timms("imagenet_synsets.txt")]
    assert imagenet.prompt_names(synonyms) == tuple(IMAGENET_CLASSNAMES)
    assert imagenet.prompt_names(["cat", "dog"]) == ("cat", "dog")


# a toy tree in the published layout


def shown(image: torch.Tensor) -> int:
    """The label that is painted in the middle of an image."""
    side = image.shape[-1] // 2
    return round(float(image[:, side - 4 : side + 4, side - 4 : side + 4].mean()) * 255 / 25)


@pytest.mark.parametrize("split", [*imagenet.SPLITS, "c/fog/1", "c/snow/5"])
def test_every_split_has_its_own_labels(toy_imagenet, split):
    dataset = load_split(f"imagenet:{toy_imagenet}", split, image_size=64)
    images = dataset.images(torch.arange(len(dataset)))
    assert isinstance(dataset.pixels, Encoded)
    assert [shown(image) for image in images] == dataset.labels.tolist()
    wanted = {"a": 4, "rendition": 4}.get(split.removesuffix("-1000"), 10)
    assert len(set(dataset.labels.tolist())) == wanted
    assert dataset.classes == TOY.names


def test_numbered_folders_are_numbers_not_strings(tmp_path, monkeypatch):
    many = imagenet.Vocabulary(tuple(f"n{k:08d}" for k in range(12)), tuple(map(str, range(12))), {})
    monkeypatch.setattr(imagenet, "vocabulary", lambda: many)
    write_classes(
        tmp_path / "imagenetv2-matched-frequency-format-val", {str(k): min(k, 10) for k in range(12)}, 1, "jpeg"
    )
    dataset = load_split(f"imagenet:{tmp_path}", "v2", image_size=64)
    assert dataset.labels.tolist() == list(range(12))
    assert [shown(image) for image in dataset.images(torch.arange(12))] == [*range(11), 10]


@pytest.mark.parametrize(("split", "subset"), [("a", "a"), ("rendition", "rendition")])
def test_subset_answers_and_all_answers(toy_imagenet, split, subset):
    restricted = load_split(f"imagenet:{toy_imagenet}", split, image_size=64)
    every = load_split(f"imagenet:{toy_imagenet}", f"{split}-1000", image_size=64)
    assert restricted.among == tuple(TOY.wnids.index(wnid) for wnid in TOY.subsets[subset])
    assert set(restricted.labels.tolist()) == set(restricted.among)
    assert every.among is None
    assert restricted.take(torch.tensor([0])).among == restricted.among
    assert every.fingerprint == restricted.fingerprint


@pytest.mark.parametrize(
    ("split", "folder", "suffix"),
    [("c/fog/3", "imagenet-c/fog/3", "JPEG"), ("stylized", "stylized-imagenet/val", "png")],
)
def test_images_of_224_are_not_resized_twice(toy_imagenet, split, folder, suffix):
    dataset = load_split(f"imagenet:{toy_imagenet}", split, image_size=224)
    path = next((toy_imagenet / folder / TOY.wnids[0]).glob(f"*.{suffix}"))
    wanted = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    assert torch.equal((dataset.images(torch.tensor([0]))[0] * 255).round().byte(), wanted)


@pytest.mark.parametrize(
    ("split", "folder"),
    [("v2", "matched-frequency"), ("v2-threshold0.7", "threshold0.7"), ("v2-top-images", "top-images")],
)
def test_each_v2_is_its_own_and_stays_as_published(toy_imagenet, split, folder):
    images = load_split(f"imagenet:{toy_imagenet}", split, image_size=64).pixels
    assert images.source.root == str(toy_imagenet / f"imagenetv2-{folder}-format-val")
    assert not images.framing.upright


def test_splits_that_are_there(toy_imagenet, tmp_path):
    assert split_names(f"imagenet:{toy_imagenet}") == list(imagenet.SPLITS)
    (tmp_path / "val").mkdir()
    assert split_names(f"imagenet:{tmp_path}") == ["val"]
    with pytest.raises(ValueError, match=r"none of ImageNet's folders is here: train, val, imagenetv2"):
        split_names(f"imagenet:{tmp_path / 'val'}")


def test_unknown_split_names_those_there_are(toy_imagenet):
    with pytest.raises(ValueError, match=r"unknown split 'imagenet-a' of ImageNet: choose one of train, .* c/<kind>"):
        load_split(f"imagenet:{toy_imagenet}", "imagenet-a")


def test_identity_is_of_the_training_images_wherever_they_lie(toy_imagenet, tmp_path):
    shutil.copytree(toy_imagenet / "train", tmp_path / "train", copy_function=shutil.copyfile)  # times are not kept
    assert identity(f"imagenet:{tmp_path}", "train") == identity(f"imagenet:{toy_imagenet}", "train")
    before = list_files(tmp_path / "train", TOY.wnids).fingerprint
    next((tmp_path / "train" / TOY.wnids[0]).iterdir()).unlink()
    assert list_files(tmp_path / "train", TOY.wnids).fingerprint != before
