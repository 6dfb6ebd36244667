"""Processes started here are found by their mark, whatever became of those that started them."""

import gc
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dadlab import launch, progress
from dadlab.launch import Launch, members

TALK = "print('one'); print('two')"
SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
FAMILY = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)  # as torchrun starts its workers
time.sleep(60)
"""


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def mark(monkeypatch):
    """The mark that launches of this test carry; nothing may be left of them."""

    class Fixed:
        hex = f"test-{os.getpid()}-{time.monotonic_ns()}"

    monkeypatch.setattr(launch.uuid, "uuid4", lambda: Fixed)
    yield Fixed.hex
    left = members(Fixed.hex)
    for process in left:
        process.kill()
    assert not left


def until_up(running, count=1):
    for _ in range(100):
        if sum("up" in lines for lines in running.lines.values()) >= count:
            return
        time.sleep(0.1)
    pytest.fail(f"not up: {running.lines}")


def interrupts(*seconds):
    """A process that interrupts this one after so many seconds each."""
    code = "".join(f"time.sleep({pause}); os.kill({os.getpid()}, {signal.SIGINT:d}); " for pause in seconds)
    return subprocess.Popen(python("import os, time; " + code))


@pytest.mark.usefixtures("mark")
def test_lines_are_streamed_and_kept(capsys):
    running = Launch({"a": python(TALK), "b": python("print(3)")})
    running.wait(30)
    assert list(running.lines["a"]) == ["one", "two"]
    assert running.codes == {"a": 0, "b": 0}
    assert sorted(capsys.readouterr().out.splitlines()) == ["a: one", "a: two", "b: 3"]


@pytest.mark.usefixtures("mark")
def test_processes_of_a_notebook_draw_no_bars(monkeypatch):
    """Read as lines, every refresh of a bar would be one; a Jupyter server names its kernels' session."""
    monkeypatch.setenv("JPY_SESSION_NAME", "train.ipynb")
    counts = f"import runpy; [*runpy.run_path({progress.__file__!r})['track'](range(3), 'steps')]; print('done')"
    running = Launch({"a": python(counts)}, echo=False)
    running.wait(60)
    assert list(running.lines["a"]) == ["done"]


@pytest.mark.usefixtures("mark")
def test_starting_does_not_wait():
    started = time.monotonic()
    running = Launch({"a": python(SLEEP)}, echo=False)
    assert time.monotonic() - started < 5
    assert running.running
    with pytest.raises(TimeoutError, match="still running after 0 s"):
        running.wait(0.2)
    running.stop()
    assert running.codes == {"a": -signal.SIGTERM}


@pytest.mark.usefixtures("mark")
def test_failure_is_named_with_its_last_lines():
    running = Launch({"good": python(TALK), "bad": python("print('why'); raise SystemExit(3)")}, echo=False)
    with pytest.raises(RuntimeError, match=r"^bad failed; bad with status 3, its last lines:\nwhy"):
        running.wait(30)


def test_interrupt_ends_even_stubborn_grandchildren_in_their_own_session(mark):
    running = Launch({"torchrun": python(FAMILY)}, echo=False, grace=1)
    until_up(running)
    assert len(members(mark)) == 2
    interrupt = interrupts(0.5)
    with pytest.raises(KeyboardInterrupt):
        running.wait(30)
    interrupt.wait()
    assert not members(mark)


def test_second_interrupt_ends_the_grace(mark):
    running = Launch({"a": python(STUBBORN)}, echo=False, grace=60)
    until_up(running)
    started, interrupt = time.monotonic(), interrupts(0.5, 1)
    with pytest.raises(KeyboardInterrupt):
        running.wait(30)
    interrupt.wait()
    assert not members(mark)
    assert running.codes == {"a": -signal.SIGKILL}
    assert time.monotonic() - started < 20


def test_stop_ends_what_an_interrupted_stop_has_left(mark, monkeypatch):
    running = Launch({"a": python(STUBBORN)}, echo=False, grace=0)
    until_up(running)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "members", lambda mark: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            running.stop()
    assert len(members(mark)) == 1
    running.stop()
    assert not members(mark)


def test_deleting_the_handle_ends_everything(mark):
    running = Launch({"a": python(SLEEP), "b": python(SLEEP)}, echo=False)
    until_up(running, 2)
    del running
    gc.collect()
    assert not members(mark)


def test_orphans_of_a_killed_leader_are_ended(mark):
    running = Launch({"torchrun": python(FAMILY)}, echo=False, grace=1)
    until_up(running)
    os.kill(running._processes["torchrun"].pid, signal.SIGKILL)
    running._processes["torchrun"].wait()
    assert len(members(mark)) == 1
    running.stop()
    assert not members(mark)


_STARTS = f"""
import os, runpy, signal, time
Launch = runpy.run_path({launch.__file__!r})["Launch"]  # without the rest of dadlab, which takes long to import
running = Launch({{"a": {python(SLEEP)!r}}})
while "up" not in running.lines["a"]:
    time.sleep(0.1)
print(running._processes["a"].pid, flush=True)
"""


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)"], ids=["exits", "is killed"])
def test_they_end_when_python(end):
    process = subprocess.run(python(_STARTS + end), timeout=60, capture_output=True, text=True)
    assert process.returncode == (-signal.SIGKILL if end else 0), process.stderr
    up, pid = process.stdout.split()
    assert up == "up"
    for _ in range(50):
        if not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("still there")
