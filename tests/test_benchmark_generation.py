import json

import pytest
import torch

from benchmarks import generation
from dadlab.compute import Compute
from dadlab.profile import Attack


@pytest.fixture
def tiny(photos40, tiny_teacher, tiny_vqgan, monkeypatch):
    monkeypatch.setattr("dadlab.generate.TILE", 8)
    setup = (photos40.take(torch.arange(16)), tiny_teacher, tiny_vqgan, Attack(epsilon=4.0, step_size=4.0))
    monkeypatch.setitem(generation.SHAPES, "tiny", lambda samples: setup)


def test_both_ways_make_the_same(tiny, tmp_path, capsys):
    out = tmp_path / "result.json"
    arguments = ["--shapes", "tiny", "--repeats", "2", "--batch", "8", "--device", "cpu", "--out", str(out)]
    assert generation.main([*arguments, "--note", "a test"]) == 0
    found = json.loads(out.read_text())
    assert found["agreement"]["codes"] > 0.999
    assert found["agreement"]["verdicts"] == 1
    assert found["ratio"]["low"] <= found["ratio"]["median"] <= found["ratio"]["high"]
    assert [len(taken) for taken in found["seconds"].values()] == [2, 2]
    for way in ("straightforward", "dadlab"):
        within = found["inside a batch"][way]
        assert within["peak memory, GB"] > 0.1
        assert any("conv" in name for name in within["of the time, %"])
        assert 50 < sum(within["of the time, %"].values()) <= 100.5
    assert found["command"].startswith("python -m benchmarks.generation --shapes tiny")
    assert "times" in capsys.readouterr().out


def test_comparing_with_a_cpu_is_not_timed(tiny, monkeypatch):
    monkeypatch.setattr(generation, "compute_on", lambda device: Compute("bfloat16", compiled=False))
    monkeypatch.setattr("dadlab.generate._agreement", lambda *_: pytest.fail("compared"))
    found = generation.compare("tiny", 16, 1, 8, torch.device("cpu"))
    assert found["precision"] == "bfloat16"
    assert found["agreement"]["codes"] < 1, "towers were not in bfloat16"


def test_the_straightforward_loop_writes_a_picture_of_every_kept_sample(tiny, tmp_path):
    data, teacher, vqgan, attack = generation.SHAPES["tiny"](16)
    codes, kept = generation.Straightforward(data, teacher, vqgan, attack, 8).run(tmp_path)
    assert codes.shape == (16, 256)
    assert {path.name for path in tmp_path.iterdir()} == {f"{row:08d}.png" for row in kept.nonzero()[0]}


def test_its_search_is_ours_done_slowly(tiny, tiny_vqgan, photos40):
    images = photos40.images(torch.arange(4))
    loop = generation.Straightforward(*generation.SHAPES["tiny"](4), 4)
    final, codes = loop.discretize(images)
    assert torch.equal(codes.view(4, 16, 16), tiny_vqgan.encode(images))
    torch.testing.assert_close(final, tiny_vqgan(images), atol=1e-5, rtol=0)
