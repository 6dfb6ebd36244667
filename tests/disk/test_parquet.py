import io
import shutil
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from published_imagenet import picture
from torch.utils.data import DataLoader

from dadlab.data import identity, load_split, split_names
from dadlab.disk import parquet
from dadlab.disk.check import check

FEATURES = datasets.Features(
    {"image": datasets.Image(), "label": datasets.ClassLabel(names=["owl", "garden gnome", "fox"])}
)
COUNT = {"train": 30, "validation": 9}


def jpeg(label: int) -> bytes:
    out = io.BytesIO()
    picture(label, (96, 80)).save(out, "jpeg", quality=95)
    return out.getvalue()


def write_parquet(path: Path, labels: list[int], features: datasets.Features | None = FEATURES, group: int = 4) -> None:
    """Rows as the hub stores them: an image's bytes and path, and a label; image k shows its label's grey."""
    images = [{"bytes": jpeg(label), "path": f"{row}.jpg"} for row, label in enumerate(labels)]
    table = pa.table({"image": images, "label": pa.array(labels, pa.int64())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.cast(features.arrow_schema) if features else table, path, row_group_size=group)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    labels = [k % 3 for k in range(30)]
    write_parquet(root / "table" / "data" / "train-00000-of-00002.parquet", labels[:17])
    write_parquet(root / "table" / "data" / "train-00001-of-00002.parquet", labels[17:])
    write_parquet(root / "table" / "data" / "validation-00000-of-00001.parquet", labels[:9])
    return root


@pytest.fixture(autouse=True)
def offline(shared, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", shared / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture(params=["hf", "hf-stream"])
def table(request, shared) -> str:
    return f"{request.param}:{shared / 'table'}"


def shown(image: torch.Tensor) -> int:
    side = image.shape[-1] // 2
    return round(float(image[:, side - 4 : side + 4, side - 4 : side + 4].mean()) * 255 / 25)


@pytest.mark.parametrize("split", COUNT)
def test_rows_in_any_order(table, split):
    dataset = load_split(table, split, image_size=64)
    index = torch.randperm(COUNT[split], generator=torch.Generator().manual_seed(0))
    assert dataset.classes == ("owl", "garden gnome", "fox")
    assert dataset.labels.tolist() == [k % 3 for k in range(COUNT[split])]
    assert [shown(image) for image in dataset.images(index)] == [int(k) % 3 for k in index]


def test_both_ways_give_the_same_images_and_identity(shared):
    one, other = (load_split(f"{kind}:{shared / 'table'}", "train", image_size=64) for kind in ("hf", "hf-stream"))
    index = torch.tensor([29, 0, 16, 17])
    for view in (-1, 0, 3):
        assert torch.equal(one.images(index, view), other.images(index, view))
    assert one.fingerprint == other.fingerprint
    assert identity(f"hf:{shared / 'table'}", "train") == identity(f"hf-stream:{shared / 'table'}", "train")


def test_streaming_reads_every_row_group_once(shared, monkeypatch):
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, g, **kw: read.append(g) or original(self, g, **kw)
    )
    dataset = parquet.open_split(str(shared / "table"), "train", 64, stream=True)
    for rows in torch.arange(30).split(7):
        dataset.images(rows)
    assert sorted(read) == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_streaming_holds_few_row_groups(shared, monkeypatch):
    monkeypatch.setattr(parquet, "KEPT_GROUPS", 2)
    source = parquet.open_split(str(shared / "table"), "train", 64, stream=True).pixels.source
    for row in range(30):
        source.open(row)
    assert source._read.cache_info().currsize == 2


def test_worker_processes_read_side_by_side(table):
    dataset = load_split(table, "train", image_size=64)
    dataset.images(torch.arange(30))
    parts = list(torch.arange(30).split(3))
    loader = DataLoader(_Parts(dataset, parts), batch_size=None, num_workers=2)
    assert torch.equal(torch.cat(list(loader)), dataset.images(torch.arange(30)))


class _Parts:
    def __init__(self, dataset, parts):
        self.dataset, self.parts = dataset, parts

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, position):
        return self.dataset.images(self.parts[position])


def test_small_images_are_held(table):
    assert load_split(table, "validation").pixels.shape == (9, 3, 32, 32)
    assert isinstance(load_split(table, "validation").pixels, torch.Tensor)


def test_splits(table):
    assert split_names(table) == ["train", "validation"]
    with pytest.raises(ValueError, match="no split 'test': it has train, validation"):
        load_split(table, "test")


