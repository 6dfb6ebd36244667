"""A job's command says everything, and what is wrong with it is said before anything is trained."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dadlab import job
from dadlab.job import main, torchrun, training_command
from dadlab.loop import Service
from dadlab.profile import make_profile
from dadlab.run import Run, read_run

RUN = Run(make_profile(limit=40, epochs=1), "plain")


@pytest.fixture
def trained(monkeypatch) -> list[tuple]:
    """What was asked of training and of measuring, which do nothing."""
    asked: list[tuple] = []
    monkeypatch.setattr(job, "train", lambda *given: asked.append(given))
    monkeypatch.setattr(job, "measure", lambda *given: asked.append(given) or {"val": np.array([True, False])})
    return asked


def test_a_bad_split_is_named_before_a_process_starts(tmp_path):
    with pytest.raises(ValueError, match=r"unknown split 'scetch'.*choose one of"):
        training_command(RUN, tmp_path, splits=["val", "scetch"])
    assert not list(tmp_path.iterdir())


def test_a_bad_split_is_named_before_training(tmp_path, trained, capsys):
    training_command(RUN, tmp_path)
    given = [str(RUN.folder(tmp_path) / "run.json"), "--runs-dir", str(tmp_path)]
    assert main([*given, "--splits", "val", "scetch"]) == 1
    assert "dadlab.job: fashion: unknown split 'scetch'" in capsys.readouterr().err
    assert not trained


def test_a_command_carries_everything_to_the_job(tmp_path, trained, capsys):
    service = Service("wandb", workers=3, checkpoint_seconds=7.5, lines=False)
    meeting = {"processes": 1, "nodes": 2, "rendezvous": "node0:29500"}
    command = training_command(RUN, tmp_path, **meeting, service=service, splits=["val"])
    start = torchrun(**meeting)
    assert command[: len(start)] == start
    assert command[len(start) :][:3] == ["-m", "dadlab.job", str(RUN.folder(tmp_path) / "run.json")]
    assert read_run(Path(command[len(start) + 2])) == RUN
    assert main(command[len(start) + 2 :]) == 0
    assert trained == [(RUN, tmp_path, service), (RUN, tmp_path, ["val"])]
    assert "val: top-1 50.00 % of 2" in capsys.readouterr().out


def test_a_job_is_tracked_and_tells_of_its_epochs_unless_told(tmp_path, trained):
    command = training_command(RUN, tmp_path)
    assert main(command[command.index("dadlab.job") + 1 :][:3]) == 0  # without any option of service
    assert main(command[command.index("dadlab.job") + 1 :]) == 0
    assert [service for *_, service in trained[::2]] == 2 * [Service(tracker="auto", lines=True)]


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
    assert command[2:5] == [sys.executable, "-m", "torch.distributed.run"]
    given = dict(zip(command[5::2], command[6::2], strict=True))
    assert given == {
        "--nproc-per-node": "8",
        "--nnodes": "4",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": "node0:29500",
        "--rdzv-id": "j1",
        "--max-restarts": "2",
    }
