"""Generation: the examples of a whole dataset, into the shards of a store.

Offline, once for a teacher. Shards are independent and every random number is keyed by (seed, sample index), so any
number of workers may come and go, and a killed run ends with the same bytes when it is started again. On CPU the
models see tiles of fixed size and place, each on one thread and several at once, whatever the batch size:
floating-point sums depend on the shape of a batch and on the number of threads. On an accelerator several threads
read images and write shards while one at a time computes; codes then agree up to the rounding of `Compute`, and of a
store that is made in bfloat16 one process says on how many, in `agreement.txt`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dadlab.ahead import cores
from dadlab.attack import described
from dadlab.claims import claim, fill
from dadlab.compute import WORTH_COMPILING, Compute, compile_towers, compute_on, largest_batch, with_towers
from dadlab.dataset import Dataset, to_bytes
from dadlab.discretizer import VQGAN, Discretizer, Identity
from dadlab.examples import Made, discretize_adversarially, sample_generators
from dadlab.files import atomic_path
from dadlab.fingerprints import module_fingerprint
from dadlab.profile import Attack
from dadlab.store import AGREEMENT, REASONS, Store, open_store, write_shard
from dadlab.wrappers import device_of

TILE = 64
SHARD = 512


def generate(
    dataset: Dataset,
    teacher: nn.Module,
    discretizer: Discretizer,
    attack: Attack,
    folder: Path,
    *,
    variants: int = 1,
    seed: int = 0,
    compute: Compute | None = None,
) -> Store:
    """Make the missing shards of a store, together with any other process that calls this for the same folder.

    Args:
        dataset: clean photographs x with labels y.
        teacher: φ; where its weights lie is where the work is done.
        discretizer: Q; one with `encode` and `decode` has its codes stored, any other its pixels.
        attack: how x' is made from Q(x).
        folder: where the store lies.
        variants: samples a photograph; variant 0 starts at x, variant v at its v-th replayable view.
        seed: key of the random starts.
        compute: precision, compilation and batch on an accelerator; what suits the device unless told.

    Returns:
        The store with all its shards.

    Raises:
        ValueError: the folder holds another store.
    """
    job = _Job(dataset, teacher, discretizer, attack, variants, seed)
    store = open_store(folder, -(-job.samples // SHARD), job.manifest)
    missing = len(store.missing())
    if missing:
        if isinstance(discretizer, Identity) and 0 < (faint := attack.rms(dataset.images(ROW_ZERO).shape[-1])) < 0.5:
            print(f"x′ differs from x by {faint:.2g}/255 a pixel value, most of which 8 bits round away", flush=True)
        compute = compute_on(job.device) if compute is None else compute
        if missing * SHARD < WORTH_COMPILING:
            compute = dataclasses.replace(compute, compiled=False)
        job, tile = _prepared(job, compute, store.folder / AGREEMENT)
        _fill(store, job, tile, compute.precision)
    return store


def _fill(store: Store, job: _Job, tile: int, precision: str) -> None:
    """Make the shards that are missing, several at once, each by one thread."""

    def make(shard: int) -> None:
        rows = torch.arange(shard * SHARD, min((shard + 1) * SHARD, job.samples))
        parts = [job.columns(part, tile) for part in rows.split(tile)]
        columns = {key: [value for part in parts for value in part[key]] for key in parts[0]}
        write_shard(store, shard, columns, precision=precision)

    threads = torch.get_num_threads()
    at_once = threads if job.device.type == "cpu" else min(8, cores())
    try:
        fill(store.paths, make, "generating shards", threads=at_once, initializer=lambda: torch.set_num_threads(1))
    finally:
        torch.set_num_threads(threads)


def _prepared(exact: _Job, compute: Compute, agreement: Path) -> tuple[_Job, int]:
    """The job as it will be computed, and how many samples at once; below float32 `agreement` says how codes agree."""
    towers = {name: with_towers(getattr(exact, name), compute) for name in ("teacher", "discretizer")}
    job, cpu = dataclasses.replace(exact, **towers), exact.device.type == "cpu"
    tile = TILE if cpu else compute.batch or largest_batch(lambda size: job.columns(ROW_ZERO, size))
    if compute.precision != "float32":
        with claim(agreement) as mine:  # a CPU takes minutes, in which all others generate
            if mine and not agreement.is_file():
                line = _agreement(exact, job)
                with atomic_path(agreement) as temporary:
                    temporary.write_text(f"{line}\n")
                print(line, flush=True)
    if compute.compiled:
        compile_towers(job.teacher, job.discretizer)
    return job, tile


ROW_ZERO = torch.zeros(1, dtype=torch.int64)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What all tiles of a store share; `busy` lets one thread at a time use an accelerator."""

    dataset: Dataset
    teacher: nn.Module
    discretizer: Discretizer
    attack: Attack
    variants: int
    seed: int
    busy: Lock = dataclasses.field(default_factory=Lock)

    @property
    def samples(self) -> int:
        return len(self.dataset) * self.variants

    @property
    def manifest(self) -> dict[str, Any]:
        """What a store of this job must have been made from."""
        weights = module_fingerprint(self.teacher)
        return manifest_of(self.dataset, weights, self.discretizer, self.attack, self.variants, self.seed)

    @property
    def device(self) -> torch.device:
        """Where the teacher's weights lie."""
        return device_of(self.teacher)

    def columns(self, rows: Tensor, tile: int) -> dict[str, list[Any]]:
        """Rows of the store for at most `tile` samples, computed at full tile size."""
        count, gpu = len(rows), self.device.type == "cuda"
        padded = torch.cat([rows, rows[-1:].expand(tile - count)])
        images = read_variants(self.dataset, padded)
        labels = self.dataset.labels[padded % len(self.dataset)]
        generators = sample_generators(padded, self.seed)
        if gpu:
            images, labels = images.pin_memory(), labels.pin_memory()
        free = self.device.type == "cpu" and isinstance(self.discretizer, VQGAN | Identity)  # a pipeline keeps state
        with contextlib.nullcontext() if free else self.busy:
            images, labels = images.to(self.device, non_blocking=gpu), labels.to(self.device, non_blocking=gpu)
            if gpu:
                images = images.contiguous(memory_format=torch.channels_last)  # as towers hand it on
            made = discretize_adversarially(images, labels, self.teacher, self.discretizer, self.attack, generators)
        return _columns(made, rows, len(self.dataset), labels)


