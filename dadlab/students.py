"""Students: small timm networks with the paper's four in mind, or any timm model by name.

Embedded stand-ins, in the paper's order of capacity: `resnet_s` (ResNet34), `resnet_m` (ResNet50), `vit_s` (ViT-S),
`vit_m` (ViT-B/16). All take images in [0, 1]; normalisation is part of the model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dadlab.files import fill, load_weights, save_weights
from dadlab.wrappers import Preprocess


class Student(nn.Module):
    """A timm classifier behind its own normalisation: images (B, 3, H, W) in [0, 1] to logits (B, C)."""

    net: Any  # timm's models share no base class

    def __init__(self, name: str, classes: int, image_size: int = 32):
        super().__init__()
        check_student(name)
        self.name, self.classes = name, classes
        self.preprocess = Preprocess(image_size, (0.5,) * 3, (0.25,) * 3)
        self.net = (
            STUDENTS[name](classes, image_size) if name in STUDENTS else timm.create_model(name, num_classes=classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.preprocess(images))


def _resnet(widths: tuple[int, ...], depths: tuple[int, ...]) -> Callable[[int, int], nn.Module]:
    """A basic-block ResNet whose stem halves the image, as small images want it."""

    def build(classes: int, image_size: int) -> nn.Module:
        blocks = tuple(
            ByoBlockCfg(type="basic", d=depth, c=width, s=1 if i == 0 else 2, gs=0, br=1.0)
            for i, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        return ByobNet(
            ByoModelCfg(blocks=blocks, stem_chs=widths[0], stem_type="3x3", stem_pool=""), num_classes=classes
        )

    return build


def _vit(width: int, depth: int, patch: int) -> Callable[[int, int], nn.Module]:
    def build(classes: int, image_size: int) -> nn.Module:
        return VisionTransformer(
            img_size=image_size,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=width // 32,
            num_classes=classes,
        )

    return build


STUDENTS: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet_s": _resnet((32, 64, 128), (1, 1, 1)),
    "resnet_m": _resnet((48, 96, 192), (1, 2, 2)),
    "vit_s": _vit(96, 4, 4),
    "vit_m": _vit(128, 6, 4),
}


def check_student(name: str, *, batch_norm: bool = False) -> None:
    """Raise a `ValueError` that names the alternatives unless a student of this name can be built.

    With `batch_norm`, unless it also has batch norms that can be doubled.
    """
    if name not in STUDENTS and not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        raise ValueError(
            f"unknown student {name!r}: choose one of {', '.join([*STUDENTS, *near])} or another timm model"
        )
    if batch_norm and not _has_batch_norm(name):
        raise ValueError(
            f"student {name!r} has no batch norm, which AdvProp doubles: take a ResNet, such as 'resnet_s'"
        )


@functools.cache
def _has_batch_norm(name: str) -> bool:
    with torch.device("meta"):
        student = Student(name, 2)
    return any(isinstance(module, nn.BatchNorm2d) for module in student.modules())


def save_student(path: Path, student: Student) -> None:
    """Write a student's weights, in single precision, with what rebuilds it in the header."""
    config = {"student": student.name, "classes": student.classes, "image_size": student.preprocess.size}
    save_weights(path, student.state_dict(), config, half=False)


def load_student(path: Path) -> Student:
    """Read what `save_student` wrote.

    Raises:
        ValueError: missing or unreadable file, or not a student's.
    """
    state, config = load_weights(path)
    if "student" not in config:
        raise ValueError(f"{path}: holds no student; give the student.safetensors of a run")
    name, classes, size = config["student"], config["classes"], config["image_size"]
    return fill(path, lambda: Student(name, classes, size), state).eval()
