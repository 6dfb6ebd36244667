"""Of many jobs the newest wins, and none piles up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from dadlab.widgets.latest import Latest, Stopped, Tick


def slow(done: list[str], name: str, steps: int = 50) -> Callable[[Tick], None]:
    def job(tick: Tick) -> None:
        for step in range(steps):
            tick(step / steps)
            time.sleep(0.01)
        done.append(name)

    return job


def test_of_a_hundred_quick_jobs_only_a_few_run_and_the_last_is_among_them() -> None:
    done: list[int] = []
    latest = Latest(lambda error: None)
    for number in range(100):
        latest.submit(lambda tick, number=number: (time.sleep(0.02), done.append(number))[0])  # type: ignore[misc]
        time.sleep(0.001)
    assert latest.wait()
    assert done[-1] == 99
    assert len(done) < 50
    assert done == sorted(done)


def test_a_long_job_gives_way_to_a_newer_one() -> None:
    done: list[str] = []
    latest = Latest(lambda error: None)
    latest.submit(slow(done, "old", steps=500))
    time.sleep(0.1)
    latest.submit(slow(done, "new", steps=3))
    assert latest.wait(3)
    assert done == ["new"]


def test_a_short_job_is_finished_although_a_newer_one_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dadlab.widgets.latest._PATIENCE", 30)  # short on any machine
    done: list[str] = []
    latest = Latest(lambda error: None)
    begun = threading.Event()

    def first(tick: Tick) -> None:
        begun.set()
        slow(done, "first", steps=5)(tick)

    latest.submit(first)
    assert begun.wait(5)
    latest.submit(slow(done, "second", steps=1))
    assert latest.wait(10)
    assert done == ["first", "second"]


def test_cancel_stops_at_the_next_tick_and_forgets_what_waits() -> None:
    done: list[str] = []
    latest = Latest(lambda error: None)
    latest.submit(slow(done, "running", steps=500))
    time.sleep(0.05)
    latest.submit(slow(done, "waiting"))
    latest.cancel()
    assert latest.wait(2)
    assert done == []
    latest.submit(slow(done, "afterwards", steps=1))
    assert latest.wait(2)
    assert done == ["afterwards"]


def test_failures_are_told_and_do_not_stop_later_jobs() -> None:
    told: list[Exception] = []
    done: list[str] = []
    latest = Latest(told.append)

    def broken(tick: Tick) -> None:
        raise ValueError("no such thing")

    latest.submit(broken)
    assert latest.wait(2)
    latest.submit(slow(done, "next", steps=1))
    assert latest.wait(2)
    assert [str(error) for error in told] == ["no such thing"]
    assert done == ["next"]


def test_progress_is_told_and_ends_with_none() -> None:
    shares: list[float | None] = []
    latest = Latest(lambda error: None, shares.append)
    latest.submit(slow([], "job", steps=4))
    assert latest.wait(2)
    assert shares == [0.0, 0.25, 0.5, 0.75, None]


def test_stopped_is_no_failure() -> None:
    told: list[Exception] = []

    def job(tick: Tick) -> None:
        raise Stopped

    latest = Latest(told.append)
    latest.submit(job)
    assert latest.wait(2)
    assert told == []


def test_wait_says_when_time_is_up() -> None:
    latest = Latest(lambda error: None)
    latest.submit(slow([], "long", steps=100))
    assert not latest.wait(0.05)
    latest.cancel()
    assert latest.wait(2)


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_runs_at_the_same_time(count: int) -> None:
    running, most = [0], [0]

    def job(tick: Tick) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.02)
        running[0] -= 1

    latest = Latest(lambda error: None)
    for _ in range(count):
        latest.submit(job)
        time.sleep(0.03)
    assert latest.wait(2)
    assert most == [1]
