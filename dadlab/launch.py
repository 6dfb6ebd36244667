"""Processes that a notebook starts: they run beside the kernel, their lines are shown, and they end together.

Every process is started with a mark in its environment that its own children inherit, so whatever a launch has begun,
in whatever session or process group, is found and ended: by `stop`, by interrupting the cell that waits, by deleting
the handle, or when Python exits. On Linux they are also told to end when the kernel itself is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO

import psutil

_MARK = "DADLAB_LAUNCH"
_DYING = 5.0  # seconds that a killed process may take to be gone
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Launch:
    """Processes started together.

    Args:
        commands: command line of each process, by a name that leads its lines where there are several.
        env: variables beside those of this process; per-process ones belong on the command line.
        echo: print lines as they come.
        grace: seconds that a process has between SIGTERM and SIGKILL.

    Attributes:
        mark: what all its processes carry, see `members`.
        lines: the last thousand lines of each process, by name.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        env: Mapping[str, str] | None = None,
        echo: bool = True,
        grace: float = 20.0,
    ):
        self.mark = uuid.uuid4().hex
        own = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}  # lines, no bars
        merged = {**own, "PYTHONUNBUFFERED": "1", **(env or {}), _MARK: self.mark}
        self.lines: dict[str, deque[str]] = {name: deque(maxlen=1000) for name in commands}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._grace = grace
        weakref.finalize(self, _end, self._processes, self.mark, grace)
        self._readers: list[threading.Thread] = []
        for name, command in commands.items():
            process = subprocess.Popen(
                [*command],
                env=merged,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # an interrupt at the terminal reaches them by way of us alone
                preexec_fn=_end_with_parent if _LIBC else None,
            )
            self._processes[name] = process
            prefix = f"{name}: " if len(commands) > 1 else ""
            reader = threading.Thread(
                target=_read,
                args=(process.stdout, self.lines[name], prefix, echo),
                name=f"lines of {name}",
                daemon=True,
            )
            reader.start()
            self._readers.append(reader)

    @property
    def running(self) -> bool:
        """Whether any of the processes started here has not ended."""
        return any(process.poll() is None for process in self._processes.values())

    @property
    def codes(self) -> dict[str, int | None]:
        """Exit status by name: None while running, negative for a signal."""
        return {name: process.poll() for name, process in self._processes.items()}

    def wait(self, timeout: float | None = None) -> None:
        """Wait for all to end; an interrupt ends them, a second one without grace.

        Raises:
            RuntimeError: one of them failed; names it, with its last lines.
            TimeoutError: they still run after `timeout` seconds, and go on.
        """
        started = time.monotonic()
        try:
            while self.running:
                if timeout is not None and time.monotonic() - started > timeout:
                    raise TimeoutError(f"still running after {timeout:.0f} s; `stop` ends them")
                time.sleep(0.1)
            for reader in self._readers:
                reader.join(5)
        except KeyboardInterrupt:
            self.stop()
            raise
        failed = {name: code for name, code in self.codes.items() if code}
        if failed:
            name, code = next(iter(failed.items()))
            last = "\n".join([*self.lines[name]][-15:])
            raise RuntimeError(f"{', '.join(failed)} failed; {name} with status {code}, its last lines:\n{last}")

    def stop(self) -> None:
        """End all processes of the launch: SIGTERM, then SIGKILL for what is left after `grace` seconds.

        An interrupt meanwhile brings the SIGKILL forward; asking again ends whatever is still there.
        """
        _end(self._processes, self.mark, self._grace)


def _end(processes: dict[str, subprocess.Popen[str]], mark: str, grace: float) -> None:
    try:
        _terminate(processes, mark)
        _until_gone(mark, time.monotonic() + grace)
    finally:  # also after an interrupt: who interrupts twice wants no more grace
        _kill(processes, mark)


def _terminate(processes: dict[str, subprocess.Popen[str]], mark: str) -> None:
    leaders = [process for process in processes.values() if process.poll() is None]
    for process in leaders:
        process.terminate()  # the leaders alone: torchrun tells its workers, a trainer ends its readers
    orphans = [] if leaders else members(mark)
    for orphan in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.terminate()


def _kill(processes: dict[str, subprocess.Popen[str]], mark: str) -> None:
    for member in members(mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    for process in processes.values():
        process.kill()
        process.wait()
    _until_gone(mark, time.monotonic() + _DYING)


def _until_gone(mark: str, deadline: float) -> None:
    while members(mark) and time.monotonic() < deadline:
        time.sleep(0.1)


def members(mark: str) -> list[psutil.Process]:
    """Every living process that carries a launch's mark, children's children included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # gone, or another user's
            continue
    return found


def _end_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGTERM)  # type: ignore[union-attr] # PR_SET_PDEATHSIG


def _read(stream: IO[str], lines: deque[str], prefix: str, echo: bool) -> None:
    with stream:
        for line in stream:
            lines.append(line.rstrip("\n"))
            if echo:
                print(prefix + lines[-1], file=sys.stdout, flush=True)
