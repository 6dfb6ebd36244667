"""How the learning rate of a training rises and falls, from step to step; its peak is the optimizer's."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

_WARM_UP = 10_000  # steps


def one_cycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Up for 5 % of the steps, two at least, and down to nothing, both by a cosine (Smith & Topin, 2019).

    AdamW's β₁, or momentum, falls from 0.95 to 0.85 and rises meanwhile.
    """
    peaks, whole = [group["lr"] for group in optimizer.param_groups], max(4, steps)
    momentum = bool({"momentum", "betas"} & set(optimizer.defaults))
    return OneCycleLR(optimizer, peaks, whole, pct_start=max(0.05, 2 / whole), cycle_momentum=momentum)


def warm_cosine(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Straight up in 10,000 steps, and down to nothing by a cosine; β₁ stays (Steiner et al., 2022, §3).

    A run too short for that warms up for a ninth of its steps, about the share in AugReg's 300 epochs.
    """
    warm = min(_WARM_UP, steps // 9)

    def share(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (steps - warm))

    return LambdaLR(optimizer, share)


SCHEDULES: dict[str, Callable[[Optimizer, int], LRScheduler]] = {"one_cycle": one_cycle, "warm_cosine": warm_cosine}
