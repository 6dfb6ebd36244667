"""One, two and four processes (gloo, CPU) do the same work, and a killed one costs nothing but time.

Tolerance: in single precision, losses agree to 1 part in 100,000 and logits to 0.0001 after a dozen steps; 2 in ten
million and 0.000003 were seen.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from dadlab.job import start_training, torchrun
from dadlab.launch import Launch, members
from dadlab.loop import Service
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.snapshot import load_snapshot

WORKER = Path(__file__).with_name("distributed_worker.py")
ENV = {
    "ACCELERATE_USE_CPU": "1",
    "ACCELERATE_MIXED_PRECISION": "no",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(WORKER.parents[1]),
}


def runs(files) -> list[dict]:
    """Batch and layer normalization; a batch of 10 that 4 processes × 2 parts cannot share evenly; Mixup, averaging."""
    shared = {"limit": 40, "epochs": 3, "views": 2, "lr": 2e-3}
    shared |= {"teacher": str(files["teacher"]), "discretizer": str(files["vqgan"])}
    every = {"batch": 8, "accumulate": 2, "ema": 0.5, "augreg": "light2", "top_logits": 4}
    return [
        {"profile": {**shared, "batch": 10}, "method": "dad", "student": "resnet_s"},
        {"profile": {**shared, **every}, "method": "kd_two_views", "student": "vit_s"},
    ]


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_result(files, tmp_path):
    found = {}
    for processes in (1, 2, 4):
        found[processes] = together(processes, runs(files), tmp_path)
        assert len(found[processes]) == processes
    for processes in (2, 4):
        for rank in found[processes]:
            for one, several in zip(found[1][0]["runs"], rank["runs"], strict=True):
                assert several["loss"] == pytest.approx(one["loss"], rel=1e-5)
                torch.testing.assert_close(
                    torch.tensor(several["logits"]), torch.tensor(one["logits"]), rtol=0, atol=1e-4
                )
            assert rank == found[processes][0], "all processes hold the same answer"
            assert rank["right"] == found[1][0]["right"], "37 samples, each tested once"


@pytest.mark.slow
def test_two_processes_attack_their_student_as_one_does(files, tmp_path):
    """Looser: an attack follows the sign of gradients, and that of almost none depends on rounding."""
    shared = {**runs(files)[0]["profile"], "epochs": 1}
    methods = ("at", "advprop", "fast_advprop", "pyramid_at", "dat", "dat_dad")
    settings = [{"profile": shared, "method": method, "student": "resnet_s"} for method in methods]
    found = {processes: together(processes, settings, tmp_path) for processes in (1, 2)}
    for method, one, several in zip(methods, *(found[processes][0]["runs"] for processes in (1, 2)), strict=True):
        assert several["loss"] == pytest.approx(one["loss"], rel=1e-3), method
    assert found[2][0] == found[2][1], "both processes hold the same answer"


def together(processes: int, settings: list[dict], folder: Path) -> list[dict]:
    """What each of some processes found when they did these runs together."""
    folder = folder / str(processes)
    folder.mkdir()
    (folder / "runs.json").write_text(json.dumps(settings))
    command = [*torchrun(processes=processes), str(WORKER), str(folder / "runs.json"), str(folder)]
    Launch({"torchrun": command}, env=ENV).wait(400)
    return [json.loads(path.read_text()) for path in sorted(folder.glob("found-*.json"))]


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(tmp_path, monkeypatch):
    """SIGKILL of one of two processes in mid-training ends both; started again, they finish the run."""
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    run = Run(make_profile(limit=160, epochs=4, batch=8, views=2), "plain")
    often = {"processes": 2, "service": Service(checkpoint_seconds=0, lines=True)}
    struck = start_training(run, tmp_path / "struck", **often)
    checkpoint = run.folder(tmp_path / "struck") / "training.safetensors"
    while not checkpoint.is_file():
        assert struck.running, struck.lines
        time.sleep(0.05)
    (victim,) = [p for p in members(struck.mark) if p.environ().get("LOCAL_RANK") == "1"]
    victim.send_signal(signal.SIGKILL)
    with pytest.raises(RuntimeError, match="torchrun failed"):
        struck.wait(200)
    assert not members(struck.mark)
    assert 0 < load_snapshot(checkpoint)["progress"]["steps"] < 80
    again = start_training(run, tmp_path / "struck", **often, splits=["val"])
    again.wait(300)
    start_training(run, tmp_path / "calm", **often).wait(300)
    weights = [(run.folder(tmp_path / name) / "student.safetensors").read_bytes() for name in ("calm", "struck")]
    assert weights[0] == weights[1]
    assert any(line.startswith("val: top-1") for line in again.lines["torchrun"])


@pytest.mark.slow
def test_an_ended_launch_is_finished_by_another(tmp_path, monkeypatch):
    """The handle ends every process; a launch of another size goes on at the last step."""
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    run = Run(make_profile(limit=160, epochs=6, batch=8, views=2), "plain")
    running = start_training(run, tmp_path, processes=2, service=Service(lines=True))
    while not any(line.startswith("epoch 2/6") for line in running.lines["torchrun"]):
        assert running.running, running.lines
        time.sleep(0.05)
    running.stop()
    assert not members(running.mark)
    assert load_snapshot(run.folder(tmp_path) / "training.safetensors")["progress"]["steps"] >= 40
    again = start_training(run, tmp_path, service=Service(lines=True))
    again.wait(300)
    assert not any(line.startswith("epoch 1/6") for line in again.lines["torchrun"])
    assert (run.folder(tmp_path) / "student.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"processes": -1}, "-1 processes"),
        ({"nodes": 0}, "0 nodes"),
        ({"nodes": 2}, "give the rendezvous as host:port"),
    ],
)
def test_bad_launches_are_named(options, names):
    with pytest.raises(ValueError, match=names):
        torchrun(**options)


def test_command_of_several_nodes_is_the_same_on_all():
    command = torchrun(processes=8, nodes=4, rendezvous="node0:29500", name="j1", restarts=2)
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    given = dict(zip(command[3::2], command[4::2], strict=True))
    assert given == {
        "--nproc-per-node": "8",
        "--nnodes": "4",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "node0:29500",
        "--rdzv-id": "j1",
        "--max-restarts": "2",
    }
