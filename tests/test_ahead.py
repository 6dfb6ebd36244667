import os
import signal

import pytest
import torch

from dadlab.ahead import ahead, cores, usual_workers


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
@pytest.mark.parametrize(("allowed", "processes", "workers"), [(8, 2, 4), (8, 16, 0), (64, 1, 16)])
def test_workers_share_the_cores_that_a_batch_system_leaves(monkeypatch, allowed, processes, workers):
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(allowed)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cores() == allowed
    assert usual_workers() == workers


def test_a_cpu_reads_nothing_ahead(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usual_workers() == 0


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"{number}.jpg: cannot be read")
    return number


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_reader_refuses_is_said_in_its_own_line(workers):
    found = ahead(_odd, [1, 3, 4, 5], workers)
    assert [next(found), next(found)] == [1, 3]
    with pytest.raises(ValueError, match=r"^4\.jpg: cannot be read$"):
        next(found)


def _signalled(item: int) -> int:
    for told in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), told)
    return item


def test_a_reader_that_is_told_to_stop_finishes_what_its_process_waits_for():
    assert list(ahead(_signalled, range(5), workers=2)) == [*range(5)]
