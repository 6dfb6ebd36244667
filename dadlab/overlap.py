"""What a GPU does not wait for: batches that are copied while it computes, and what other processes were told."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor

from dadlab.batch import Batch


class ToDevice:
    """Batches to where a process computes; to a GPU on a stream of their own, beside the step that is computed."""

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> Batch:
        if self.stream is None:
            return batch.each(lambda tensor: tensor.to(self.device))
        with torch.cuda.stream(self.stream):
            batch = batch.each(lambda tensor: tensor.to(self.device, non_blocking=True))
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self.stream)
        return batch.each(lambda tensor: _used_by(tensor, computing))


class Told:
    """Whether any process has been told to stop, the same answer in all of them: one that left alone would strand the
    others in their next step.

    Several processes answer a step late: the answer to this step's question would have to wait for all that a GPU has
    been given to do.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.asked: Callable[[], bool] | None = None

    def __call__(self, stop: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return stop
        before, self.asked = self.asked, self._ask(stop)
        return before is not None and before()

    def _ask(self, stop: bool) -> Callable[[], bool]:
        told = torch.full((), float(stop), device=self.accelerator.device)
        answer = self.accelerator.reduce(told, "sum").to("cpu", non_blocking=True)
        if told.device.type != "cuda":
            return lambda: bool(answer)
        copied = torch.cuda.Event()
        copied.record()

        def read() -> bool:
            copied.synchronize()
            return bool(answer)

        return read


def _used_by(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    """The tensor, whose memory is not given to another before this stream has done with it."""
    tensor.record_stream(stream)
    return tensor
