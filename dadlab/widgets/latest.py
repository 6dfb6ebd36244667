"""The newest job wins: one thread that never queues stale work.

A slider may ask faster than a model answers. At most one job runs and one waits; a job that waits when a newer one
comes is dropped, and one that has already run for a while is asked to stop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_PATIENCE = 0.3  # seconds that a job may run while a newer one waits
Tick = Callable[[float], None]
Job = Callable[[Tick], None]


class Stopped(Exception):
    """Raised inside a job that nobody waits for any more."""


class Latest:
    """Runs the newest of the jobs it is given, in its own thread.

    A job gets a `tick`, which it calls now and then with the share done in [0, 1]; `tick` raises `Stopped` where the
    job was cancelled, or where a newer one waits and this one has run for 0.3 seconds. Short jobs are thus finished
    even while a slider moves, so that the picture follows it; long ones give way.

    Args:
        failed: told of any other exception of a job.
        busy: told the share done by a running job, and None when nothing runs any more.
    """

    def __init__(self, failed: Callable[[Exception], None], busy: Callable[[float | None], None] = lambda share: None):
        self._failed, self._busy = failed, busy
        self._changed = threading.Condition()
        self._waiting: Job | None = None
        self._running, self._cancelled = False, False

    def submit(self, job: Job) -> None:
        """Run this job next, in place of any that waits."""
        with self._changed:
            self._waiting = job
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name="dadlab-latest", daemon=True).start()

    def cancel(self) -> None:
        """Drop the job that waits, and stop the one that runs at its next tick."""
        with self._changed:
            self._waiting, self._cancelled = None, self._running

    def wait(self, timeout: float = 60) -> bool:
        """Block until nothing runs or waits; False if that takes longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            started = time.monotonic()
            try:
                job(lambda share, started=started: self._tick(share, started))  # type: ignore[misc]
            except Stopped:
                pass
            except Exception as error:
                self._failed(error)

    def _next(self) -> Job | None:
        with self._changed:
            job, self._waiting, self._cancelled = self._waiting, None, False
            if job is None:
                self._busy(None)
                self._running = False
                self._changed.notify_all()
            return job

    def _tick(self, share: float, started: float) -> None:
        worked = time.monotonic() - started
        if self._cancelled or (self._waiting is not None and worked > _PATIENCE):
            raise Stopped
        self._busy(share)