def manifest_of(
    dataset: Dataset, teacher: str, discretizer: Discretizer, attack: Attack, variants: int, seed: int = 0
) -> dict[str, Any]:
    """What a store must have been made from; of the teacher its `module_fingerprint` is enough."""
    return {
        "data": dataset.fingerprint,
        "teacher": teacher,
        "discretizer": module_fingerprint(discretizer),
        "attack": described(attack),
        "variants": variants,
        "seed": seed,
        "samples": len(dataset) * variants,
    }


def _agreement(exact: _Job, job: _Job) -> str:
    """A line that says how a store's first samples agree with what a CPU makes of them in float32."""
    rows = torch.arange(min(8, len(exact.dataset)))
    models = {name: copy.deepcopy(getattr(exact, name)).cpu() for name in ("teacher", "discretizer")}
    reference = dataclasses.replace(exact, **models).columns(rows, len(rows))
    found = job.columns(rows, len(rows))
    same = {
        name: np.mean(np.stack(found[name]) == np.stack(reference[name]))
        for name in ("codes", "pixels", "accepted")
        if found[name][0] is not None
    }
    shares = ", ".join(f"{name} {share:.2%}" for name, share in same.items())
    return f"agreement with float32 on a CPU, first {len(rows)} samples: {shares}"


def read_variants(dataset: Dataset, rows: Tensor) -> Tensor:
    """x (B, 3, H, W) of rows of a store, in any order: row r is variant r // N of photograph r % N."""
    index, variant = rows % len(dataset), rows // len(dataset)
    order = variant.argsort(stable=True)
    views = [dataset.images(index[variant == v], v - 1) for v in variant.unique().tolist()]
    return torch.cat(views)[order.argsort()]


def _columns(made: Made, rows: Tensor, photographs: int, labels: Tensor) -> dict[str, list[Any]]:
    count = len(rows)
    columns = {name: getattr(made, name)[:count].cpu() for name in ("accepted", "reason", "distance", "logits")}
    codes = None if made.codes is None else made.codes[:count].flatten(1).cpu().to(torch.uint16)
    pixels = None if made.codes is not None else to_bytes(made.images[:count]).flatten(1).cpu()
    return {
        "index": (rows % photographs).tolist(),
        "variant": (rows // photographs).tolist(),
        "label": labels[:count].tolist(),
        "accepted": columns["accepted"].tolist(),
        "reason": [REASONS[reason] for reason in columns["reason"].tolist()],
        "distance": columns["distance"].tolist(),
        "logits": list(columns["logits"].numpy()),
        "codes": [None] * count if codes is None else list(codes.numpy()),
        "pixels": [None] * count if pixels is None else list(pixels.numpy()),
    }
