import shutil
from pathlib import Path

import pytest
from published_imagenet import TOY

from dadlab.data import load_split
from dadlab.disk.check import check


@pytest.fixture
def damaged(toy_imagenet, tmp_path) -> Path:
    for folder in ("train", "imagenet-a", "imagenet-c/fog/2", "sketch"):
        shutil.copytree(toy_imagenet / folder, tmp_path / folder)
    shutil.rmtree(tmp_path / "train" / TOY.wnids[3])
    (tmp_path / "train" / "n99999999").mkdir()
    (tmp_path / "imagenet-a" / TOY.wnids[0]).mkdir()
    for path in (tmp_path / "sketch" / TOY.wnids[5]).iterdir():
        path.unlink()
    shutil.rmtree(tmp_path / "imagenet-c/fog/2" / TOY.wnids[9])
    return tmp_path


def test_a_sound_tree_passes(toy_imagenet):
    check(f"imagenet:{toy_imagenet}")
    check(f"imagenet:{toy_imagenet}", ["train", "c/fog/1"], full=True)


def test_all_that_is_wrong_is_said_at_once(damaged):
    with pytest.raises(ValueError, match="train") as caught:
        check(f"imagenet:{damaged}", ["train", "val", "a", "a-1000", "sketch", "c/fog/2"])
    said = str(caught.value)
    assert "\n" not in said
    for problem in (
        f"{damaged / 'train'}: 10 class folders, 10 wanted: missing {TOY.wnids[3]}, unknown n99999999",
        f"val: no folder {damaged / 'val'}",
        f"{damaged / 'imagenet-a'}: 5 class folders, 4 wanted: unknown {TOY.wnids[0]}",
        f"{damaged / 'sketch'}: no images in class folders {TOY.wnids[5]}",
        f"{damaged / 'imagenet-c/fog/2'}: 9 class folders, 10 wanted: missing {TOY.wnids[9]}",
    ):
        assert said.count(problem) == 1


def test_many_missing_folders_are_counted(damaged):
    for wnid in TOY.wnids[:8]:
        shutil.rmtree(damaged / "imagenet-c/fog/2" / wnid)
    with pytest.raises(
        ValueError, match="1 class folders, 10 wanted: missing n00000002, n00000004, n00000005 and 6 more"
    ):
        load_split(f"imagenet:{damaged}", "c/fog/2")


def test_unreadable_images_are_sampled_or_all_counted(toy_imagenet, tmp_path, monkeypatch):
    shutil.copytree(toy_imagenet / "val", tmp_path / "val")
    paths = sorted((tmp_path / "val").rglob("*.JPEG"))
    for path in (paths[0], paths[7]):
        path.write_bytes(b"<html>not found</html>")
    monkeypatch.setattr("dadlab.disk.encoded.SAMPLE", 2)
    with pytest.raises(ValueError, match=rf"val: 1 unreadable image\(s\), first {paths[0]}"):
        check(f"imagenet:{tmp_path}", ["val"])
    with pytest.raises(ValueError, match=rf"val: 2 unreadable image\(s\), first {paths[0]}"):
        check(f"imagenet:{tmp_path}", ["val"], full=True)


def test_unreadable_images_are_said_beside_missing_folders(toy_imagenet, tmp_path):
    shutil.copytree(toy_imagenet / "val", tmp_path / "val")
    shutil.rmtree(tmp_path / "val" / TOY.wnids[0])
    broken = next((tmp_path / "val" / TOY.wnids[1]).iterdir())
    broken.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"missing {TOY.wnids[0]}; val: 1 unreadable image\(s\), first {broken}"):
        check(f"imagenet:{tmp_path}", ["val"])


def test_the_archives_loose_images_are_said_to_want_folders(toy_imagenet, tmp_path):
    (tmp_path / "val").mkdir()
    image = next((toy_imagenet / "val").rglob("*.JPEG"))
    shutil.copy(image, tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match=r"val: images without class folders, .*torchvision\.datasets\.ImageNet makes"):
        check(f"imagenet:{tmp_path}", ["val"])


def test_images_of_every_corruption_are_tried(toy_imagenet, tmp_path, monkeypatch):
    shutil.copytree(toy_imagenet / "imagenet-c/fog/2", tmp_path / "imagenet-c/fog/2")
    for path in (tmp_path / "imagenet-c/fog/2").rglob("*.JPEG"):
        path.write_bytes(b"")
    monkeypatch.setattr("dadlab.disk.imagenet.FEW", 2)
    with pytest.raises(ValueError, match=r"c/fog/2: 2 unreadable image\(s\), first"):
        check(f"imagenet:{tmp_path}", ["c/fog/2"])
    with pytest.raises(ValueError, match=r"c/fog/2: 10 unreadable image\(s\), first"):
        check(f"imagenet:{tmp_path}", ["c/fog/2"], full=True)


def test_imagenet_is_all_that_the_tables_need(toy_imagenet, tmp_path):
    shutil.copytree(toy_imagenet / "val", tmp_path / "val")
    with pytest.raises(ValueError, match="to do without a shift, name the others") as caught:
        check(f"imagenet:{tmp_path}")
    for name in ("train", "v2", "rendition", "sketch", "a", "stylized", "c"):
        assert str(caught.value).count(f" {name}: no folder {tmp_path}") == 1
    shutil.copytree(toy_imagenet / "imagenet-c/fog/1", tmp_path / "imagenet-c/fog/1")
    with pytest.raises(ValueError, match="c/snow: no folder") as caught:
        check(f"imagenet:{tmp_path}")
    assert [severity for severity in range(1, 6) if f"c/fog/{severity}: no folder" in str(caught.value)] == [2, 3, 4, 5]
    check(f"imagenet:{tmp_path}", ["val", "c/fog/1"])


def test_own_folders_are_checked_too(toy_imagenet, tmp_path):
    shutil.copytree(toy_imagenet / "val", tmp_path / "train")
    shutil.copytree(toy_imagenet / "imagenet-a", tmp_path / "night")
    (tmp_path / "night" / "troll").mkdir()
    (tmp_path / "empty").mkdir()
    for wnid in TOY.wnids[:4]:
        shutil.copytree(tmp_path / "train" / wnid, tmp_path / "val" / wnid)
    for path in (*(tmp_path / "val" / TOY.wnids[0]).iterdir(), *(tmp_path / "train" / TOY.wnids[5]).iterdir()):
        path.unlink()
    with pytest.raises(ValueError, match="train") as caught:
        check(str(tmp_path))
    for problem in (
        f"{tmp_path / 'train'}: no images in class folders {TOY.wnids[5]};",
        f"{tmp_path / 'val'}: class folders {', '.join(TOY.wnids[4:])} are missing;",
        f"{tmp_path / 'val'}: no images in class folders {TOY.wnids[0]};",
    ):
        assert str(caught.value).count(problem) == 1
    with pytest.raises(ValueError, match=r"empty: no images .*; .*night: class folders troll are not in"):
        check(str(tmp_path))


def test_fashion_needs_no_check_but_of_names():
    check("fashion")
    with pytest.raises(ValueError, match="unknown split 'scetch'"):
        check("fashion", ["studio", "scetch"])
