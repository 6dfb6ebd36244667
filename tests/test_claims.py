import contextlib
import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from filelock import FileLock, Timeout

from dadlab.claims import Claims, claim, clear, fill, held, sweep, together, write_once, write_unclaimed

_HOLD = """
import sys, time
from pathlib import Path
from dadlab.claims import claim
with claim(Path(sys.argv[1])) as mine:
    (Path(sys.argv[1]).parent / f".{Path(sys.argv[1]).name}.half").touch()
    print(mine, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def paths(tmp_path):
    return [tmp_path / f"shard-{k}" for k in range(6)]


def hidden(folder):
    return sorted(path.name for path in folder.glob(".*"))


def test_one_of_two_has_it_and_then_the_other(paths):
    with claim(paths[0]) as first:
        with claim(paths[0]) as second, claim(paths[1]) as other:
            assert (first, second, other) == (True, False, True)
        with claim(paths[0]) as still_not:
            assert not still_not
    with claim(paths[0]) as again:
        assert again
    assert hidden(paths[0].parent) == []


def test_sweeping_takes_nobodys_claim(paths):
    """Between a sweeper's look and its hand another may have claimed the file."""
    with claim(paths[0]):
        clear(paths[0])
        with claim(paths[0]) as second:
            assert not second


def test_an_error_ends_the_claim(paths):
    with pytest.raises(RuntimeError, match="boom"), claim(paths[0]):
        raise RuntimeError("boom")
    with claim(paths[0]) as mine:
        assert mine


@pytest.mark.parametrize("name", ["shard-0", "view-000-00000.npy", "manifest.json", "agreement.txt"])
def test_a_claim_dies_with_its_process_and_what_it_left_is_swept(tmp_path, name):
    path = tmp_path / name
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    before = hidden(tmp_path)
    assert len(before) == 2
    sweep(tmp_path)
    assert hidden(tmp_path) == before  # somebody works on it
    with claim(path) as mine:
        assert not mine
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    sweep(tmp_path)
    assert hidden(tmp_path) == []
    with claim(path) as mine:
        assert mine


