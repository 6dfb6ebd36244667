import json

from benchmarks import image_reading


def test_a_core_and_two_processes_read_every_kind_of_image(tmp_path, monkeypatch):
    monkeypatch.setattr(image_reading, "BATCH", 8)
    for workers in (0, 2):
        out = tmp_path / f"{workers}.json"
        assert image_reading.main(["--images", "16", "--workers", str(workers), "--out", str(out)]) == 0
        found = json.loads(out.read_text())
        speeds = found["images a second"]
        assert list(speeds) == [
            "photographs",
            "photographs with AugReg strong2",
            "stored samples",
            "stored samples with AugReg strong2",
        ]
        assert all(speed > 1 for speed in speeds.values())
        assert found["workers"] == workers
    photograph, sample = found["bytes an image"].values()
    assert 50_000 < photograph < 200_000
    assert 20_000 < sample < 3 * 224 * 224  # less than its pixels


def test_partners_in_a_mixture_are_read_together(tmp_path, monkeypatch):
    """Else each image would be decoded for its partner as well."""
    seen = []

    class Watched:
        def __len__(self):
            return 64

        def images(self, index, view):
            seen.append({*index.tolist()})
            return index

    monkeypatch.setattr(image_reading, "BATCH", 16)
    image_reading.images_a_second(Watched(), 0)
    pairs = {frozenset(pair) for pair in image_reading.pairing(64, 0).tolist()}
    assert all(pair <= batch or not pair & batch for pair in pairs for batch in seen)
