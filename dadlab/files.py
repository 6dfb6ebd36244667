"""Files that are never half written: atomic writes, fingerprints, safetensors that carry their configuration."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_M = TypeVar("_M", bound=torch.nn.Module)
_MODEL_FILE = re.compile(r"((?:open_clip|timm):(?:local-dir:|[^/:]+/)|diffus(?:ers|ion)(?:-text)?(?:-class)?:)(.+)")
# Names of the package's own.
_OURS = re.compile(r"fashion|resnet|vit|studio|broad|identity|pretrained|diffusion(?:-\w+)*")
BESIDE = {"open_clip": "open_clip_config.json", "timm": "config.json"}  # weights, what else says what they are
_DATA = re.compile(r"((?:imagenet|hf|hf-stream):)(.+)")
_SLOW_TO_READ = 2**26
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


def fingerprint(*parts: Any) -> str:
    """Twelve hex digits that stand for the given values; tensors count by their bytes."""
    digest = hashlib.sha256()
    for position, part in enumerate(parts):
        if position:
            digest.update(b"\0")
        if isinstance(part, Tensor):
            part = part.detach().cpu().contiguous()
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            digest.update(part.flatten().view(torch.uint8).numpy().data)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:12]


def module_fingerprint(module: torch.nn.Module) -> str:
    """Fingerprint of a module's weights and buffers, whatever file they came from."""
    return fingerprint(*(part for item in sorted(module.state_dict().items()) for part in item))


def content_of(name: str) -> str:
    """A name as it is, or, if it is the path of a file or folder, a stamp of what lies there now.

    Folders count by the names, sizes and times of their files, links followed, hidden ones left out. In
    `open_clip:MODEL/PATH`, `timm:MODEL/PATH`, `…:local-dir:PATH`, `diffusers:PATH` and `diffusion:PATH` the path counts
    so, the rest by name; with weights the configuration beside them, which decides how they are read. A name of the
    package's own is that, whatever lies in the working directory; `./studio` is a path.

    Raises:
        ValueError: a link in a folder leads nowhere.
    """
    if _OURS.fullmatch(name):
        return name
    model, path = "", Path(name)
    if (match := _MODEL_FILE.fullmatch(name)) and not path.exists():
        model, path = match[1], Path(match[2])
    if path.is_file():
        beside = path.parent / BESIDE.get(model.partition(":")[0], "")
        return model + "-".join(sha256(file)[:12] for file in (path, beside) if file.is_file())
    if path.is_dir() and not model.endswith("/"):
        return model + fingerprint(sorted(_listing(path)))
    return name


def _listing(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of every file with a suffix below a folder, as its reader sees them: through links."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(root))
        folders[:] = [f for f in folders if f[0] != "." and os.path.realpath(os.path.join(root, f)) not in seen]
        for file in (Path(root, name) for name in files if name[0] != "." and "." in name):
            try:
                stat = file.stat()
            except FileNotFoundError:
                raise ValueError(f"{file}: a link that leads nowhere; mend or remove it") from None
            yield str(file.relative_to(folder)), stat.st_size, stat.st_mtime_ns


def public(name: str) -> str:
    """A name as it is, without the folders of a path in it: a card shows nobody's.

    >>> public("open_clip:ViT-L-14//home/jane/x.pt"), public("imagenet:/home/jane/images"), public("timm:resnet50")
    ('open_clip:ViT-L-14/x.pt', 'imagenet:images', 'timm:resnet50')
    """
    model, place = match.groups() if (match := _MODEL_FILE.fullmatch(name) or _DATA.fullmatch(name)) else ("", name)
    path = Path(place)
    return model + path.name if path.is_absolute() or path.exists() else name


def sha256(path: Path) -> str:
    """SHA-256 of a file; large files are read again only if their size or time changed."""
    found = Path(path).stat()
    if found.st_size < _SLOW_TO_READ:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return _sha256(str(Path(path).resolve()), found.st_size, found.st_mtime_ns)


@functools.lru_cache
def _sha256(path: str, size: int, time: int) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def save_weights(path: Path, state: dict[str, Tensor], config: dict[str, Any], *, half: bool = True) -> None:
    """Write safetensors, half precision unless told, with the configuration that rebuilds the module in the header."""
    tensors = {k: (v.half() if half and v.is_floating_point() else v).contiguous().clone() for k, v in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"config": json.dumps(config, sort_keys=True)})


def check_file(path: Path) -> None:
    """Raise a `ValueError` that says what a file is if at first sight it is no checkpoint."""
    if not path.is_file():
        raise ValueError(f"{path}: weights not found")
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
    path: Path, otherwise: str = "write it with dadlab.files.save_weights"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_weights` wrote, back in single precision.

    Args:
        path: the file.
        otherwise: what to do with a file that has no configuration, for the message.

    Raises:
        ValueError: the file is missing, another kind of file, damaged, or has no configuration in its header.
    """
    path = Path(path)
    check_file(path)
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


def save_training(path: Path, parts: Sequence[Any], step: int) -> None:
    """Checkpoint everything with a `state_dict` (model, optimizer, schedule), random state, and the steps done."""
    with atomic_path(path) as temporary:
        content = {"step": step, "rng": torch.get_rng_state(), "state": [part.state_dict() for part in parts]}
        torch.save(content, temporary)


def restore_training(path: Path, parts: Sequence[Any]) -> int:
    """Restore what `save_training` wrote; returns the steps done, 0 where there is no checkpoint."""
    if not path.is_file():
        return 0
    saved = torch.load(path, weights_only=True, map_location="cpu")
    for part, content in zip(parts, saved["state"], strict=True):
        part.load_state_dict(content)
    torch.set_rng_state(saved["rng"])
    return int(saved["step"])
