"""Background processes end when they are told, and when nobody is left to tell them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from dadlab import processes as module
from dadlab.processes import Processes

_SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_stopping_ends_all_or_the_last(tmp_path):
    with Processes([_SLEEP] * 3, tmp_path, [{}] * 3) as processes:
        assert processes.alive() == 3
        processes.stop(1)
        assert processes.alive() == 2
        assert gone(processes.pids[-1])
    assert processes.alive() == 0


def test_one_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("dadlab.processes._GRACE", 0.2)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    processes = Processes([[sys.executable, "-c", deaf]], tmp_path, [{}])
    wait_for(lambda: "deaf" in processes.logs[0].read_text())
    processes.stop()
    assert processes.alive() == 0


def test_they_end_with_the_process_that_started_them(tmp_path):
    load = f"import runpy, sys, time; module = runpy.run_path({module.__file__!r})"
    child = f"{load}; module['end_with_parent'](); time.sleep(60)"
    start = f"module['Processes']([[sys.executable, '-c', {child!r}]], module['Path']({str(tmp_path)!r}), [{{}}])"
    parent = f"{load}; held = {start}; print(held.pids[0], flush=True); time.sleep(60)"
    started = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    pid = int(started.stdout.readline())
    assert not gone(pid)
    started.kill()
    started.wait()
    started.stdout.close()
    wait_for(lambda: gone(pid))
