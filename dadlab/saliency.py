"""Where a network looks: Grad-CAM for convolutional ones, attention rollout for transformers.

Both work on any timm classifier whose `forward_features` and `forward_head` say where features end and the head
begins; maps are no proof of reasons, only of what moves the answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dadlab.students import Student, plain_attention


def saliency(student: Student, images: Tensor, labels: Tensor) -> Tensor | None:
    """Maps (B, H, W) in [0, 1] of what speaks for `labels`, or None for a network of another kind.

    Args:
        student: any student, or timm model behind one.
        images: (B, 3, H, W) in [0, 1].
        labels: (B,) the classes asked about; attention rollout does not depend on them.
    """
    if isinstance(student.net, VisionTransformer):
        maps = attention_rollout(student, images)
    elif hasattr(student.net, "forward_features") and hasattr(student.net, "forward_head"):
        maps = grad_cam(student, images, labels)
    else:
        return None
    return None if maps is None else _spread(maps, images.shape[-2:])


def grad_cam(student: Student, images: Tensor, labels: Tensor) -> Tensor | None:
    """Grad-CAM of the last feature map (Selvaraju et al., 2017, Eq. 1 and 2): (B, h, w), not negative.

    None where the network's features are no maps.
    """
    with torch.no_grad():
        features = student.net.forward_features(student.preprocess(images))
    if features.ndim != 4:
        return None
    with torch.enable_grad():
        features.requires_grad_(True)
        wanted = student.net.forward_head(features).gather(1, labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(wanted, features)
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * features.detach()).sum(1).relu()


@torch.no_grad()
def attention_rollout(student: Student, images: Tensor) -> Tensor | None:
    """How much of each patch reaches the class token (Abnar & Zuidema, 2020, Eq. 1): (B, h, w).

    Heads are averaged, and half of each layer is the residual path. None without a class token.
    """
    net = student.net
    if not net.num_prefix_tokens:
        return None
    with _attention(net) as layers:
        net.forward_features(student.preprocess(images))
    tokens = layers[0].shape[-1]
    flow = torch.eye(tokens).expand(len(images), -1, -1)
    for heads in layers:
        flow = (heads.mean(1) + torch.eye(tokens)) / 2 @ flow
    patches = flow[:, 0, net.num_prefix_tokens :]
    return patches.view(len(images), *net.patch_embed.grid_size)


@contextlib.contextmanager
def _attention(net: VisionTransformer) -> Iterator[list[Tensor]]:
    """Collect every layer's attention (B, heads, N, N), which the fused kernel would never form."""
    seen: list[Tensor] = []
    parts: list[Any] = [block.attn for block in net.blocks]
    fused = [part.fused_attn for part in parts]
    hooks = [part.attn_drop.register_forward_hook(lambda _m, _i, out: seen.append(out)) for part in parts]
    try:
        plain_attention(net)
        yield seen
    finally:
        for part, was, hook in zip(parts, fused, hooks, strict=True):
            part.fused_attn = was
            hook.remove()


def _spread(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Enlarge (B, h, w) to the image and stretch each map to [0, 1]."""
    large = F.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low).clamp_min(1e-12)


def overlay(images: Tensor, maps: Tensor) -> Tensor:
    """Grey images (B, 3, H, W) tinted orange where their map (B, H, W) is high."""
    grey = images.mean(1, keepdim=True).expand_as(images)
    tint = 0.65 * maps[:, None].clamp(0, 1)
    return (1 - tint) * grey + tint * torch.tensor([0.93, 0.45, 0.0]).view(3, 1, 1)
