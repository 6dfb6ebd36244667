import dataclasses
import json
import multiprocessing
import random
import re
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from dadlab import generate as module
from dadlab.compute import Compute
from dadlab.dataset import Dataset
from dadlab.discretizer import FrozenVQGAN, Identity
from dadlab.examples import discretize_adversarially, sample_generators
from dadlab.generate import generate
from dadlab.profile import Attack
from dadlab.store import AGREEMENT, open_dataset, tally
from dadlab.students import Student
from dadlab.teacher import StudentTeacher

ATTACK = Attack(epsilon=4.0, step_size=4.0, start=0.5)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "TILE", 8)
    monkeypatch.setattr(module, "SHARD", 16)


F8_VQGAN = {
    "ddconfig": {
        "double_z": False,
        "z_channels": 4,
        "resolution": 224,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 0,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    "n_embed": 16384,
    "embed_dim": 4,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def reference(photos40, tiny_teacher, tiny_vqgan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILE", 8)
        patch.setattr(module, "SHARD", 16)
        generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, folder, variants=2)
    return contents(folder)


def test_every_sample_once_with_a_reason(photos40, tiny_teacher, tiny_vqgan, tmp_path):
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path, variants=2)
    rows = open_dataset(tmp_path)
    assert sorted(zip(rows["index"], rows["variant"], strict=True)) == [(i, v) for i in range(40) for v in range(2)]
    assert sum(tally(rows).values()) == 80
    assert all(
        (reason == "kept") == accepted for reason, accepted in zip(rows["reason"], rows["accepted"], strict=True)
    )


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batch_size_does_not_change_a_byte(photos40, tiny_teacher, tiny_vqgan, tmp_path, reference, batch):
    compute = Compute("float32", compiled=False, batch=batch)
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path, variants=2, compute=compute)
    assert contents(tmp_path) == reference


def test_shards_may_be_there_already_in_any_order(photos40, tiny_teacher, tiny_vqgan, tmp_path, reference):
    for name in ("manifest.json", "shard-00003-of-00005.parquet", "shard-00001-of-00005.parquet"):
        (tmp_path / name).write_bytes(reference[name])
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path, variants=2)
    assert contents(tmp_path) == reference


def test_bfloat16_towers_agree_with_float32(photos40, tiny_teacher, tiny_vqgan, tmp_path, reference, capsys):
    compute = Compute("bfloat16", compiled=False)
    store = generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path, variants=2, compute=compute)
    assert pq.read_schema(store.path(0)).metadata == {b"precision": b"bfloat16"}
    (tmp_path / "float32").mkdir()
    for name, content in reference.items():
        (tmp_path / "float32" / name).write_bytes(content)
    low, full = open_dataset(tmp_path), open_dataset(tmp_path / "float32")
    same = torch.tensor(low["codes"]) == torch.tensor(full["codes"])
    assert same.double().mean() > 0.9  # after two discretizations and the attack between them
    agree = [a == b for a, b in zip(low["accepted"], full["accepted"], strict=True)]
    assert sum(agree) >= 0.8 * len(agree)  # an untrained teacher, unsure of everything
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("agreement")]
    assert "first 8 samples" in said
    share = float(re.search(r"codes (\d+\.\d+)%", said)[1])
    assert share == pytest.approx(100 * same[:8].double().mean().item(), abs=2)  # tiles of other sizes round otherwise
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path, variants=2, compute=compute)
    assert "agreement" not in capsys.readouterr().out
    assert (tmp_path / AGREEMENT).read_text() == f"{said}\n"


def test_one_of_several_workers_goes_through_a_cpu_while_the_others_generate(
    photos40, tiny_teacher, tiny_vqgan, tmp_path, monkeypatch, capsys
):
    """Nor does who goes on with a store of which it was said."""
    passes = []
    given = (photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path)
    compute = Compute("bfloat16", compiled=False)

    def agreement(*_):
        passes.append("first")
        generate(*given, compute=compute)  # another worker, meanwhile
        assert len(list(tmp_path.glob("shard-*"))) == 3
        return "agreement with float32: all"

    monkeypatch.setattr(module, "_agreement", agreement)
    generate(*given, compute=compute)
    for shard in tmp_path.glob("shard-*"):
        shard.unlink()
    generate(*given, compute=compute)
    assert passes == ["first"]
    assert capsys.readouterr().out == "agreement with float32: all\n"


