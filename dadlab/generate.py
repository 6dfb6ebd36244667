"""Generation: x → Q(x) → x' → Q(x') → keep where the teacher still says y (Zhou et al., 2023, §3.3).

Offline, once for a teacher. Shards are independent and every random number is keyed by (seed, sample index), so any
number of workers may come and go, and a killed run ends with the same bytes when it is started again. On CPU the
models see tiles of fixed size and place, each on one thread and several at once, whatever the batch size:
floating-point sums depend on the shape of a batch and on the number of threads.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dadlab.attack import perturb
from dadlab.data import Dataset
from dadlab.discretizer import VQGAN, Discretizer
from dadlab.files import module_fingerprint
from dadlab.profile import Attack
from dadlab.progress import track
from dadlab.store import REASONS, Store, open_store, to_bytes, write_shard
from dadlab.views import counter_hash

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
    batch: int = TILE,
    worker: int = 0,
    workers: int = 1,
) -> Store:
    """Make the missing shards of this worker's part of the store.

    Args:
        dataset: clean photographs x with labels y.
        teacher: φ.
        discretizer: Q; one with `encode` and `decode` has its codes stored, any other its pixels.
        attack: how x' is made from Q(x).
        folder: where the store lies.
        variants: samples a photograph; variant 0 starts at x, variant v at its v-th replayable view.
        seed: key of the random starts.
        batch: samples computed at once on an accelerator.
        worker, workers: this worker takes every `workers`-th shard, beginning with `worker`.

    Raises:
        ValueError: the folder holds another store.
    """
    if not 0 <= worker < workers:
        raise ValueError(f"worker {worker} of {workers}: workers count from 0 to {workers - 1}")
    samples = len(dataset) * variants
    manifest = {
        "data": dataset.fingerprint,
        "teacher": module_fingerprint(teacher),
        "discretizer": module_fingerprint(discretizer),
        "attack": dataclasses.asdict(attack),
        "variants": variants,
        "seed": seed,
        "samples": samples,
    }
    store = open_store(folder, -(-samples // SHARD), manifest)
    mine = [shard for shard in store.missing() if shard % workers == worker]
    device = next((p.device for p in teacher.parameters()), torch.device("cpu"))
    tile = TILE if device.type == "cpu" else batch

    def make(shard: int) -> None:
        rows = torch.arange(shard * SHARD, min((shard + 1) * SHARD, samples))
        parts = [_tile(dataset, teacher, discretizer, attack, part, tile, seed, device) for part in rows.split(tile)]
        write_shard(store, shard, {key: [value for part in parts for value in part[key]] for key in parts[0]})

    threads = torch.get_num_threads()
    cores = threads if device.type == "cpu" else 1
    try:
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in track(pool.map(make, mine), "generating shards", len(mine)):
                pass
    finally:
        torch.set_num_threads(threads)
    return store


def _tile(
    dataset: Dataset,
    teacher: nn.Module,
    discretizer: Discretizer,
    attack: Attack,
    rows: Tensor,
    tile: int,
    seed: int,
    device: Any,
) -> dict[str, list[Any]]:
    """Rows of the store for at most `tile` samples, computed at full tile size."""
    padded = torch.cat([rows, rows[-1:].expand(tile - len(rows))])
    index, variant = padded % len(dataset), padded // len(dataset)
    images = torch.cat([dataset.images(i[None], int(v) - 1) for i, v in zip(index, variant, strict=True)])
    generators = sample_generators(padded, seed)
    made = discretize_adversarially(
        images.to(device), dataset.labels[index].to(device), teacher, discretizer, attack, generators
    )
    count = len(rows)
    columns = {name: getattr(made, name)[:count].cpu() for name in ("accepted", "reason", "distance", "logits")}
    codes = None if made.codes is None else made.codes[:count].flatten(1).cpu().to(torch.uint16)
    pixels = None if made.codes is not None else to_bytes(made.images[:count]).flatten(1).cpu()
    return {
        "index": index[:count].tolist(),
        "variant": variant[:count].tolist(),
        "label": dataset.labels[index[:count]].tolist(),
        "accepted": columns["accepted"].tolist(),
        "reason": [REASONS[reason] for reason in columns["reason"].tolist()],
        "distance": columns["distance"].tolist(),
        "logits": list(columns["logits"].numpy()),
        "codes": [None] * count if codes is None else list(codes.numpy()),
        "pixels": [None] * count if pixels is None else list(pixels.numpy()),
    }


def sample_generators(rows: Tensor, seed: int) -> list[torch.Generator]:
    """One generator a sample, keyed by (seed, row)."""
    keys = (counter_hash(rows, 2**20 + seed) >> 1).tolist()
    return [torch.Generator().manual_seed(key) for key in keys]


@dataclasses.dataclass(frozen=True)
class Made:
    """A batch on its way through DAD: every stage, for stores and figures alike.

    Attributes:
        clean: x (B, 3, H, W).
        reconstructed: Q(x).
        perturbed: x'.
        images: Q(x').
        codes: (B, h, w) of Q(x'), or None where Q has no codes.
        logits: φ(Q(x')) (B, C).
        reason: (B,) position in `REASONS`.
        distance: ‖Q(x') − x‖₂ (B,).
    """

    clean: Tensor
    reconstructed: Tensor
    perturbed: Tensor
    images: Tensor
    codes: Tensor | None
    logits: Tensor
    reason: Tensor
    distance: Tensor

    @property
    def accepted(self) -> Tensor:
        return self.reason == 0


def discretize_adversarially(
    images: Tensor,
    labels: Tensor,
    teacher: nn.Module,
    discretizer: Discretizer,
    attack: Attack,
    generators: list[torch.Generator],
) -> Made:
    """One batch of DAD samples: discretize, perturb against the teacher, discretize again, judge.

    Args:
        images: x (B, 3, H, W) in [0, 1].
        labels: y (B,).
        teacher: φ.
        discretizer: Q.
        attack: how x' is made from Q(x).
        generators: one a sample.
    """
    with torch.no_grad():
        reconstructed = discretizer(images)
    through = discretizer.straight_through if attack.through else None
    perturbed = perturb(teacher, reconstructed, labels, attack, generators, through=through)
    with torch.no_grad():
        if isinstance(discretizer, VQGAN):
            codes = discretizer.encode(perturbed)
            final = discretizer.decode(codes)
        else:
            codes, final = None, discretizer(perturbed)
        logits = teacher(final)
        kept = logits.argmax(1) == labels
        wrong = teacher(images).argmax(1) != labels
        lost = teacher(reconstructed).argmax(1) != labels
        reason = torch.where(kept, 0, torch.where(wrong, 1, torch.where(lost, 2, 3)))
    distance = (final - images).flatten(1).norm(dim=1)
    return Made(images, reconstructed, perturbed, final, codes, logits, reason, distance)
