"""Fingerprints: what decides a number, in twelve digits; a file or folder counts by what lies there now.

Runs, stores and caches are found again by these, so whatever changes a model's answers has to change them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_MODEL_FILE = re.compile(r"((?:open_clip|timm):(?:local-dir:|[^/:]+/)|diffus(?:ers|ion)(?:-text)?(?:-class)?:)(.+)")
# Names of the package's own.
_OURS = re.compile(r"fashion|resnet|vit|studio|broad|identity|pretrained|diffusion(?:-\w+)*")
BESIDE = {"open_clip": "open_clip_config.json", "timm": "config.json"}  # weights, what else says what they are
_DATA = re.compile(r"((?:imagenet|hf|hf-stream):)(.+)")
_SLOW_TO_READ = 2**26


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


def _listing(folder: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of every file with a suffix below a folder, as its reader sees them: through links."""
    here = os.path.realpath(folder)
    if here in above:
        return  # a link back
    with os.scandir(folder) as opened:
        entries = [entry for entry in opened if not entry.name.startswith(".")]
    for entry in entries:
        if entry.is_dir():
            below = _listing(Path(entry.path), (*above, here))
            yield from ((f"{entry.name}/{name}", size, time) for name, size, time in below)
        elif "." in entry.name:
            try:
                found = entry.stat()
            except FileNotFoundError:
                raise ValueError(f"{entry.path}: a link that leads nowhere; mend or remove it") from None
            yield entry.name, found.st_size, found.st_mtime_ns


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
