"""Batch normalization over the batches of all processes, so that their number changes no result.

On GPUs torch's own (by way of timm, whose layers carry an activation); on CPUs, where torch has none, the same in a
few lines.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn


def synchronize(student: nn.Module, device: torch.device) -> nn.Module:
    """The module with all its batch normalization synchronized; parameters and their names stay."""
    if device.type != "cpu":
        synchronized = convert_sync_batchnorm(student)
        for norm in synchronized.modules():
            if isinstance(norm, nn.SyncBatchNorm):
                norm.register_forward_pre_hook(_empty_in_single)
        return synchronized
    for norm in student.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.forward = functools.partial(_forward, norm)  # type: ignore[method-assign]
    return student


def _empty_in_single(norm: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """A part without images in float32: torch's norm shares zeros of its precision, where others share float32 sums."""
    return None if given[0].numel() else (given[0].float(),)


def _forward(norm: nn.BatchNorm2d, images: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, images)
    values = images.float()
    count = _Sum.apply(torch.tensor(float(values.numel() / values.shape[1])))
    mean = _Sum.apply(values.sum((0, 2, 3))) / count.clamp_min(1)
    centred = values - mean[:, None, None]
    variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count.clamp_min(1)
    with torch.no_grad():
        learnt = ((norm.running_mean, mean), (norm.running_var, variance * count / (count - 1)))
        for running, found in learnt if count else ():  # none where no process has an image
            running.lerp_(found, norm.momentum)  # type: ignore[union-attr, arg-type]
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr, operator]
    scale = norm.weight * (variance + norm.eps).rsqrt()
    result = (centred * scale[:, None, None] + norm.bias[:, None, None]).to(images.dtype)
    return norm.act(norm.drop(result)) if isinstance(norm, BatchNormAct2d) else result


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(context, gradients[0].contiguous())