@pytest.mark.parametrize(("worth", "compiled"), [(48, True), (49, False)])
def test_towers_are_compiled_where_it_pays(photos40, tiny_teacher, tiny_vqgan, tmp_path, monkeypatch, worth, compiled):
    """40 samples are 3 shards of 16, the last one short."""
    calls = []
    monkeypatch.setattr(module, "WORTH_COMPILING", worth)
    monkeypatch.setattr(module, "compile_towers", lambda *towers: calls.append(towers))
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path, compute=Compute("bfloat16"))
    assert bool(calls) == compiled


def test_no_pass_on_a_cpu_where_a_gpu_computes_in_float32(photos40, tiny_teacher, tiny_vqgan, tmp_path, monkeypatch):
    """As for models that have their towers already: the reference would be these, and a large one takes minutes."""

    class OnGPU(module._Job):
        device = torch.device("cuda")

    monkeypatch.setattr(module, "_agreement", lambda *_: pytest.fail("went through a CPU"))
    job = OnGPU(photos40, tiny_teacher, tiny_vqgan, ATTACK, variants=1, seed=0)
    _, tile = module._prepared(job, Compute("float32", compiled=False, batch=16), tmp_path / AGREEMENT)
    assert tile == 16


@pytest.mark.parametrize(("batch", "tile", "wanted"), [(0, 32, [256, 128, 64, 32]), (48, 48, [])])
def test_a_gpu_is_given_the_largest_batch_that_fits_unless_told(
    photos40, tiny_teacher, tiny_vqgan, tmp_path, batch, tile, wanted
):
    tried = []

    class OnGPU(module._Job):
        device = torch.device("cuda")

        def columns(self, rows, tile):
            tried.append(tile)
            if tile > 40:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    job = OnGPU(photos40, tiny_teacher, tiny_vqgan, ATTACK, variants=1, seed=0)
    compute = Compute("float32", compiled=False, batch=batch)
    assert module._prepared(job, compute, tmp_path / AGREEMENT)[1] == tile
    assert tried == wanted


def test_a_row_of_an_image_at_224_takes_5_kilobytes_1_6_of_them_codes(tmp_path, monkeypatch):
    """f = 8, K = 16384: 28 × 28 codes of two bytes are 1,568 bytes; logits of 1,000 classes 4,000, both before zstd."""
    monkeypatch.setattr(module, "TILE", 2)
    vqgan = FrozenVQGAN(**F8_VQGAN).freeze()
    pixels = torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    photographs = Dataset("noise", tuple(f"class {k}" for k in range(1000)), pixels, torch.arange(4))
    attack = Attack(epsilon=0.1, step_size=0.1)
    store = generate(photographs, StudentTeacher(Student("resnet_s", 1000)), vqgan, attack, tmp_path)
    rows = open_dataset(tmp_path)
    assert (len(rows[0]["codes"]), len(rows[0]["logits"])) == (784, 1000)
    weighed = pq.ParquetFile(store.path(0)).metadata.row_group(0)
    names = [name.split(".")[0] for name in _leaves(store.path(0))]
    size = {name: weighed.column(k).total_compressed_size / len(rows) for k, name in enumerate(names)}
    assert size["codes"] < 1_700
    assert size["logits"] < 4_100
    assert sum(size.values()) < 6_000


def test_two_threads_make_the_same_bytes(photos40, tiny_teacher, tiny_vqgan, tmp_path, reference):
    torch.set_num_threads(2)
    try:
        generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path, variants=2)
    finally:
        torch.set_num_threads(1)
    assert contents(tmp_path) == reference


