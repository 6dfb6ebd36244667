import fnmatch
import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard

from dadlab.compute import Compute
from dadlab.generate import generate
from dadlab.profile import ATTACKS, make_profile
from dadlab.share import card, pull, push, verify
from dadlab.store import open_dataset, tally


class FakeHub:
    """The hub as a folder; keeps what was asked of it."""

    def __init__(self, folder: Path):
        self.folder, self.asked = folder, []

    def create_repo(self, name: str, **how) -> None:
        self.asked.append((name, how))
        (self.folder / name).mkdir(parents=True, exist_ok=how["exist_ok"])

    def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], **how) -> None:
        for path in folder_path.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, self.folder / repo_id / path.name)

    def snapshot_download(self, name: str, *, local_dir: Path, allow_patterns: list[str], **how) -> None:
        self.asked.append((name, how))
        (local_dir / ".cache" / "huggingface").mkdir(parents=True)
        for path in (self.folder / name).iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, local_dir / path.name)


@pytest.fixture(scope="module")
def made(photos40, tiny_teacher, tiny_vqgan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dadlab.generate.SHARD", 16)
        patch.setattr("dadlab.generate.TILE", 8)
        generate(photos40, tiny_teacher, tiny_vqgan, ATTACKS["fashion"], folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


@pytest.fixture
def profile(files):
    return make_profile(limit=40, variants=1, teacher=str(files["teacher"]), discretizer=str(files["vqgan"]))


@pytest.fixture
def hub(tmp_path):
    return FakeHub(tmp_path / "hub")


def test_what_was_pushed_comes_back(folder, profile, hub, tmp_path):
    (folder / ".shard-00000-of-00003.parquet.abcd").write_bytes(b"half")
    (folder / "accepted-codes.npy").write_bytes(b"local")
    names = push(folder, "lab/codes", profile, licence="mit", api=hub)
    assert hub.asked == [("lab/codes", {"repo_type": "dataset", "private": True, "exist_ok": True})]
    sent = {path.name for path in (hub.folder / "lab" / "codes").iterdir()}
    shards = {f"shard-{k:05d}-of-00003.parquet" for k in range(3)}
    assert sent == set(names) == {"README.md", "manifest.json", "sha256.json", *shards}
    back = pull("lab/codes", tmp_path / "back", revision="v1", api=hub)
    assert hub.asked[-1] == ("lab/codes", {"repo_type": "dataset", "revision": "v1"})
    assert {path.name for path in back.iterdir()} == sent
    assert open_dataset(back)["codes"] == open_dataset(folder)["codes"]
    assert not list(tmp_path.glob(".*"))


def test_a_pulled_store_is_found_whole(folder, profile, hub, tmp_path, photos40, tiny_teacher, tiny_vqgan, monkeypatch):
    push(folder, "lab/codes", profile, licence="mit", api=hub)
    back = pull("lab/codes", tmp_path / "back", api=hub)
    monkeypatch.setattr("dadlab.generate.SHARD", 16)
    monkeypatch.setattr("dadlab.generate.discretize_adversarially", lambda *args: pytest.fail("worked again"))
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACKS["fashion"], back)
    with pytest.raises(ValueError, match="another attack"):
        generate(photos40, tiny_teacher, tiny_vqgan, ATTACKS["paper"], back)


def test_hugging_face_opens_what_is_uploaded(folder, profile, hub, tmp_path):
    push(folder, "lab/codes", profile, licence="mit", api=hub)
    uploaded = str(hub.folder / "lab" / "codes")
    found = datasets.load_dataset(uploaded, split="train", cache_dir=str(tmp_path / "cache"))
    assert found["codes"] == open_dataset(folder)["codes"]


def test_card(folder, profile):
    text = card(folder, profile, "lab/codes", "cc-by-4.0")
    counts = tally(open_dataset(folder))
    assert DatasetCard(text).data.license == "cc-by-4.0"
    assert f"| acceptance rate | {counts['kept'] / 40:.1%} of 40 |" in text
    assert "| attack | l2, ε = 8.0, 1 steps of 8.0" in text
    assert "| teacher φ | teacher.safetensors (weights " in text
    assert "| discretizer Q | vqgan.safetensors (weights " in text
    assert "| arithmetic | float32 |" in text
    assert "| licence | cc-by-4.0 |" in text
    for reason, count in counts.items():
        assert f"| {reason} | {count:,} | {count / 40:.1%} |" in text
    assert str(Path(profile.teacher).parent) not in text, "a card shows nobody's folders"


def test_card_shows_nobodys_folders(folder, profile):
    """Neither those of paths that a kind or a model's name stands before, nor those that are gone."""
    named = {"data": "imagenet:/home/jane/images", "teacher": "open_clip:ViT-L-14//home/jane/x.pt"}
    text = card(folder, replace(profile, **named, discretizer="/home/jane/q.safetensors"), "lab/codes", "mit")
    assert "jane" not in text
    for shown in ("| photographs | imagenet:images, ", "| open_clip:ViT-L-14/x.pt (", "| q.safetensors ("):
        assert shown in text


def test_card_says_where_precision_was_lower(profile, photos40, tiny_teacher, tiny_vqgan, tmp_path):
    low = Compute("bfloat16", compiled=False)
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACKS["paper"], tmp_path, compute=low)
    assert "| arithmetic | bfloat16 |" in card(tmp_path, profile, "lab/codes", "mit")


def test_dry_run_prints_and_sends_nothing(folder, profile, hub, capsys):
    names = push(folder, "lab/codes", profile, licence="mit", dry_run=True, api=hub)
    said = capsys.readouterr().out
    assert hub.asked == []
    assert "would send 6 files" in said
    assert all(name in said for name in names)
    assert "acceptance rate" in said


def test_unfinished_stores_are_not_pushed(folder, profile, hub):
    next(folder.glob("shard-*")).unlink()
    with pytest.raises(ValueError, match="1 of 3 shards missing"):
        push(folder, "lab/codes", profile, licence="mit", api=hub)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["shard-00001-of-00003.parquet", "manifest.json"])
def test_altered_files_are_named_and_thrown_away(folder, profile, hub, tmp_path, name):
    push(folder, "lab/codes", profile, licence="mit", api=hub)
    altered = hub.folder / "lab" / "codes" / name
    altered.write_bytes(altered.read_bytes() + b" ")
    with pytest.raises(ValueError, match=f"lab/codes: the download: not as it was pushed: {name}"):
        pull("lab/codes", tmp_path / "back", api=hub)
    assert not (tmp_path / "back").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_manifest_that_promises_other_rows(folder, profile, hub):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "samples": 41}))
    push(folder, "lab/codes", profile, licence="mit", api=hub)
    with pytest.raises(ValueError, match="40 rows where the manifest says 41"):
        verify(folder)


def test_lost_shards_and_strangers(folder, profile, hub, tmp_path):
    push(folder, "lab/codes", profile, licence="mit", api=hub)
    (hub.folder / "lab" / "codes" / "shard-00001-of-00003.parquet").unlink()
    with pytest.raises(ValueError, match="lab/codes: the download: 1 of 3 shards missing"):
        pull("lab/codes", tmp_path / "back", api=hub)
    (hub.folder / "lab" / "other").mkdir()
    with pytest.raises(ValueError, match="lab/other: the download: no store here"):
        pull("lab/other", tmp_path / "back", api=hub)


def test_nothing_is_overwritten(folder, hub):
    with pytest.raises(ValueError, match="there already"):
        pull("lab/codes", folder, api=hub)
