"""Files that are never half written: atomic writes, arrays kept once, safetensors that carry their configuration."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]  # of the project
_M = TypeVar("_M", bound=torch.nn.Module)
_LONGEST_HEADER = 100_000_000  # bytes that safetensors allows


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place only if the block ends without an error.

    It is on the disk before it takes it, so that a machine that fails leaves the old file or the new one, never part.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def save_weights(path: Path, state: dict[str, Tensor], config: dict[str, Any], *, half: bool = True) -> None:
    """Write safetensors, half precision unless told, with the configuration that rebuilds the module in the header."""
    tensors = {k: (v.half() if half and v.is_floating_point() else v).contiguous().clone() for k, v in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"config": json.dumps(config, sort_keys=True)})


def check_file(path: Path, absent: str = "") -> None:
    """Raise a `ValueError` that says what a file is if at first sight it is no checkpoint, or how one is had."""
    if not path.is_file():
        raise ValueError(f"{path}: weights not found" + (f"; {absent}" if absent else ""))
    with path.open("rb") as opened:
        start = opened.read(512)
    head, size = start.lstrip(), path.stat().st_size
    if not head:
        raise ValueError(f"{path}: empty file; fetch it again")
    if start[8:9] == b"{":  # safetensors: the length of its header, and the header
        if size < 8 + int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
            raise ValueError(f"{path}: truncated after {size:,} bytes; fetch it again")
        return
    if head.startswith(b"<"):
        raise ValueError(f"{path}: a web page, not a checkpoint: the link leads elsewhere; fetch it in a browser")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: a Git LFS pointer, not the checkpoint itself; run `git lfs pull`")
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: truncated after {size:,} bytes; fetch it again")
    if path.suffix == ".safetensors" and head.startswith((b"PK", b"\x80\x02")):
        raise ValueError(f"{path}: a pickled checkpoint, not safetensors; name it .ckpt or .pth")


def load_weights(
    path: Path, otherwise: str = "write it with dadlab.files.save_weights", absent: str = ""
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_weights` wrote, back in single precision.

    Args:
        path: the file.
        otherwise: what to do with a file that has no configuration, for the message.
        absent: how to have a file that is not there.

    Raises:
        ValueError: the file is missing, another kind of file, damaged, or has no configuration in its header.
    """
    path = Path(path)
    check_file(path, absent)
    try:
        with safetensors.safe_open(path, "pt") as opened:
            config = (opened.metadata() or {}).get("config")
        state = load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file, perhaps truncated ({error})") from None
    if config is None:
        raise ValueError(f"{path}: no configuration in the header; {otherwise}")
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, json.loads(config)


def fill(path: Path, build: Callable[[], _M], state: dict[str, Tensor]) -> _M:
    """Build a module and load its weights.

    Raises:
        ValueError: the file's configuration or weights are of another kind; names the file and the first difference.
    """
    try:
        module = build()
    except (TypeError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: weights of another kind or configuration ({reason})") from None
    if problems := misfit(module.state_dict(), state):
        raise ValueError(f"{path}: weights of another kind or configuration ({problems})")
    module.load_state_dict(state)
    return module


def misfit(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    """How `found` differs from `wanted` in keys and shapes, in one line; empty if it does not."""
    absent = [key for key in wanted if key not in found]
    extra = [key for key in found if key not in wanted]
    shapes = [
        f"{key} is {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    kinds = (("missing", absent), ("unexpected", extra), ("misshapen", shapes))
    return "; ".join(f"{len(keys)} {kind}, first {keys[0]}" for kind, keys in kinds if keys)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a `.npy` file, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        np.save(out, array)


def kept_array(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array made once and kept in a `.npy` file."""
    if not path.is_file():
        write_array(path, make())
    return np.load(path)


def kept_arrays(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name, made once and kept in a `.npz` file."""
    if not path.is_file():
        made = make()
        with atomic_path(path) as temporary, temporary.open("wb") as out:
            np.savez_compressed(out, **made)  # type: ignore[arg-type]  # numpy's stub takes arrays for options
    with np.load(path) as found:
        return dict(found)
