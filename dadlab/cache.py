"""The teacher cache: logits for V replayable views of every sample, so that training never runs the teacher.

Half precision, memory-mapped, in shards that are written whole or not at all: any number of processes may fill one
cache, and each can be killed at any moment. The folder's name is the fingerprint of data and teacher; a cache whose
views are no longer drawn as they were is refused, as far as the first view of four samples tells.

With `top` = k, a sample keeps its k largest logits and the mean of exp(φ/T) over all others, at the temperature T of
the losses. Read back, the others share one logit: softmax(φ/T) is as it was for the top k, and what is left of it is
spread evenly. The gradient of T² · KL is T · (softmax(θ/T) − softmax(φ/T)), so it too is exact for the top k (up to
half precision); among the others it errs by their distance from their mean. At T = 4 that is most of it where classes
are many: of normal logits with σ = 2.5 for 1,000 classes the top 64 hold 82 % of softmax(φ) and 19 % of softmax(φ/4).
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab.ahead import ahead, usual_workers
from dadlab.claims import Claims, clear, sweep, together, write_once
from dadlab.files import write_array, write_json
from dadlab.fingerprints import fingerprint, module_fingerprint
from dadlab.progress import track
from dadlab.wrappers import device_of

Place = tuple[int, int]  # view, shard
SHARD = 16_384  # samples: 33 MB at 1,000 classes, seconds of work for a large teacher


class Samples(Protocol):
    """What a cache needs to know of a dataset."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    def __len__(self) -> int: ...
    def images(self, index: Tensor, view: int = -1) -> Tensor: ...


