"""Students: small timm networks with the paper's four in mind, or any timm model by name.

Embedded stand-ins: `resnet_s` (ResNet34), `vit_s` (ViT-S), `resnet_m` (ResNet50), `vit_m` (ViT-B/16), whose operations
an image (25, 58, 97 and 154 million) grow as the paper's students' parameters do; and `clip_resnet`, of the embedded
teacher's own architecture. All take images in [0, 1]; normalisation is part of the model. A student starts from random
weights, from those of a run, or from published ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dadlab.clip_tower import clip_resnet
from dadlab.files import fill, load_weights, misfit, save_weights
from dadlab.photos import ASSETS
from dadlab.progress import one_line
from dadlab.wrappers import Preprocess

WEIGHTS = "student.safetensors"  # in the folder of a run
PIXELS = ((0.5,) * 3, (0.25,) * 3)  # mean and deviation that images are normalised by


class Student(nn.Module):
    """A timm classifier behind its own normalisation: images (B, 3, H, W) in [0, 1] to logits (B, C).

    Args:
        name: one of `STUDENTS`, or any timm model.
        classes: C.
        image_size: images are resized to it.
        names: of the classes in the order of the logits, where they are known.
        pixels: mean and deviation of a pixel's three values.
        dropout: rate of dropout; of a ViT after its position embedding, attention and MLP layers (AugReg's), of others
            before the head.
        drop_path: rate of stochastic depth in the last block; it rises linearly from 0 in the first.
        pretrained: with the weights that timm publishes under this name, and the pixels they are used to.
    """

    net: Any  # timm's models share no base class

    def __init__(
        self,
        name: str,
        classes: int,
        image_size: int = 32,
        *,
        names: Sequence[str] = (),
        pixels: Sequence[Sequence[float]] = PIXELS,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        pretrained: bool = False,
    ):
        super().__init__()
        check_student(name)
        self.name, self.classes, self.names = name, classes, tuple(names)
        rates = _rates(name, dropout, drop_path)
        if name in STUDENTS:
            self.net = STUDENTS[name](classes, image_size, **rates)
        else:
            self.net = timm.create_model(name, num_classes=classes, pretrained=pretrained, **rates)
        if pretrained:
            config = resolve_model_data_config(self.net)
            pixels = config["mean"], config["std"]
        mean, deviation = pixels
        self.preprocess = Preprocess(image_size, mean, deviation)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.preprocess(images))


_Build = Callable[..., nn.Module]  # of classes, image size and timm's rates


def _resnet(widths: tuple[int, ...], depths: tuple[int, ...]) -> _Build:
    """A basic-block ResNet whose stem halves the image, as small images want it."""

    def build(classes: int, image_size: int, **rates: Any) -> nn.Module:
        blocks = tuple(
            ByoBlockCfg(type="basic", d=depth, c=width, s=1 if i == 0 else 2, gs=0, br=1.0)
            for i, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        config = ByoModelCfg(blocks=blocks, stem_chs=widths[0], stem_type="3x3", stem_pool="")
        return ByobNet(config, num_classes=classes, **rates)

    return build


def _vit(shape: dict[str, Any]) -> _Build:
    def build(classes: int, image_size: int, **rates: Any) -> nn.Module:
        return VisionTransformer(img_size=image_size, num_classes=classes, **shape, **rates)

    return build


# The sizes of embedded ViTs, as arguments of timm's `VisionTransformer`.
VITS: dict[str, dict[str, Any]] = {
    "vit_s": {"patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3},
    "vit_m": {"patch_size": 4, "embed_dim": 128, "depth": 6, "num_heads": 4},
}
STUDENTS: dict[str, _Build] = {
    "resnet_s": _resnet((32, 64, 128), (1, 1, 1)),
    "resnet_m": _resnet((48, 96, 192), (1, 2, 2)),
    **{name: _vit(shape) for name, shape in VITS.items()},
    "clip_resnet": clip_resnet,
}


def plain_attention(model: nn.Module) -> None:
    """Let every attention of timm's compute by plain matrix products: quicker to train on a CPU than fused kernels."""
    module: Any
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False


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


def _rates(name: str, dropout: float, drop_path: float) -> dict[str, Any]:
    """Keywords of timm's constructors; none for a rate of 0, which not every model knows."""
    module = "" if name in STUDENTS else timm.model_entrypoint(name).__module__
    vit = name.startswith("vit_") if name in STUDENTS else module.endswith(".vision_transformer")
    places = ("pos_drop_rate", "proj_drop_rate") if vit else ("drop_rate",)
    return (dict.fromkeys(places, dropout) if dropout else {}) | ({"drop_path_rate": drop_path} if drop_path else {})


def begin_student(
    name: str,
    classes: int,
    image_size: int,
    *,
    names: Sequence[str] = (),
    start: str = "",
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> Student:
    """A student to be trained.

    Args:
        name, classes, image_size, names, dropout, drop_path: as for `Student`.
        start: empty for random weights; `pretrained` for the committed ones of an embedded student, or of a timm model
            those published under its name (with a tag, `vit_base_patch16_224.augreg_in21k`, those and no others); or
            the file of a run. A head of other classes, or of the same in another order, is left random.

    Raises:
        ValueError: weights that cannot be read or fetched, or of another student.
    """
    rest: dict[str, Any] = {"names": names, "dropout": dropout, "drop_path": drop_path}
    path = _start_file(name, start)
    if path is None and start:
        try:
            return Student(name, classes, image_size, pretrained=True, **rest)
        except Exception as error:  # the hub's client, the network and timm each have their own
            raise ValueError(
                f"start {start!r}: timm's weights of {name} cannot be fetched ({one_line(error)})"
            ) from None
    if path is None:
        return Student(name, classes, image_size, **rest)
    state, config = load_weights(path)
    student = Student(name, classes, image_size, pixels=config.get("pixels", PIXELS), **rest)
    told = config.get("names")
    if config["classes"] != classes or (told and names and told != list(names)):
        state |= {key: value for key, value in student.state_dict().items() if key.startswith(_heads(student))}
    if problems := misfit(student.state_dict(), state):
        raise ValueError(f"start {path}: weights of another student or image size ({problems})")
    student.load_state_dict(state)
    return student


def _heads(student: Student) -> tuple[str, ...]:
    """How the names of the classifier's weights begin; of a distilled transformer it has two parts."""
    heads = student.net.get_classifier()
    every = heads if isinstance(heads, tuple) else (heads,)
    return tuple(f"{key}." for key, module in student.named_modules() if any(module is head for head in every))


def check_start(name: str, start: str) -> None:
    """Raise a `ValueError` unless a student can start from this; published weights are fetched later."""
    path = _start_file(name, start)
    if path is None:
        if start and not timm.models.is_model_pretrained(name):
            raise ValueError(f"start {start!r}: timm publishes no weights of {name}")
        return
    if start == "pretrained" and not path.is_file():
        raise ValueError(f"start {start!r}: no weights of {name} are embedded; `dadlab.making.pretrain` makes them")
    _, config = load_weights(path)
    if config.get("student") != name:
        found = f"weights of {config['student']}" if "student" in config else "no student's weights"
        raise ValueError(f"start {path}: {found}, not of {name}; give the {WEIGHTS} of a run of {name}")


def _start_file(name: str, start: str) -> Path | None:
    if start == "pretrained" and name in STUDENTS:
        return ASSETS / f"pretrained_{name}.safetensors"
    return Path(start) if start not in ("", "pretrained") else None


def save_student(path: Path, student: Student, *, half: bool = False) -> None:
    """Write a student's weights, in single precision unless told, with what rebuilds it in the header."""
    config = {"student": student.name, "classes": student.classes, "image_size": student.preprocess.size}
    pixels = [part.flatten().tolist() for part in (student.preprocess.mean, student.preprocess.std)]
    if pixels != [list(part) for part in PIXELS]:
        config["pixels"] = pixels
    if student.names:
        config["names"] = list(student.names)
    save_weights(path, student.state_dict(), config, half=half)


def load_student(path: Path) -> Student:
    """Read what `save_student` wrote.

    Raises:
        ValueError: missing or unreadable file, or not a student's.
    """
    state, config = load_weights(path)
    if "student" not in config:
        raise ValueError(f"{path}: holds no student; give the {WEIGHTS} of a run")
    name, classes, size = config["student"], config["classes"], config["image_size"]
    more = {"names": config.get("names", ()), "pixels": config.get("pixels", PIXELS)}
    return fill(path, lambda: Student(name, classes, size, **more), state).eval()
