"""An untrained network of the embedded CLIP's own image architecture (`resnet` of `dadlab.making.teacher`).

timm's CLIP ResNet at that tower's widths and depths, parameter for parameter: for the question whether a student that
could be its teacher comes nearer to it (Li et al., ICCV 2023, Table 2).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import Tensor

_STAGES = ((64, 2), (128, 2), (256, 2), (512, 1))  # width and depth


class _Doubled(ByobNet):
    """Sees images at twice their size, as the tower does: at 32 pixels its last map would be a single place."""

    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


def clip_resnet(classes: int, image_size: int, **rates: Any) -> ByobNet:
    """Images (B, 3, S, S), normalised, to (B, C).

    Args:
        classes: C.
        image_size: S, a multiple of 16.
        rates: timm's, of dropout and stochastic depth.
    """
    blocks = tuple(
        ByoBlockCfg(type="bottle", d=depth, c=width, s=1 if i == 0 else 2, br=0.25)
        for i, (width, depth) in enumerate(_STAGES)
    )
    config = ByoModelCfg(
        blocks=blocks,
        stem_chs=(8, 8, 16),
        stem_type="",
        stem_pool="avg2",
        downsample="avg",
        aa_layer="avg",
        head_type="attn_abs",
    )
    return _Doubled(config, num_classes=classes, img_size=2 * image_size, **rates)
