"""Processes in the background of a notebook: logs, stopping, and an end with the process that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_GRACE = 10.0


class Processes:
    """Processes in the background, each with a log; none of them outlives this one.

    Args:
        commands: what to start.
        logs: folder for `worker-000.log` and so on.
        environments: variables to set for each.
    """

    def __init__(self, commands: Sequence[Sequence[str]], logs: Path, environments: Sequence[dict[str, str]]):
        logs.mkdir(parents=True, exist_ok=True)
        self.folder = logs
        self.logs: list[Path] = []
        self._running: list[subprocess.Popen[bytes]] = []
        self.start(commands, environments)

    def start(self, commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]]) -> None:
        """Start more of them."""
        for command, extra in zip(commands, environments, strict=True):
            log = self.folder / f"worker-{len(list(self.folder.glob('worker-*.log'))):03d}.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # closes when this process ends, however it ends: see `end_with_parent`
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # an interrupt of the notebook reaches them through `stop` alone
                    env={**os.environ, **extra},
                )
            self.logs.append(log)
            self._running.append(process)

    def alive(self) -> int:
        return sum(process.poll() is None for process in self._running)

    def failed(self) -> list[str]:
        """What the processes that ended badly said last."""
        ended = zip(self._running, self.logs, strict=True)
        return [f"{log}: ended with {p.returncode}: {_last_line(log)}" for p, log in ended if p.poll() not in (None, 0)]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._running]

    def stop(self, number: int | None = None) -> None:
        """End the last `number` processes, or all: asked first, killed after ten seconds."""
        chosen = self._running[-number:] if number else self._running
        for how, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
            for process in (p for p in chosen if p.poll() is None):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, how)
            deadline = time.monotonic() + (grace or 0)
            for process in chosen:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(None if grace is None else max(0.0, deadline - time.monotonic()))
        for process in chosen:
            if process.stdin is not None:
                process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["nothing said"])[-1]


def end_with_parent() -> None:
    """End this process when the one that holds the other end of its standard input is gone."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
