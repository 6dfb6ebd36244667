"""Inside a step of some work: the memory that it takes, and the operations that take most of its time."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

STEPS = 3  # that are looked at, after one that warms up


def inside(step: Callable[[], Any], most: int = 12) -> dict[str, Any]:
    """Memory of a step, and the share of its time that each of the longest operations has.

    On a GPU the memory is what tensors hold at most and the time is the kernels'; on a CPU the memory is the
    process's so far. Of several threads the one that calls is looked at.

    Args:
        step: called once more than `STEPS`; waits until a GPU is done.
        most: operations.
    """
    gpu = torch.cuda.is_available()
    step()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * gpu], acc_events=True) as seen:
        for _ in range(STEPS):
            step()
    memory = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    clock = "self_device_time_total" if gpu else "self_cpu_time_total"
    operations = [event for event in seen.key_averages() if event.device_type == DeviceType.CPU]
    total = sum(getattr(event, clock) for event in operations)
    longest = sorted(operations, key=lambda event: getattr(event, clock), reverse=True)[:most]
    shares = {event.key: round(100 * getattr(event, clock) / total, 1) for event in longest}
    return {"peak memory, GB": round(memory / 1e9, 3), "of the time, %": shares}
