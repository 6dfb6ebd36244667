"""How models compute: the precision of training, and of models that are only read also layout, compilation and batch.

On a CPU the latter are not touched: float32, so that stores keep their bytes. On an accelerator the towers (the
teacher's image tower, the encoder and the decoder) are copied, cast to bfloat16 where the GPU has it and channels-last,
and compiled; they take and give float32. Preprocessing, the codebook search, the classification head, losses and the
attack's steps stay in float32: a bfloat16 logit of 25 is rounded to 0.125.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate.utils import find_executable_batch_size
from torch import Tensor, nn

from dadlab.profile import check_types

_M = TypeVar("_M", bound=nn.Module)
WORTH_COMPILING = 10_000  # samples: compiling takes a minute, once in every process
_TOWERS = ("clip.visual", "student.net", "net", "encoder", "decoder")  # of teachers and of VQGAN


@dataclass(frozen=True)
class Compute:
    """How an accelerator computes.

    Attributes:
        precision: of the towers, `bfloat16` or `float32`.
        compiled: use `torch.compile` where at least `WORTH_COMPILING` samples are wanted.
        batch: samples at once; 0 takes the largest power of two that fits, up to 256.
    """

    precision: str = "bfloat16"
    compiled: bool = True
    batch: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        if self.precision not in ("bfloat16", "float32"):
            raise ValueError(f"precision {self.precision!r}: choose 'bfloat16' or 'float32'")
        if self.batch < 0:
            raise ValueError(f"batch must not be negative, got {self.batch}; 0 finds the largest that fits")


def compute_on(device: torch.device) -> Compute:
    """What suits a device: bfloat16 on a GPU that has it, compiled where a compiler is; or on a CPU plain float32."""
    if device.type == "cpu":
        return Compute("float32", compiled=False)
    return Compute("bfloat16" if _gpu_has_bfloat16() else "float32", compiled=has_compiler())


def precision() -> str:
    """Of training: Accelerate's variable; else bfloat16 on a GPU that has it or a CPU with instructions for it."""
    if named := os.environ.get("ACCELERATE_MIXED_PRECISION"):
        return named
    if torch.cuda.is_available():
        return "bf16" if _gpu_has_bfloat16() else "no"
    return "bf16" if torch.cpu.get_capabilities().get("avx512_bf16") else "no"


def mixed(device: str) -> torch.autocast:
    """Autocast for a training without Accelerator: bfloat16 where `precision` says so, else nothing."""
    return torch.autocast(device, torch.bfloat16, enabled=precision() == "bf16")


def _gpu_has_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def has_compiler() -> bool:
    """Whether there is a C compiler, which `torch.compile` needs on a GPU too."""
    return any(map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang")))


class Tower(nn.Module):
    """A network that computes in another precision, channels-last, and takes and gives float32.

    What it gives may be several tensors, as of CoCa's image tower.
    """

    def __init__(self, inner: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.inner, self.dtype = inner.to(dtype=dtype, memory_format=torch.channels_last), dtype  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self.inner(images.to(self.dtype, memory_format=torch.channels_last))
        return tuple(part.float() for part in found) if isinstance(found, tuple) else found.float()


def with_towers(module: _M, compute: Compute) -> _M:
    """A copy of a frozen model whose towers compute as told; the model itself where nothing is asked for.

    A model without a known tower stays in float32.
    """
    if compute == Compute("float32", compiled=False, batch=compute.batch):
        return module
    dtype = getattr(torch, compute.precision)
    made = copy.deepcopy(module)
    for name in _TOWERS:
        if _has(made, name):
            made.set_submodule(name, Tower(made.get_submodule(name), dtype))
    return made


def in_precision(module: _M, precision: str) -> _M:
    """A frozen model whose towers compute in `bfloat16`, or as it is in `float32`, where it lies and uncompiled."""
    return with_towers(module, Compute(precision, compiled=False))


def compile_towers(*modules: nn.Module) -> None:
    """Compile every tower in place, for the one batch size it will see."""
    for tower in (part for module in modules for part in module.modules() if isinstance(part, Tower)):
        tower.compile(dynamic=False)


def largest_batch(attempt: Callable[[int], Any], most: int = 256) -> int:
    """The largest of `most`, its half, its quarter … with which `attempt` does not run out of memory.

    Raises:
        ValueError: not even one sample fits.
    """
    size = most

    def halve() -> int:
        nonlocal size
        size //= 2
        return size

    @find_executable_batch_size(starting_batch_size=most, reduce_batch_size_fn=halve)
    def trial(batch: int) -> int:
        attempt(batch)
        return batch

    try:
        return trial()
    except RuntimeError as error:
        if "reached zero" not in str(error):
            raise
        raise ValueError("not one sample fits into the device's memory: choose a smaller teacher or image") from None


def share_memory(device: torch.device, processes: int) -> None:
    """Keep to one process's part of a GPU that several use: each then finds the batch that fits beside the others."""
    if device.type == "cuda" and processes > 1:
        torch.cuda.set_per_process_memory_fraction(0.9 / processes, device)  # the rest is for CUDA itself in each


def _has(module: nn.Module, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:
        return False
    return True
