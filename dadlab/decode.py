"""From a store's rows to pixels again: codes through the decoder, or pixels as they are where Q has no codes."""

from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset as HubDataset
from torch import Tensor

from dadlab.dataset import Dataset, to_bytes
from dadlab.discretizer import VQGAN, Discretizer
from dadlab.progress import track

_AT_ONCE = 64  # samples


def stored_column(discretizer: Discretizer) -> str:
    """The column of a store that a discretizer's samples are in: `codes`, or `pixels` where it has no codes."""
    return "codes" if isinstance(discretizer, VQGAN) else "pixels"


def accepted_rows(dataset: HubDataset) -> np.ndarray:
    """Positions (M,) of a store's accepted rows.

    Raises:
        ValueError: nothing was accepted.
    """
    rows = np.flatnonzero(dataset.with_format("numpy")["accepted"][:])
    if not len(rows):
        raise ValueError("the teacher kept no discretized sample: lower epsilon or check the teacher on this data")
    return rows


@torch.inference_mode()
def materialize(dataset: HubDataset, discretizer: Discretizer, source: Dataset) -> Dataset:
    """Draw the accepted samples again from their codes: a `Dataset` like any other.

    Raises:
        ValueError: nothing was accepted.
    """
    kept = dataset.select(accepted_rows(dataset)).with_format("numpy")
    labels = torch.from_numpy(np.asarray(kept["label"][:], dtype=np.int64))
    stored = torch.from_numpy(np.stack(kept[stored_column(discretizer)][:]))
    parts = track(stored.split(_AT_ONCE), f"drawing samples, batches of {_AT_ONCE}")
    pixels = torch.cat([draw(part, discretizer) for part in parts])
    return Dataset(f"{source.name} discretized", source.classes, pixels, labels)


@torch.inference_mode()
def draw(rows: Tensor, discretizer: Discretizer) -> Tensor:
    """Pixels (B, 3, S, S) uint8 of a store's rows: codes (B, h·w), or for a discretizer without codes (B, 3·S·S).

    Computed where the discretizer's weights lie, 64 samples at a time; images are square.
    """
    if not isinstance(discretizer, VQGAN):
        return rows.view(len(rows), 3, *_square(rows.shape[1] // 3))
    return torch.cat([to_bytes(decoded(part, discretizer)).cpu() for part in rows.split(_AT_ONCE)])


def decoded(codes: Tensor, discretizer: VQGAN) -> Tensor:
    """Images (B, 3, S, S) in [0, 1] of a store's codes (B, h·w), on the device of the discretizer's weights."""
    grid = codes.long().view(len(codes), *_square(codes.shape[1]))
    return discretizer.decode(grid.to(discretizer.quantize.embedding.weight.device))


def _square(area: int) -> tuple[int, int]:
    side = round(area**0.5)
    return side, side
