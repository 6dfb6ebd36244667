"""Gradient masking: does a network look robust only because its gradients mislead the attack?

Signs of Athalye, Carlini & Wagner (2018, §3.1): single steps, black-box attacks or random ones beat many white-box
steps, an unbounded attack fails, a larger ε does not help: theirs does not fool more, here the loss does not rise.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab.dataset import Dataset
from dadlab.under_attack import fgsm, noise, pgd
from dadlab.wrappers import device_of

SLACK = 0.02


def masking(model: nn.Module, dataset: Dataset, epsilon: float, *, surrogate: nn.Module) -> str:
    """Look for signs of gradient masking: one line that says what was found.

    Signs: FGSM, examples of another network, or noise beat PGD; PGD's loss does not rise with ε; an attack that may
    draw any image leaves some right. A sign of less than `SLACK` (a share of samples, or of the loss) does not count.

    Args:
        model: what is defended.
        dataset: clean samples; a hundred or two will do.
        epsilon: radius of the comparisons, L∞.
        surrogate: another network of the same classes, whose examples are transferred.
    """
    device = device_of(model)
    rows = torch.arange(len(dataset))
    images, labels = dataset.images(rows).to(device), dataset.labels.to(device)
    given = (images, labels, epsilon, "linf", rows)
    share = {
        "PGD": _right(model, pgd(model, *given), labels),
        "FGSM": _right(model, fgsm(model, *given), labels),
        "transfer": _right(model, pgd(surrogate, *given), labels),
        "noise": _right(model, noise(model, *given), labels),
    }
    radii = [epsilon * factor for factor in (0.25, 0.5, 1, 2)]
    losses = [_loss(model, pgd(model, images, labels, radius, "linf", rows), labels) for radius in radii]
    free = _right(model, pgd(model, images, labels, 1.0, "linf", rows, steps=100), labels)
    signs = [f"{name} beats PGD" for name, value in share.items() if value < share["PGD"] - SLACK]
    if any(after < before * (1 - SLACK) for before, after in itertools.pairwise(losses)):
        signs.append("the loss does not rise with ε")
    if free > SLACK:
        signs.append(f"an unbounded attack leaves {100 * free:.1f} % right")
    numbers = ", ".join(f"{name} {100 * value:.1f} %" for name, value in share.items())
    rise = " → ".join(f"{loss:.2f}" for loss in losses)
    verdict = "gradient masking: " + "; ".join(signs) if signs else "no sign of gradient masking"
    return f"{verdict} (right at ε = {epsilon:.4g}: {numbers}; loss {rise}; unbounded {100 * free:.1f} %)"


@torch.no_grad()
def _right(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((model(images).argmax(1) == labels).float().mean())


@torch.no_grad()
def _loss(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float(F.cross_entropy(model(images), labels))
