"""Worker processes: the same bytes whatever their number, and nothing lost when one is killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from dadlab.processes import Processes
from dadlab.profile import Profile, make_profile
from dadlab.store import open_dataset, tally
from dadlab.workers import main, start_workers, watch

_SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def profile(files) -> Profile:
    """Three shards."""
    return make_profile(limit=300, variants=4, teacher=str(files["teacher"]), discretizer=str(files["vqgan"]))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def wait_for(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_an_interrupt_while_watching_ends_them(tmp_path):
    processes = Processes([_SLEEP] * 2, tmp_path / "logs", [{}] * 2)
    timer = threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        watch(processes, tmp_path / "store")
    timer.join()
    assert processes.alive() == 0


def test_a_failure_says_what_the_worker_said(tmp_path):
    processes = Processes([[sys.executable, "-c", "raise SystemExit('no such card')"]], tmp_path / "logs", [{}])
    with pytest.raises(RuntimeError, match=r"start workers again to finish\n.*ended with 1: no such card"):
        watch(processes, tmp_path / "store")


def test_bad_profiles_stop_before_a_process_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.workers.Processes", lambda *args: pytest.fail("started"))
    with pytest.raises(ValueError, match="unknown discretizer 'studo'"):
        start_workers(make_profile(limit=20, discretizer="studo"), tmp_path, 2)


def test_the_command_names_a_bad_setting(tmp_path, capsys):
    arguments = [str(tmp_path / "x.json"), "--runs", str(tmp_path), "--device", "cpu", "--compute", '{"precison": "x"}']
    assert main(arguments) == 1
    assert "did you mean 'precision'?" in capsys.readouterr().err


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory) -> dict[str, bytes]:
    """What one process makes."""
    settings = {"teacher": str(files["teacher"]), "discretizer": str(files["vqgan"])}
    started, folder = start_workers(
        make_profile(limit=300, variants=4, **settings), tmp_path_factory.mktemp("alone"), 1
    )
    watch(started, folder)
    made = contents(folder)
    assert len(made) == 4
    return made


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_makes_the_same_bytes(profile, tmp_path, alone, processes):
    started, folder = start_workers(profile, tmp_path, processes)
    watch(started, folder)
    assert contents(folder) == alone
    assert sum(tally(open_dataset(folder)).values()) == 1200


@pytest.mark.slow
def test_one_of_two_is_killed_and_the_other_does_its_share(profile, tmp_path, alone, capsys):
    started, folder = start_workers(profile, tmp_path, 2)
    wait_for(lambda: len(list(folder.glob(".shard-*.claim"))) >= 2)
    os.kill(started.pids[0], signal.SIGKILL)
    watch(started, folder)
    assert contents(folder) == alone
    assert "worker-000.log: ended with -9" in capsys.readouterr().out


@pytest.mark.slow
def test_all_are_killed_and_a_second_start_with_more_finishes(profile, tmp_path, alone):
    started, folder = start_workers(profile, tmp_path, 2)
    wait_for(lambda: list(folder.glob("shard-*")))
    for pid in started.pids:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="of 3 shards missing; start workers again"):
        watch(started, folder)
    assert 0 < len(list(folder.glob("shard-*"))) < 3
    again, _ = start_workers(profile, tmp_path, 2)
    added, _ = start_workers(profile, tmp_path, 1)
    assert added is again
    assert again.alive() == 3
    again.stop(1)
    watch(again, folder)
    assert again.alive() == 0
    assert contents(folder) == alone
