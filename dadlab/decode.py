"""From a store's rows to pixels again: codes through the decoder, or the pixels that a Q without codes left."""

from __future__ import annotations

import numpy as np
import torch
from datasets import Dataset as HubDataset
from torch import Tensor

from dadlab.dataset import Dataset, to_bytes
from dadlab.discretizer import VQGAN, Discretizer
from dadlab.progress import track


@torch.inference_mode()
def materialize(dataset: HubDataset, discretizer: Discretizer, source: Dataset) -> Dataset:
    """Draw the accepted samples again from their codes: a `Dataset` like any other.

    Raises:
        ValueError: nothing was accepted.
    """
    kept = dataset.select(np.flatnonzero(dataset["accepted"])).with_format("numpy")
    if not len(kept):
        raise ValueError("the teacher kept no discretized sample: lower epsilon or check the teacher on this data")
    labels = torch.from_numpy(np.asarray(kept["label"][:], dtype=np.int64))
    if isinstance(discretizer, VQGAN):
        codes = torch.from_numpy(np.stack(kept["codes"][:]).astype(np.int64))
        parts = track(codes.split(64), "drawing samples, batches of 64")
        pixels = torch.cat([draw(part, discretizer) for part in parts])
    else:
        pixels = draw(torch.from_numpy(np.stack(kept["pixels"][:])), discretizer)
    return Dataset(f"{source.name} discretized", source.classes, pixels, labels)


@torch.inference_mode()
def draw(rows: Tensor, discretizer: Discretizer) -> Tensor:
    """Pixels (B, 3, S, S) uint8 of a store's rows: codes (B, h·w), or for a discretizer without codes (B, 3·S·S).

    Computed where the discretizer's weights lie; images are square.
    """
    if not isinstance(discretizer, VQGAN):
        return rows.view(len(rows), 3, *[round((rows.shape[1] / 3) ** 0.5)] * 2)
    codes = rows.view(len(rows), *[round(rows.shape[1] ** 0.5)] * 2)
    return to_bytes(discretizer.decode(codes.to(discretizer.quantize.embedding.weight.device))).cpu()