def test_another_seed_starts_elsewhere_and_is_refused(photos40, tiny_teacher, tiny_vqgan, tmp_path):
    some, attack = photos40.take(torch.arange(8)), Attack(epsilon=16.0, steps=0, start=1.0)
    stores = [
        generate(some, tiny_teacher, tiny_vqgan, attack, tmp_path / str(seed), seed=seed).path(0) for seed in (0, 1)
    ]
    one, other = (pq.read_table(path, columns=["distance"]).to_pydict() for path in stores)
    assert one != other
    with pytest.raises(ValueError, match="store was made with another seed"):
        generate(some, tiny_teacher, tiny_vqgan, attack, tmp_path / "0", seed=1)


def test_a_finished_store_is_not_made_again(photos40, tiny_teacher, tiny_vqgan, tmp_path, monkeypatch):
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path)
    monkeypatch.setattr(module, "discretize_adversarially", lambda *args: pytest.fail("worked again"))
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path)


def test_another_attack_is_refused(photos40, tiny_teacher, tiny_vqgan, tmp_path):
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path)
    with pytest.raises(ValueError, match="another attack"):
        generate(photos40, tiny_teacher, tiny_vqgan, Attack(), tmp_path)


def test_what_an_earlier_attack_made_is_not_taken_for_todays(photos40, tiny_teacher, tiny_vqgan, tmp_path):
    """Manifests from before attacked images were clipped after every step had the attack's settings alone."""
    generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "attack": dataclasses.asdict(ATTACK)}))
    with pytest.raises(ValueError, match="another attack"):
        generate(photos40, tiny_teacher, tiny_vqgan, ATTACK, tmp_path)


def test_stages_and_verdicts(photos40, tiny_teacher, tiny_vqgan):
    rows = torch.arange(20)
    made = discretize_adversarially(
        photos40.images(rows), photos40.labels[:20], tiny_teacher, tiny_vqgan, ATTACK, sample_generators(rows, 0)
    )
    assert torch.equal(made.reconstructed, tiny_vqgan(made.clean))
    assert torch.equal(made.images, tiny_vqgan(made.perturbed))
    assert torch.equal(made.accepted, made.logits.argmax(1) == photos40.labels[:20])


def test_pixel_space_keeps_pixels(photos40, tiny_teacher, tmp_path):
    generate(photos40, tiny_teacher, Identity(), ATTACK, tmp_path)
    rows = open_dataset(tmp_path)
    assert len(rows[0]["pixels"]) == 3 * 32 * 32
    assert rows[0]["codes"] is None


def _leaves(path: Path) -> list[str]:
    schema = pq.ParquetFile(path).schema
    return [schema.column(k).path for k in range(len(schema))]


@pytest.mark.timeout(600)
def test_killed_ten_times_nothing_is_lost_or_repeated(photos40, tiny_teacher, tiny_vqgan, tmp_path):
    """SIGKILL at ten random moments; the restarted run must end with an undisturbed run's bytes."""
    disturbed, calm = tmp_path / "disturbed", tmp_path / "calm"
    forked = multiprocessing.get_context("fork")

    def start(folder: Path) -> BaseProcess:
        given = (photos40, tiny_teacher, tiny_vqgan, ATTACK, folder)
        process = forked.Process(target=generate, args=given, kwargs={"variants": 12})
        process.start()
        return process

    def ended(process: BaseProcess) -> int | None:
        process.join()
        return process.exitcode

    assert ended(start(calm)) == 0
    rng, killed = random.Random(0), 0
    while killed < 10:
        process = start(disturbed)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        killed += ended(process) == -signal.SIGKILL
        if process.exitcode == 0:
            break
    assert killed == 10, "generation ended before ten kills: make it longer"
    assert ended(start(disturbed)) == 0
    assert contents(disturbed) == contents(calm)
    rows = open_dataset(disturbed)
    assert len({*zip(rows["index"], rows["variant"], strict=True)}) == len(rows) == 480