class TeacherCache:
    """Logits of `views` views: `cache(index, view)` gives (B, C) float32."""

    def __init__(self, home: Path, views: int, samples: int, classes: int, temperature: float = 1.0):
        self.home, self.views, self.samples, self.classes = home, views, samples, classes
        self.temperature = temperature
        self._open: dict[Path, np.ndarray] = {}

    def path(self, view: int, shard: int) -> Path:
        return self.home / f"view-{view:03d}-{shard:05d}.npy"

    def shards(self) -> list[Place]:
        """Every (view, shard)."""
        return [(view, shard) for view in range(self.views) for shard in range(-(-self.samples // SHARD))]

    def missing(self) -> list[Place]:
        return [place for place in self.shards() if not self.path(*place).is_file()]

    def rows(self, shard: int) -> Tensor:
        return torch.arange(shard * SHARD, min((shard + 1) * SHARD, self.samples))

    def __call__(self, index: Tensor, view: int) -> Tensor:
        found = torch.empty(len(index), self.classes)
        for shard in (index // SHARD).unique().tolist():
            chosen = index // SHARD == shard
            rows = self._shard(self.path(view, shard))[(index[chosen] - shard * SHARD).numpy()]
            found[chosen] = _spread(rows, self.classes) if rows.dtype.names else _full(rows)
        return found

    def _shard(self, path: Path) -> np.ndarray:
        if path not in self._open:
            try:
                self._open[path] = _mapped(path)
            except (OSError, ValueError) as error:
                raise ValueError(f"{path}: unreadable shard ({error}); delete it to have it made again") from None
        return self._open[path]


def cache_teacher(
    dataset: Samples,
    teacher: nn.Module,
    folder: Path,
    *,
    views: int,
    top: int = 0,
    temperature: float = 1.0,
    batch: int = 256,
) -> TeacherCache:
    """Compute what is missing of the cache, together with whoever else does, and open it.

    Args:
        dataset: N samples.
        teacher: φ.
        folder: parent of all caches.
        views: V; view v of a sample is `dataset.images(index, v)`.
        top: keep so many logits a sample and the mass of the rest; 0 keeps all.
        temperature: T at which the rest's mass is kept.
        batch: samples a forward pass.

    Raises:
        ValueError: `top` is not below the number of classes; or the dataset no longer draws the views it was made of.
    """
    cache = open_cache(dataset, teacher_fingerprint(teacher), folder, views=views, top=top, temperature=temperature)
    said = f"teacher on {dataset.name}, shards of views"
    together(cache.missing, lambda left: _fill(cache, dataset, teacher, top, batch, track(left, said)), said)
    sweep(cache.home)
    return cache


def open_cache(
    dataset: Samples, teacher: str, folder: Path, *, views: int, top: int = 0, temperature: float = 1.0
) -> TeacherCache:
    """The cache of a teacher with this `teacher_fingerprint`, begun if need be; shards may be missing.

    Raises:
        ValueError: as `cache_teacher`.
    """
    check_top(top, len(dataset.classes))
    kept = [top, temperature] if top else []
    home = Path(folder) / fingerprint(dataset.fingerprint, teacher, *kept)
    cache = TeacherCache(home, views, len(dataset), len(dataset.classes), temperature)
    _check(dataset, cache)
    return cache


def check_top(top: int, classes: int) -> None:
    """Raise a `ValueError` unless so many logits of a sample leave others to summarize."""
    if top >= classes:
        raise ValueError(f"top_logits {top}: must be below the number of classes, {classes}; 0 keeps all")


def teacher_fingerprint(teacher: nn.Module) -> str:
    """Weights, structure, preprocessing and class names: what decides a teacher's answer."""
    derived = getattr(teacher, "derived", ())
    buffers = [part for item in sorted(teacher.named_buffers()) if item[0] not in derived for part in item]
    return fingerprint(module_fingerprint(teacher), repr(teacher), *buffers)


@torch.inference_mode()
def asked(teacher: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, C) on the CPU; of a teacher on a GPU computed in half precision, as they are stored.

    A batch that overflows it, as a network trained in bfloat16 may, is asked again in single precision.
    """
    device = device_of(teacher)
    images = images.to(device, non_blocking=True)
    for half in (True, False) if device.type == "cuda" else (False,):
        with torch.autocast(device.type, torch.float16, enabled=half):
            logits = teacher(images).float().cpu()
        if logits.isfinite().all():
            break
    return logits


def _fill(
    cache: TeacherCache, dataset: Samples, teacher: nn.Module, top: int, batch: int, places: Iterable[Place]
) -> int:
    """Make the shards that no other process makes now, in one stream of batches: no reader stops between two of them.

    Returns how many.
    """

    def batches() -> Iterator[tuple[Place, Tensor]]:
        for place in places:
            if claims.take(cache.path(*place)):
                yield from ((place, rows) for rows in cache.rows(place[1]).split(batch))

    made = 0
    with Claims() as claims:
        stream = ahead(functools.partial(_read, dataset), batches(), usual_workers())
        for (view, shard), parts in itertools.groupby(stream, key=operator.itemgetter(0)):
            path = cache.path(view, shard)
            clear(path)
            logits = torch.cat([asked(teacher, images) for _, images in parts])
            if not logits.half().isfinite().all():
                raise ValueError(f"{cache.home}: the teacher's answers overflow half precision; scale them")
            write_array(path, _summary(logits, top, cache.temperature) if top else logits.half().numpy())
            claims.give_back(path)
            made += 1
    return made


def _read(dataset: Samples, what: tuple[Place, Tensor]) -> tuple[Place, Tensor]:
    place, rows = what
    return place, dataset.images(rows, place[0])


def _mapped(path: Path) -> np.ndarray:
    """What `np.save` wrote, memory-mapped; the file is closed again, where numpy's own map holds it open."""
    found = np.load(path, mmap_mode="r")
    with pa.memory_map(str(path)) as opened:
        return np.frombuffer(opened.read_buffer(), found.dtype, found.size, found.offset).reshape(found.shape)


def _summary(logits: Tensor, top: int, temperature: float) -> np.ndarray:
    """The k largest logits, their classes, and the logit that all others share; (N,) of a record."""
    order = logits.argsort(dim=1, descending=True, stable=True)
    values, others = logits.gather(1, order[:, :top]), logits.gather(1, order[:, top:])
    shared = temperature * ((others / temperature).logsumexp(1, keepdim=True) - math.log(others.shape[1]))
    record = np.dtype([("logits", np.float16, top + 1), ("classes", np.uint16, top)])
    rows = np.empty(len(logits), record)
    rows["logits"], rows["classes"] = torch.cat([values, shared], 1).numpy(), order[:, :top].numpy()
    return rows


def _spread(rows: np.ndarray, classes: int) -> Tensor:
    values = torch.from_numpy(rows["logits"].astype(np.float32))
    where = torch.from_numpy(rows["classes"].astype(np.int64))
    return values[:, -1:].repeat(1, classes).scatter_(1, where, values[:, :-1])


def _full(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows.astype(np.float32))


def _check(dataset: Samples, cache: TeacherCache) -> None:
    """Begin a cache's manifest, or refuse one whose samples or views are not today's."""
    rows = torch.arange(0, len(dataset), max(1, len(dataset) // 4))[:4]
    probe = F.adaptive_avg_pool2d(dataset.images(rows, 0), 4).flatten().tolist()
    today = {"samples": len(dataset), "classes": cache.classes, "probe": [round(value, 4) for value in probe]}
    path = cache.home / "manifest.json"
    write_once(path, lambda: write_json(path, today))
    made = json.loads(path.read_text())
    same = all(made.get(key) == today[key] for key in ("samples", "classes"))
    if not same or not np.allclose(made["probe"], probe, atol=0.02):
        raise ValueError(f"{cache.home}: stale: the views of these samples are drawn differently today; delete it")
