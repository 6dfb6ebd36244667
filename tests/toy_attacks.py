"""A small batch, and what a method shows a student of it."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from dadlab.batch import Batch, Tools
from dadlab.methods import METHODS
from dadlab.profile import Attack, Profile

PROFILE = Profile(temperature=2.0, alpha=0.25, attack=Attack(epsilon=1.0, step_size=1.0))


def drawn(count: int) -> Batch:
    generator = torch.Generator().manual_seed(1)

    def half() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images = torch.rand(count, 3, 32, 32, generator=generator)
        return images, torch.arange(count) % 3, torch.randn(count, 3, generator=generator)

    return Batch(torch.arange(count), *half(), *half())


class Seen(nn.Module):
    """A student that notes what it is shown: images, and whether it was in training mode."""

    def __init__(self, student: nn.Module):
        super().__init__()
        self.student, self.shown = student, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(SimpleNamespace(images=images.detach(), training=self.training))
        return self.student(images)


def shown(name: str, batch: Batch, tools: Tools) -> list[torch.Tensor]:
    """What the update sees; the attack asks the bare network."""
    seen = Seen(tools.network)
    METHODS[name].loss(seen, batch, tools)
    return [show.images for show in seen.shown]
