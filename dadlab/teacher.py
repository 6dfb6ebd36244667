"""Teachers: frozen classifiers over images in [0, 1] that own their preprocessing.

A `ClipTeacher` is an open_clip model with a zero-shot head made of class names and prompt templates (Radford et al.,
2021, §3.1.4): text features are averaged over templates, and logits are scaled cosine similarities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from dadlab import captions
from dadlab.files import fill, load_weights
from dadlab.photos import ASSETS
from dadlab.students import Student, load_student
from dadlab.wrappers import Frozen, Preprocess

TOWERS = ("resnet", "vit")
Tokenizer = Callable[[list[str]], Tensor]


class ClipTeacher(Frozen):
    """Zero-shot CLIP classifier: images (B, 3, H, W) in [0, 1] to logits (B, C).

    Args:
        clip: an open_clip model.
        tokenizer: the tokenizer it was trained with.
        preprocess: resizing and normalisation it was trained with.
        classes: class names, in label order.
        templates: prompt templates, each with one `{}`.
    """

    def __init__(
        self, clip: CLIP, tokenizer: Tokenizer, preprocess: Preprocess, classes: Sequence[str], templates: Sequence[str]
    ):
        super().__init__()
        self.clip, self.preprocess = clip, preprocess
        self.freeze()
        self.register_buffer("text_features", zero_shot_head(clip, tokenizer, classes, templates))

    def features(self, images: Tensor) -> Tensor:
        """Unit-length image features (B, D)."""
        return self.clip.encode_image(self.preprocess(images), normalize=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.clip.logit_scale.exp() * self.features(images) @ self.text_features.T


@torch.no_grad()
def zero_shot_head(clip: CLIP, tokenizer: Tokenizer, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Unit-length text features (C, D): for each class the mean direction of its prompts."""
    prompts = [template.format(name) for name in classes for template in templates]
    features = clip.encode_text(tokenizer(prompts), normalize=True)
    return F.normalize(features.view(len(classes), len(templates), -1).mean(1), dim=-1)


def build_clip(config: dict[str, Any]) -> CLIP:
    """An open_clip `CLIP` from a configuration of `embed_dim`, `vision_cfg` and `text_cfg`."""
    return CLIP(**{key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")})


def load_clip_teacher(weights: Path, classes: Sequence[str], templates: Sequence[str]) -> ClipTeacher:
    """A CLIP written by `dadlab.train_teacher`, with a zero-shot head for `classes`."""
    state, config = load_weights(weights)
    clip = fill(weights, lambda: build_clip(config), state)
    preprocess = Preprocess(config["vision_cfg"]["image_size"], config["mean"], config["std"])
    return ClipTeacher(clip, captions.tokenizer(), preprocess, classes, templates)


class StudentTeacher(Frozen):
    """A trained student in the teacher's place."""

    def __init__(self, student: Student):
        super().__init__()
        self.student = student
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return self.student(images)


def load_teacher(
    name: str = "resnet",
    classes: Sequence[str] = captions.CLASSES,
    templates: Sequence[str] = captions.ZERO_SHOT_TEMPLATES,
) -> Frozen:
    """A teacher by name or file.

    Args:
        name: `resnet` or `vit`, the embedded CLIP towers for 32×32 images; or a safetensors file, either a CLIP
            written by `dadlab.train_teacher` or the student of any run.
        classes: class names in label order.
        templates: prompt templates of a CLIP's zero-shot head, each with one `{}`.

    Raises:
        ValueError: unknown name, unreadable file, or a student with another number of classes.
    """
    if name in TOWERS:
        return load_clip_teacher(ASSETS / f"teacher_{name}.safetensors", classes, templates)
    path = Path(name)
    if path.suffix != ".safetensors":
        raise ValueError(f"unknown teacher {name!r}: choose one of {', '.join(TOWERS)}, or give a .safetensors file")
    if "student" not in load_weights(path)[1]:
        return load_clip_teacher(path, classes, templates)
    student = load_student(path)
    if student.classes != len(classes):
        raise ValueError(f"{path}: teacher knows {student.classes} classes, the data has {len(classes)}")
    return StudentTeacher(student)
