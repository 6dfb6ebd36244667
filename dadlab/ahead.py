"""Work done ahead of time: worker processes compute what is needed next while the accelerator is busy.

Nothing random happens here: what comes of an item is `function(item)` wherever and whenever it is computed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Items

_T = TypeVar("_T")


class _Calls(Items):
    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __getitem__(self, item: Any) -> Any:
        try:
            return self.function(item)
        except ValueError as error:  # a line for the user, which the loader would bury in a worker's traceback
            return error


def ahead(function: Callable[[Any], _T], items: Iterable[Any], workers: int) -> Iterator[_T]:
    """Results in order, computed by `workers` processes, each two items ahead; by this one where there are none.

    So 2 × `workers` results are held, on Linux in shared memory: one should be no more than is needed at once. The
    items are asked for as far ahead, by this process. On a machine with GPUs tensors come in page-locked memory, ready
    to be copied without waiting.
    """
    if not workers:
        yield from map(function, items)
        return
    loader = DataLoader(
        _Calls(function),
        batch_size=None,
        sampler=items,
        num_workers=min(workers, max(1, len(items))) if isinstance(items, Sized) else workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the loader draws a seed that nobody uses; not from the global generator
        worker_init_fn=_deaf,
    )
    for found in loader:
        if isinstance(found, ValueError):
            raise found
        yield found


def _deaf(worker: int) -> None:
    """Let only the process that reads ahead be told to stop: signals reach its whole group, and it still has a step."""
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, signal.SIG_IGN)


def usual_workers() -> int:
    """This process's share of the cores where a GPU waits for them, at most 16; none on a CPU."""
    share = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(16, share) if torch.cuda.is_available() else 0


def cores() -> int:
    """Cores that this process may use: a batch system may have left it some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_device() -> torch.device:
    """The accelerator of this process: the GPU of its place among the machine's processes, or the CPU."""
    if torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true"):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _as_it_is(item: _T) -> _T:
    return item
