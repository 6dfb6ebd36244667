"""The teacher cache: logits for V replayable views of every sample, so that training never runs the teacher.

One memory-mapped file a view, written whole or not at all; the folder's name is the fingerprint of data and teacher,
so a stale cache is never found.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dadlab.data import Dataset
from dadlab.files import atomic_path, fingerprint, module_fingerprint
from dadlab.progress import track


class TeacherCache:
    """Logits of `views` views: `cache(index, view)` gives (B, C) float32."""

    def __init__(self, files: list[Path]):
        self.views = len(files)
        self._logits = [np.load(path, mmap_mode="r") for path in files]

    def __call__(self, index: Tensor, view: int) -> Tensor:
        return torch.from_numpy(self._logits[view][index.numpy()].astype(np.float32))


def cache_teacher(dataset: Dataset, teacher: nn.Module, folder: Path, *, views: int, batch: int = 256) -> TeacherCache:
    """Compute what is missing of the cache and open it.

    Args:
        dataset: N samples.
        teacher: φ.
        folder: parent of all caches.
        views: V; view v of a sample is `dataset.images(index, v)`.
        batch: samples a forward pass.
    """
    home = Path(folder) / fingerprint(dataset.fingerprint, module_fingerprint(teacher))
    files = [home / f"view-{view:03d}.npy" for view in range(views)]
    missing = [view for view, path in enumerate(files) if not path.is_file()]
    for view in track(missing, f"teacher on {dataset.name}, views"):
        logits = teacher_logits(dataset, teacher, view, batch)
        with atomic_path(files[view]) as temporary, temporary.open("wb") as out:
            np.save(out, logits.half().numpy())
    return TeacherCache(files)


@torch.inference_mode()
def teacher_logits(dataset: Dataset, teacher: nn.Module, view: int, batch: int) -> Tensor:
    """(N, C) logits of one view of every sample."""
    device = next((p.device for p in teacher.parameters()), torch.device("cpu"))
    parts = torch.arange(len(dataset)).split(batch)
    return torch.cat([teacher(dataset.images(rows, view).to(device)).cpu() for rows in parts])