def test_fingerprint_follows_the_files(tmp_path):
    path = tmp_path / "train.parquet"
    write_parquet(path, [0, 1, 2])
    before = parquet.open_split(str(tmp_path), "train", 64, stream=True).fingerprint
    for name in ("copy", "other"):
        (tmp_path / name).mkdir()
    shutil.copyfile(path, tmp_path / "copy" / path.name)  # its time is not kept
    assert parquet.open_split(str(tmp_path / "copy"), "train", 64, stream=True).fingerprint == before
    write_parquet(tmp_path / "other" / path.name, [0, 2, 1])
    assert parquet.open_split(str(tmp_path / "other"), "train", 64, stream=True).fingerprint != before


def test_a_file_rewritten_at_its_size_is_another(tmp_path):
    path, stamps = tmp_path / "train.parquet", []
    for end in (b"one", b"two"):
        path.write_bytes(bytes(100) + end)
        stamps.append(parquet._stamp(str(path)))
    assert stamps[0] != stamps[1]


@pytest.mark.parametrize("stream", [False, True])
def test_columns_without_description_go_by_their_names(tmp_path, stream):
    write_parquet(tmp_path / "train.parquet", [2, 0, 1, 2], None)
    dataset = parquet.open_split(str(tmp_path), "train", 64, stream=stream)
    assert dataset.classes == ("0", "1", "2")
    assert [shown(image) for image in dataset.images(torch.arange(4))] == [2, 0, 1, 2]


@pytest.mark.parametrize("stream", [False, True])
def test_other_columns_are_named(tmp_path, stream):
    pq.write_table(pa.table({"picture": [b"x"], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="wants one image and one label column, has picture, label"):
        parquet.open_split(str(tmp_path), "train", 64, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_samples_without_label_are_counted(tmp_path, stream):
    write_parquet(tmp_path / "test.parquet", [-1, -1, 0])
    with pytest.raises(ValueError, match="2 of 3 samples without label"):
        parquet.open_split(str(tmp_path), "test", 64, stream=stream)


@pytest.mark.parametrize(("labels", "there"), [([-1] * 9, False), ([-1] * 8 + [0], True)])
def test_a_split_whose_labels_are_withheld_is_none_to_test_on(tmp_path, labels, there):
    """As `test` of ImageNet on the hub; of one that has some labels the others are an error."""
    write_parquet(tmp_path / "train.parquet", [0, 1, 2])
    write_parquet(tmp_path / "test.parquet", labels)
    assert ("test" in parquet.split_names(str(tmp_path))) == there
    with pytest.raises(ValueError, match="of 9 samples without label"):
        parquet.open_split(str(tmp_path), "test", 64, stream=True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["owl", "fox", "garden gnome"], "label 1 is 'fox', 'garden gnome' in train: classes must have the same order"),
        (["owl", "garden gnome", "fox", "troll"], "4 class names, 3 in train"),
    ],
)
def test_classes_are_the_training_splits(tmp_path, stream, names, said):
    other = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    write_parquet(tmp_path / "train.parquet", [0, 1, 2])
    write_parquet(tmp_path / "test.parquet", [0, 1], other)
    with pytest.raises(ValueError, match=rf"^{tmp_path} test: {said}"):
        parquet.open_split(str(tmp_path), "test", 64, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_labels_without_class_are_refused(tmp_path, stream):
    write_parquet(tmp_path / "train.parquet", [0, 5, 1])
    with pytest.raises(ValueError, match=rf"^{tmp_path} train: ") as caught:
        parquet.open_split(str(tmp_path), "train", 64, stream=stream)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_plain_numbers_are_the_training_splits_classes(tmp_path, stream):
    write_parquet(tmp_path / "train.parquet", [0, 1, 2], None)
    write_parquet(tmp_path / "test.parquet", [0, 1], None)
    write_parquet(tmp_path / "validation.parquet", [0, 3], None)
    assert parquet.open_split(str(tmp_path), "test", 64, stream=stream).classes == ("0", "1", "2")
    with pytest.raises(ValueError, match="validation: 1 of 2 labels, up to 3, for 3 classes"):
        parquet.open_split(str(tmp_path), "validation", 64, stream=stream)


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}: neither a folder of Parquet files nor a dataset on the hub"):
        load_split(f"hf:{tmp_path}", "train")


def test_other_files_cannot_be_streamed(tmp_path):
    (tmp_path / "train.csv").write_text("image,label\na.jpg,0\n")
    with pytest.raises(ValueError, match=r"train\.csv: only Parquet files can be streamed"):
        load_split(f"hf-stream:{tmp_path}", "train")


def test_broken_image_is_named_by_its_row(tmp_path):
    write_parquet(tmp_path / "train.parquet", [0, 1])
    table = pq.read_table(tmp_path / "train.parquet")
    images = [table["image"][0].as_py(), {"bytes": b"no picture", "path": None}]
    broken = pa.table({"image": images, "label": [0, 1]}).cast(table.schema)
    pq.write_table(broken, tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=rf"train: 1 unreadable image\(s\), first {tmp_path} train row 1: "):
        check(f"hf-stream:{tmp_path}")
