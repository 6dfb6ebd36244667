"""Worker processes: the same bytes whatever their number, and nothing lost when one is killed."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from dadlab import workers as module
from dadlab.compute import Compute
from dadlab.files import write_json
from dadlab.launch import members
from dadlab.profile import Profile, make_profile
from dadlab.store import AGREEMENT, open_dataset, tally
from dadlab.workers import Workers, describe_store, main, start_workers, watch, worker_command

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


@pytest.fixture
def workers():
    """None yet; none is left."""
    made = Workers()
    yield made
    made.stop()


def kill(launch) -> None:
    for process in members(launch.mark):
        process.kill()


def test_starting_adds_and_stopping_ends_the_last_or_all(workers):
    workers.start([_SLEEP] * 2)
    workers.start([_SLEEP])
    marks = [launch.mark for launch in workers.launches]
    assert workers.alive() == 3
    workers.stop(1)
    assert [len(members(mark)) for mark in marks] == [1, 1, 0]
    workers.start([_SLEEP])
    assert workers.alive() == 3
    workers.stop()
    assert workers.alive() == 0
    assert not any(members(mark) for mark in marks)


def test_stopped_workers_have_not_failed(workers):
    workers.start([_SLEEP] * 2)
    stopped, left = workers.launches[1], workers.launches[0]
    workers.stop(1)
    assert stopped.codes == {"worker 1": -signal.SIGTERM}
    assert workers.failed() == []
    kill(left)
    wait_for(lambda: not workers.alive())
    assert workers.failed() == ["worker 0: ended with -9: nothing said"]


def test_a_worker_computes_on_its_own_gpu_alone(monkeypatch, tmp_path):
    """A large CLIP's prompts are encoded on the GPU that is current, which is the first unless told."""
    done = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(("current", device)))
    monkeypatch.setattr(module, "work", lambda *given: done.append(("work", given[2])))
    given = [str(tmp_path / "store.json"), "--runs", str(tmp_path), "--compute", "{}", "--device"]
    fourth, *others = (torch.device(name) for name in ("cuda:3", "cuda", "cpu"))
    assert [main([*given, str(device)]) for device in (fourth, *others)] == [0, 0, 0]
    assert done == [("current", fourth), ("work", fourth), *(("work", device) for device in others)]


def test_workers_have_their_environment(workers):
    workers.start([[sys.executable, "-c", "import os; raise SystemExit(os.environ['OF_MINE'])"]], {"OF_MINE": "set"})
    wait_for(lambda: not workers.alive())
    assert workers.failed() == ["worker 0: ended with 1: set"]


def test_an_interrupt_while_watching_ends_them(workers, tmp_path):
    workers.start([_SLEEP] * 2)
    marks = [launch.mark for launch in workers.launches]
    timer = threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        watch(workers, tmp_path / "store")
    timer.join()
    assert not any(members(mark) for mark in marks)


def test_a_store_made_in_bfloat16_says_how_it_agrees_with_float32(workers, tmp_path, capsys):
    """Workers' own lines are not shown."""
    write_json(tmp_path / "manifest.json", {"shards": 0})
    watch(workers, tmp_path)
    assert capsys.readouterr().out == ""
    (tmp_path / AGREEMENT).write_text("agreement with float32 on a CPU: all\n")
    watch(workers, tmp_path)
    assert capsys.readouterr().out == "agreement with float32 on a CPU: all\n"


def test_a_failure_says_what_the_worker_said(workers, tmp_path):
    workers.start([[sys.executable, "-c", "print(1); raise SystemExit('no such card\\n')"]])
    with pytest.raises(RuntimeError, match=r"start workers again to finish\nworker 0: ended with 1: no such card"):
        watch(workers, tmp_path / "store")


@pytest.mark.parametrize("named", ["discretizer", "teacher"])
def test_bad_profiles_stop_before_a_process_starts(tmp_path, monkeypatch, named):
    monkeypatch.setattr("dadlab.workers.Launch", lambda *args, **more: pytest.fail("started"))
    with pytest.raises(ValueError, match=f"unknown {named} 'studo'"):
        start_workers(make_profile(limit=20, **{named: "studo"}), tmp_path, 2)


def test_a_described_store_is_started_elsewhere_by_its_command(profile, tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.workers.Launch", lambda *args, **more: pytest.fail("started"))
    folder, compute, asked = describe_store(profile, tmp_path), Compute("float32", batch=4), []
    assert not folder.exists()
    monkeypatch.setattr("dadlab.workers.start_workers", lambda *given, **more: asked.append((given, more)) or ())
    monkeypatch.setattr("dadlab.workers.watch", lambda *_: None)
    _, _, module, *arguments = worker_command(folder, tmp_path, compute=compute)
    assert module == "dadlab.workers"
    assert main([*arguments, "--processes", "8"]) == 0
    assert asked == [((profile, tmp_path, 8), {"compute": compute})]


@pytest.mark.parametrize(("processes", "sharing"), [(2, 1), (3, 2), (4, 2)])
def test_workers_know_how_many_share_their_device(profile, tmp_path, monkeypatch, processes, sharing):
    started, told = [], []
    monkeypatch.setattr("dadlab.workers.Launch", lambda commands, **more: started.extend(commands.values()))
    monkeypatch.setattr("dadlab.workers.share_memory", lambda *given: told.append(given))
    monkeypatch.setattr("dadlab.workers.work", lambda *given: None)
    start_workers(profile, tmp_path, processes, devices=["cpu", "meta"], compute=Compute("float32"))
    assert len(started) == processes
    assert main(started[-1][3:]) == 0
    assert told == [(torch.device(("meta", "cpu")[processes % 2]), sharing)]


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
    kill(started.launches[0])
    watch(started, folder)
    assert contents(folder) == alone
    assert "worker 0: ended with -9" in capsys.readouterr().out


@pytest.mark.slow
def test_all_are_killed_and_a_second_start_with_more_finishes(profile, tmp_path, alone):
    started, folder = start_workers(profile, tmp_path, 2)
    wait_for(lambda: list(folder.glob("shard-*")))
    for launch in started.launches:
        kill(launch)
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
