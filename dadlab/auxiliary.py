"""Auxiliary batch norm: a second set of statistics and scales, for adversarial images alone (Xie et al., 2020, §4.2).

timm's `SplitBatchNorm2d` does not fit: it halves every batch, where Fast AdvProp's halves are unequal; in eval mode
it knows the clean statistics only, where the attack wants the auxiliary ones; and it does not synchronize over
processes. Here each of the two is a batch norm like any other.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

_M = TypeVar("_M", bound=nn.Module)


class SplitNorm(nn.Module):
    """A batch norm and its auxiliary twin.

    Attributes:
        route: `main` or `auxiliary` for all images of a batch, or how many take the first way, the others the second.
    """

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__()
        self.main, self.auxiliary = norm, copy.deepcopy(norm)
        self.route: str | int = "main"

    def forward(self, images: Tensor) -> Tensor:
        if isinstance(self.route, str):
            return getattr(self, self.route)(images)
        clean, adversarial = images.split([self.route, len(images) - self.route])
        return torch.cat([self.main(clean), self.auxiliary(adversarial)])


def add_auxiliary(student: _M) -> _M:
    """Give every batch norm of a student its twin, in place."""
    for parent in list(student.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, SplitNorm(child))
    return student


def remove_auxiliary(student: _M) -> _M:
    """Leave the main batch norms alone, in place: modules and names are those from before `add_auxiliary`."""
    for parent in list(student.modules()):
        for name, child in parent.named_children():
            if isinstance(child, SplitNorm):
                setattr(parent, name, child.main)
    return student


@contextlib.contextmanager
def routed(student: nn.Module, route: str | int) -> Iterator[None]:
    """Send images through `main`, through `auxiliary`, or the first so many through the one and the rest the other."""
    norms = [module for module in student.modules() if isinstance(module, SplitNorm)]
    for norm in norms:
        norm.route = route
    try:
        yield
    finally:
        for norm in norms:
            norm.route = "main"
