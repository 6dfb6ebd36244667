"""One, two and four processes (gloo, CPU) do the same work, and a killed one costs nothing but time.

Tolerance: in single precision, losses agree to 1 part in 100,000 and logits to 0.0001 after a dozen steps; 2 in ten
million and 0.000003 were seen.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import psutil
import pytest
import torch

from dadlab.job import start_training, torchrun, training_command
from dadlab.launch import Launch, members
from dadlab.loop import Service
from dadlab.profile import make_profile
from dadlab.run import Run
from dadlab.snapshot import load_snapshot

WORKER = Path(__file__).with_name("distributed_worker.py")
RESTARTED = Path(__file__).with_name("restart_worker.py")
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


@pytest.fixture
def environment(monkeypatch):
    """This process's, as those that it starts shall have it."""
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)


def begin(
    run: Run,
    runs_dir: Path,
    splits: tuple[str, ...] = (),
    processes: int = 2,
    seconds: float = 0.0,
    restarts: int = 0,
    workers: int = 0,
) -> Launch:
    """A run's training on some processes, with a checkpoint so often and so many that read ahead in each."""
    service = Service(checkpoint_seconds=seconds, lines=True, workers=workers)
    how = {"processes": processes, "service": service, "restarts": restarts}
    return start_training(training_command(run, runs_dir, **how, splits=splits))


def until_told(running: Launch, start: str) -> None:
    """Wait for a line."""
    while not any(line.startswith(start) for line in running.lines["torchrun"]):
        assert running.running, running.lines
        time.sleep(0.05)


def second_of(running: Launch) -> psutil.Process:
    """The second process of a launch."""
    (second,) = [process for process in members(running.mark) if process.environ().get("LOCAL_RANK") == "1"]
    return second


def weights(run: Run, runs_dir: Path) -> bytes:
    return (run.folder(runs_dir) / "student.safetensors").read_bytes()


LONG = Run(make_profile(limit=160, epochs=6, batch=8, views=2), "plain")  # 120 steps


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> bytes:
    """Weights of `LONG`, trained by two processes that nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENV.items():
            patch.setenv(name, value)
        begin(LONG, folder).wait(300)
    return weights(LONG, folder)


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_a_killed_worker_costs_nothing_but_time(tmp_path, calm):
    """SIGKILL of one of two processes in mid-training ends both; started again, they finish the run."""
    struck = begin(LONG, tmp_path / "struck")
    checkpoint = LONG.folder(tmp_path / "struck") / "training.safetensors"
    while not checkpoint.is_file():
        assert struck.running, struck.lines
        time.sleep(0.05)
    second_of(struck).kill()
    with pytest.raises(RuntimeError, match="torchrun failed"):
        struck.wait(200)
    assert not members(struck.mark)
    assert 0 < load_snapshot(checkpoint)["progress"]["steps"] < 120
    again = begin(LONG, tmp_path / "struck", ("val",))
    again.wait(300)
    assert weights(LONG, tmp_path / "struck") == calm
    assert any(line.startswith("val: top-1") for line in again.lines["torchrun"])


def test_processes_started_again_do_not_look_for_the_dead():
    """With a store that outlives its processes, the second attempt's first would dial the first attempt's second."""
    launch = Launch({"torchrun": [*torchrun(processes=2, restarts=1), str(RESTARTED)]}, env=ENV)
    launch.wait(200)
    assert {"rank 0 met 2", "rank 1 met 2"} <= {*launch.lines["torchrun"]}


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_a_launch_recovers_by_itself_from_a_killed_worker(files, tmp_path):
    """SIGKILL of one of two processes in mid-training: `torchrun` starts both again, which go on from store, cache and
    checkpoint."""
    materials = {"teacher": str(files["teacher"]), "discretizer": str(files["vqgan"]), "variants": 1}
    run = Run(make_profile(limit=80, epochs=4, batch=8, views=2, **materials), "dad")
    struck = begin(run, tmp_path / "struck", restarts=1)
    checkpoint = run.folder(tmp_path / "struck") / "training.safetensors"
    while not checkpoint.is_file():
        assert struck.running, struck.lines
        time.sleep(0.05)
    second_of(struck).kill()
    struck.wait(300)
    assert any("failed (exitcode: " in line for line in struck.lines["torchrun"]), "nothing was struck"
    begin(run, tmp_path / "calm").wait(300)
    assert weights(run, tmp_path / "calm") == weights(run, tmp_path / "struck")


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_processes_agree_on_their_last_step(tmp_path, calm):
    """SIGTERM to the second alone ends both after the same step, which the first saves: no checkpoint is due."""
    stopped = begin(LONG, tmp_path / "stopped", seconds=1e9)
    until_told(stopped, "epoch 1/6")
    second_of(stopped).terminate()
    with pytest.raises(RuntimeError, match="torchrun failed"):
        stopped.wait(200)
    assert 20 <= load_snapshot(LONG.folder(tmp_path / "stopped") / "training.safetensors")["progress"]["steps"] < 120
    begin(LONG, tmp_path / "stopped", seconds=1e9).wait(300)
    assert weights(LONG, tmp_path / "stopped") == calm


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("workers", [0, 2])
def test_an_ended_launch_is_finished_by_another(tmp_path, workers):
    """The handle ends every process; a launch of another size goes on at the last step.

    torchrun signals whole process groups, those that read ahead too: these must outlive the last step.
    """
    running = begin(LONG, tmp_path, seconds=120.0, workers=workers)
    until_told(running, "epoch 2/6")
    running.stop()
    assert not members(running.mark)
    assert load_snapshot(LONG.folder(tmp_path) / "training.safetensors")["progress"]["steps"] >= 40
    again = begin(LONG, tmp_path, processes=0)
    again.wait(300)
    assert not any(line.startswith("epoch 1/6") for line in again.lines["torchrun"])
    assert (LONG.folder(tmp_path) / "student.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_two_nodes_give_the_same_result_as_two_processes(tmp_path):
    """Two agents that meet at a port, as on two nodes of SLURM, each with one process."""
    run = Run(make_profile(limit=40, epochs=2, batch=8, views=2), "plain")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = training_command(run, tmp_path / "nodes", processes=1, nodes=2, rendezvous=place, splits=["val"])
    Launch({"node 0": command, "node 1": command}).wait(300)
    begin(run, tmp_path / "node", ("val",)).wait(300)
    assert weights(run, tmp_path / "nodes") == weights(run, tmp_path / "node")
    tested = [run.folder(tmp_path / name) / "correct" / "val.npy" for name in ("nodes", "node")]
    assert tested[0].read_bytes() == tested[1].read_bytes()
