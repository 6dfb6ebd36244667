"""What each training step sees: a pure function of seed, step and process, so that any step can be drawn again.

An epoch is a permutation of the samples, drawn from seed and epoch; epoch e shows view e mod V. Where views are
mixed, partners are permuted together, so that a mixture's two images are read once.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from dadlab.augmix import augmix
from dadlab.augreg import AugRegViews, pairing
from dadlab.batch import NONE, Batch
from dadlab.materials import Materials, Stream
from dadlab.methods import METHODS
from dadlab.run import Run


class Steps:
    """The steps of a run as one process sees them: `steps[i]` is its part of step i's batch.

    Args:
        run, materials: what is trained, and on what.
        rank, ranks: this process takes every `ranks`-th sample of a batch, beginning with `rank`.

    Raises:
        ValueError: a batch is too small to give every process something to do.
    """

    def __init__(self, run: Run, materials: Materials, rank: int = 0, ranks: int = 1):
        self.run, self.materials, self.rank, self.ranks = run, materials, rank, ranks
        self.second = METHODS[run.method].second
        self.order = functools.lru_cache(2)(self._order)
        self.second_order = functools.lru_cache(2)(self._second_order)
        self.an_epoch = len(self.order(0))
        self.batch = len(self.order(0)[0])  # over all processes
        check_split(self.batch, ranks, run.profile.accumulate)

    def __len__(self) -> int:
        return self.an_epoch * self.run.profile.epochs

    def __getitem__(self, step: int) -> list[Batch]:
        """This process's share of a step, in `accumulate` parts."""
        return [self.part((step, part)) for part in range(self.run.profile.accumulate)]

    def part(self, which: tuple[int, int]) -> Batch:
        """One part of this process's share: of a step by its number, the part by its own."""
        (epoch, place), parts = divmod(which[0], self.an_epoch), self.run.profile.accumulate
        mine = slice(self.rank + which[1] * self.ranks, None, self.ranks * parts)
        return self._batch(self.order(epoch)[place][mine], self.second_order(epoch)[place][mine], *self.views(epoch))

    def _batch(self, rows: Tensor, others: Tensor, view: int, second_view: int) -> Batch:
        images, labels, teacher = _read(self.materials.clean, rows, view)
        second = _read(self.materials.second or self.materials.clean, others, second_view)
        mixed, severity = METHODS[self.run.method].mixtures, self.run.profile.augmix_severity
        mixtures = [augmix(images, rows, view, copy, severity) for copy in range(2 * mixed)]
        return Batch(rows, images, labels, teacher, *second, _laid_out(torch.cat(mixtures)) if mixtures else NONE)

    def views(self, epoch: int) -> tuple[int, int]:
        """The view an epoch shows, and that of the second stream."""
        count = self.run.profile.views
        return epoch % count, (epoch + (0 if self.second == "partner" else count // 2)) % count

    def _order(self, epoch: int) -> list[Tensor]:
        units = _units(self.materials.clean, self.views(epoch)[0])
        return epoch_order(units, self.run.profile.batch, self.run.seed, epoch)

    def _second_order(self, epoch: int) -> list[Tensor]:
        order, second = self.order(epoch), self.materials.second
        if self.second == "partner":
            generator = torch.Generator().manual_seed(self.run.seed * 100_003 + epoch + 70_001)
            return [rows.roll(int(torch.randint(1, max(2, len(rows)), (), generator=generator))) for rows in order]
        if second is None:
            return [rows[:0] for rows in order]
        if second is self.materials.clean:
            return order
        units = _units(second, self.views(epoch)[1])
        return endless_order(units, self.run.profile.batch, self.an_epoch * self.batch, self.run.seed, epoch)


def check_split(batch: int, ranks: int, parts: int) -> None:
    """Raise a `ValueError` unless a batch has a sample for every part of every process."""
    if batch < ranks * parts:
        raise ValueError(
            f"a batch of {batch} cannot be split over {ranks} processes × {parts} parts: "
            "raise batch or limit, or lower accumulate or the number of processes"
        )


def epoch_order(units: Tensor, batch: int, seed: int, epoch: int) -> list[Tensor]:
    """A permutation cut into full batches; a rest smaller than a batch waits for another epoch.

    Args:
        units: (U, n) samples that stay together: n is 1, or 2 for Mixup's pairs.
        batch: samples a batch, a multiple of n.
        seed, epoch: what the permutation is drawn from.
    """
    order = units[torch.randperm(len(units), generator=torch.Generator().manual_seed(seed * 100_003 + epoch))]
    size = batch // units.shape[1]
    return _batches(order[: max(1, len(units) // size) * size], size)


def endless_order(units: Tensor, batch: int, length: int, seed: int, epoch: int) -> list[Tensor]:
    """`length` samples in batches, permutation after permutation."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch + 50_021)
    needed, size = -(-length // units.shape[1]), batch // units.shape[1]
    drawn = torch.cat([torch.randperm(len(units), generator=generator) for _ in range(-(-needed // len(units)))])
    return _batches(units[drawn[:needed]], size)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """All first halves of a batch's pairs, then all second ones: every n-th sample then keeps its partner."""
    return [part.T.reshape(-1) for part in order.split(size)]


def _units(stream: Stream, view: int) -> Tensor:
    mixed = isinstance(stream.dataset, AugRegViews) and stream.dataset.recipe.mixup and len(stream.dataset) > 1
    return pairing(len(stream.dataset), view) if mixed else torch.arange(len(stream.dataset))[:, None]


def _read(stream: Stream, rows: Tensor, view: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and teacher logits of some samples; all empty for no sample."""
    if not len(rows):
        return NONE, NONE, NONE
    return _laid_out(stream.dataset.images(rows, view)), stream.targets(rows, view), stream.logits(rows, view)


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