def test_a_file_is_written_once_and_whoever_comes_later_waits(tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.claims.POLL", 0.01)
    path, written = tmp_path / "new" / "manifest.json", []

    def write(number: int) -> None:
        time.sleep(0.05)
        written.append(number)
        path.touch()

    writers = [threading.Thread(target=write_once, args=(path, lambda k=k: write(k))) for k in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert path.is_file()
    assert len(written) == 1
    assert hidden(path.parent) == []


def test_who_waits_for_a_lock_says_so(tmp_path, capsys):
    path, taken, ended = tmp_path / "new" / ".lock", threading.Event(), threading.Event()

    def another() -> None:
        with held(path):
            taken.set()
            ended.wait()

    thread = threading.Thread(target=another)
    thread.start()
    taken.wait()
    with pytest.raises(Timeout), held(path, wait=False):
        pytest.fail("had it")
    assert capsys.readouterr().out == ""
    threading.Timer(0.2, ended.set).start()
    with held(path):
        assert ended.is_set()
    thread.join()
    assert capsys.readouterr().out == f"{path}: held by another process, which this one waits for\n"


def test_what_another_writes_is_left_to_it(paths):
    with claim(paths[0]):
        assert not write_unclaimed(paths[0], lambda: pytest.fail("written"))
    assert write_unclaimed(paths[0], paths[0].touch)
    assert paths[0].is_file()
    assert write_unclaimed(paths[0], lambda: pytest.fail("written again"))


def test_what_came_between_a_look_and_the_claim_is_not_made_again(paths, monkeypatch):
    @contextlib.contextmanager
    def late(path):
        path.touch()  # its owner has just finished
        yield True

    monkeypatch.setattr("dadlab.claims.claim", late)
    fill(paths, lambda position: pytest.fail("made again"), "toys")
    write_once(paths[0].with_name("manifest.json"), lambda: pytest.fail("written again"))


def test_every_file_is_made_once_by_workers_that_share(paths):
    made, lock = [], threading.Lock()

    def make(position: int) -> None:
        with lock:
            made.append(position)
        time.sleep(0.01)
        paths[position].touch()

    workers = [threading.Thread(target=fill, args=(paths, make, "toys"), kwargs={"threads": 2}) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(made) == list(range(6))
    assert hidden(paths[0].parent) == []


@pytest.mark.parametrize(("rank", "alone", "said"), [("0", False, 1), ("1", False, 0), ("1", True, 1)])
def test_whoever_can_only_wait_says_so_once(monkeypatch, capsys, rank, alone, said):
    """Three rounds of work, then five looks at what another makes; of a launch's processes the first speaks."""
    monkeypatch.setattr("dadlab.claims.POLL", 0)
    monkeypatch.setenv("LOCAL_RANK", rank)
    looks = iter([[1, 2, 3], [2, 3], [3], *[[3]] * 5, []])
    worked = []

    def work(left):
        worked.append(left)
        return len(worked) <= 3

    together(lambda: next(looks), work, "toys", alone=alone)
    assert worked == [[1, 2, 3], [2, 3], [3], *[[3]] * 5]
    assert capsys.readouterr().out == "toys: waiting for 1 that other processes have claimed\n" * said


def test_it_waits_for_the_others_and_takes_over_from_the_dead(paths, monkeypatch, capsys):
    monkeypatch.setattr("dadlab.claims.POLL", 0.01)
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(paths[3])], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    threading.Timer(0.3, process.kill).start()
    fill(paths, lambda position: paths[position].touch(), "toys")
    process.wait()
    process.stdout.close()
    assert all(path.is_file() for path in paths)
    assert capsys.readouterr().out == "toys: waiting for 1 that other processes have claimed\n"
    assert hidden(paths[0].parent) == []


def test_whoever_has_claimed_the_work_shows_it(paths, monkeypatch, capsys):
    """In a training the store's maker may be any of its processes."""
    ticks = itertools.count(step=10)
    monkeypatch.setattr("dadlab.progress.time.monotonic", lambda: float(next(ticks)))
    monkeypatch.setenv("LOCAL_RANK", "3")
    fill(paths, lambda position: paths[position].touch(), "toys")
    assert "toys: 2/6 in" in capsys.readouterr().out


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOENT])
def test_a_claim_that_its_owner_removes_meanwhile_is_not_ours(paths, monkeypatch, code):
    """As NFS may say it, where the file is gone between our opening and our locking it."""
    real, failing = FileLock.acquire, [OSError(code, "gone")]

    def acquire(lock, *args, **kwargs):
        if failing:
            raise failing.pop()
        return real(lock, *args, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with claim(paths[0]) as mine:
        assert not mine
    with claim(paths[0]) as mine:
        assert mine
    failing.append(OSError(errno.EIO, "broken"))
    with pytest.raises(OSError, match="broken"), claim(paths[0]):
        pass


def test_an_error_in_the_work_is_raised(paths):
    def make(position: int) -> None:
        raise ValueError(f"no {position}")

    with pytest.raises(ValueError, match="no 0"):
        fill(paths, make, "toys")
    assert hidden(paths[0].parent) == []


def test_claims_to_several_files_end_one_by_one_or_with_the_block(tmp_path):
    first, second, written = (tmp_path / f"shard-{k}" for k in range(3))
    written.touch()
    with Claims() as claims:
        assert claims.take(first)
        assert claims.take(second)
        assert not claims.take(written)
        assert not write_unclaimed(first, lambda: pytest.fail("another's"))
        claims.give_back(first)
        assert write_unclaimed(first, first.touch)
        assert not Claims().take(second)
    assert write_unclaimed(second, second.touch)
    assert sorted(tmp_path.iterdir()) == [first, second, written]
