"""Stores of random rows."""

from pathlib import Path

import numpy as np

from dadlab.store import REASONS, Store, open_store, write_shard

MANIFEST = {"data": "d", "teacher": "t", "attack": {"epsilon": 1.0}}


def rows(start: int, accepted: list[bool], seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    count = len(accepted)
    return {
        "index": list(range(start, start + count)),
        "variant": [0] * count,
        "label": [(start + k) % 10 for k in range(count)],
        "accepted": accepted,
        "reason": [REASONS[0] if yes else REASONS[1 + k % 3] for k, yes in enumerate(accepted)],
        "distance": rng.random(count).astype(np.float32).tolist(),
        "logits": list(rng.random((count, 10)).astype(np.float32)),
        "codes": list(rng.integers(0, 16, (count, 256)).astype(np.uint16)),
        "pixels": [None] * count,
    }


def two_shards(folder: Path) -> Store:
    """Samples 0–3 of which 1 and 3 are accepted, 4–6 of which 4 is."""
    made = open_store(folder, 2, MANIFEST)
    write_shard(made, 1, rows(4, [True, False, False], 1))
    write_shard(made, 0, rows(0, [False, True, False, True]))
    return made
