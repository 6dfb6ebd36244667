"""Snapshots of a training: any tree of tensors and plain values in one safetensors file, nothing pickled.

The header holds the tree, with a name in each tensor's place. A checkpoint is written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from dadlab.files import atomic_path


def save_snapshot(path: Path, tree: Any) -> None:
    """Write nested dicts and lists of tensors, numbers, strings, booleans, None and `torch.dtype`s."""
    tensors: dict[str, Tensor] = {}
    header = json.dumps(_pack(tree, tensors))
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"tree": header})


def load_snapshot(path: Path) -> Any:
    """Read what `save_snapshot` wrote, on the CPU; tuples come back as lists.

    Raises:
        ValueError: unreadable file, or no checkpoint.
    """
    try:
        with safetensors.safe_open(path, "pt") as opened:
            tree = json.loads(opened.metadata()["tree"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 not a dict
    except (safetensors.SafetensorError, OSError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); delete it to start the run again") from None
    return _unpack(tree, tensors)


def restore(path: Path, parts: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Load the state of each part of a training, by name; an optimizer's in its parameters' memory layout.

    Sums depend on the layout, so that a resumed training would not end with the same bytes without it.

    Raises:
        ValueError: the checkpoint at `path` was written before it kept one of the parts.
    """
    if missing := [name for name in parts if name not in saved]:
        raise ValueError(f"{path}: an older checkpoint without {', '.join(missing)}; delete it to start the run again")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
        for parameter, state in part.state.items() if isinstance(part, torch.optim.Optimizer) else ():
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def save_training(path: Path, parts: Sequence[Any], step: int, of: str) -> None:
    """Checkpoint everything with a `state_dict` (model, optimizer, schedule), random state, and the steps done.

    Args:
        path: where to.
        parts: in the order of `restore_training`.
        step: how many are done.
        of: what stands for the training's data and settings.
    """
    state = {str(place): part.state_dict() for place, part in enumerate(parts)}
    save_snapshot(path, {**state, "step": step, "of": of, "random": torch.get_rng_state()})


def restore_training(path: Path, parts: Sequence[Any], of: str) -> int:
    """Restore what `save_training` wrote; returns the steps done, 0 where there is no checkpoint.

    Raises:
        ValueError: the checkpoint is damaged, or of a training of other data or settings.
    """
    if not path.is_file():
        return 0
    saved = load_snapshot(path)
    if saved.get("of") != of:
        raise ValueError(f"{path}: of a training with other data or settings; delete it to start anew")
    restore(path, {str(place): part for place, part in enumerate(parts)}, saved)
    torch.set_rng_state(saved["random"])
    return int(saved["step"])


def check_precision(path: Path, saved: Mapping[str, Any], precision: str) -> None:
    """Raise a `ValueError` if a training was begun in another precision: it would not end as one that never stopped.

    Args:
        path: its checkpoint.
        saved: what is in it; an older one does not say.
        precision: of this process, as Accelerate names it.
    """
    begun = saved.get("precision", precision)
    if begun != precision:
        raise ValueError(
            f"{path}: begun in precision {begun!r}, and here it is {precision!r}: go on with "
            f"ACCELERATE_MIXED_PRECISION={begun}, or delete it to start the run again"
        )


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, torch.dtype):  # an optimizer may say in which it keeps its momentum
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}  # keys may be numbers
    if isinstance(value, list | tuple):
        return [_pack(item, tensors) for item in value]
    return value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "dtype" in value:
        return getattr(torch, value["dtype"])
    return {key: _unpack(item, tensors) for key, item in value["dict"]}
