"""Teachers: frozen classifiers over images in [0, 1] that own their preprocessing.

Any CLIP of open_clip's, any classifier of timm's, a Discrete ViT, or a student in the teacher's place. A `ClipTeacher`
is an open_clip model with a zero-shot head made of class names and prompt templates (Radford et al., 2021, §3.1.4):
text features are averaged over templates, and logits are scaled cosine similarities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import OPENAI_IMAGENET_TEMPLATES
from open_clip.model import CLIP
from torch import Tensor, nn

from dadlab import captions
from dadlab.files import fill, load_weights
from dadlab.photos import ASSETS
from dadlab.pretrained import Tokenizer, load_open_clip, load_timm
from dadlab.progress import track
from dadlab.students import Student, load_student
from dadlab.tokens import load_token_teacher
from dadlab.wrappers import Frozen, Preprocess

TOWERS = ("resnet", "vit")
CLIP_TEMPLATES = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
_PROMPTS_AT_ONCE = 1024


class ClipTeacher(Frozen):
    """Zero-shot CLIP classifier: images (B, 3, H, W) in [0, 1] to logits (B, C).

    Args:
        clip: an open_clip model.
        tokenizer: the tokenizer it was trained with.
        preprocess: resizing and normalisation it was trained with.
        classes: class names, in label order.
        templates: prompt templates, each with one `{}`.
    """

    text_features: Tensor
    derived = ("text_features",)

    def __init__(
        self, clip: CLIP, tokenizer: Tokenizer, preprocess: Preprocess, classes: Sequence[str], templates: Sequence[str]
    ):
        super().__init__()
        self.clip, self.tokenizer, self.preprocess = clip, tokenizer, preprocess
        self.freeze()
        self.prompts = [list(classes), list(templates)]
        self.register_buffer("text_features", zero_shot_head(clip, tokenizer, classes, templates), persistent=False)

    def get_extra_state(self) -> list[Any]:
        return self.prompts

    def features(self, images: Tensor) -> Tensor:
        """Unit-length image features (B, D)."""
        return self.clip.encode_image(self.preprocess(images), normalize=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.clip.logit_scale.exp() * self.features(images) @ self.text_features.T


@torch.no_grad()
def zero_shot_head(clip: CLIP, tokenizer: Tokenizer, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Unit-length text features (C, D): for each class the mean direction of its prompts.

    A thousand classes with CLIP's eighty templates are encoded on a GPU where there is one.
    """
    prompts = [template.format(name) for name in classes for template in templates]
    parts = [prompts[start : start + _PROMPTS_AT_ONCE] for start in range(0, len(prompts), _PROMPTS_AT_ONCE)]
    home = next(clip.parameters()).device
    device = torch.device("cuda") if len(parts) > 1 and torch.cuda.is_available() else home
    clip.to(device)
    encoded = [
        clip.encode_text(tokenizer(part).to(device), normalize=True) for part in track(parts, "encoding prompts")
    ]
    clip.to(home)
    features = torch.cat(encoded).to(home)
    return F.normalize(features.view(len(classes), len(templates), -1).mean(1), dim=-1)


def build_clip(config: dict[str, Any]) -> CLIP:
    """An open_clip `CLIP` from a configuration of `embed_dim`, `vision_cfg` and `text_cfg`."""
    return CLIP(**{key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")})


def load_clip_teacher(weights: Path, classes: Sequence[str], templates: Sequence[str]) -> ClipTeacher:
    """A CLIP written by `dadlab.making.teacher`, with a zero-shot head for `classes`."""
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


class PublishedClip(ClipTeacher):
    """A CLIP of open_clip's; its preprocessing counts in its fingerprint."""

    def get_extra_state(self) -> list[Any]:
        return [*super().get_extra_state(), *self.preprocess.described()]


class Classifier(Frozen):
    """A classifier behind its preprocessing, which counts in its fingerprint."""

    def __init__(self, net: nn.Module, preprocess: Preprocess):
        super().__init__()
        self.net, self.preprocess = net, preprocess
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.preprocess(images))

    def get_extra_state(self) -> list[Any]:
        return self.preprocess.described()


def load_teacher(
    name: str = "resnet", classes: Sequence[str] = captions.CLASSES, templates: Sequence[str] | None = None
) -> Frozen:
    """A teacher by name or file.

    Args:
        name: one of
            `resnet`, `vit`: the embedded CLIP towers for 32×32 images;
            `open_clip:MODEL/TAG`, `open_clip:MODEL/PATH`: any CLIP of open_clip's, such as `open_clip:ViT-L-14/openai`;
            `timm:MODEL`, `timm:MODEL/PATH`: a classifier of timm's with timm's weights or those of a file;
            a safetensors file: a CLIP written by `dadlab.making.teacher`, the student of any run, or a Discrete ViT
            written by `dadlab.tokens`.
        classes: class names in label order.
        templates: prompt templates of a CLIP's zero-shot head, each with one `{}`; CLIP's own eighty for open_clip's
            models and those of `dadlab.captions` for ours, unless given.

    Raises:
        ValueError: unknown name, unreadable or absent weights, or a classifier of another number of classes or, where
            it knows their names, of the same in another order.
    """
    source, colon, model = name.partition(":")
    if colon and source == "open_clip":
        return PublishedClip(*load_open_clip(model), classes, templates or CLIP_TEMPLATES)
    if colon and source == "timm":
        return Classifier(*load_timm(model, len(classes)))
    templates = templates or captions.ZERO_SHOT_TEMPLATES
    if name in TOWERS:
        return load_clip_teacher(ASSETS / f"teacher_{name}.safetensors", classes, templates)
    path = Path(name)
    if path.suffix != ".safetensors":
        raise ValueError(
            f"unknown teacher {name!r}: choose one of {', '.join(TOWERS)}, open_clip:MODEL/WEIGHTS or timm:MODEL, "
            "or give a .safetensors file"
        )
    config = load_weights(path, f"published weights are given as open_clip:MODEL/{path} or timm:MODEL/{path}")[1]
    if "tokens" in config:
        return _of_classes(load_token_teacher(path), config["tokens"]["vit"]["num_classes"], classes, path)
    if "student" in config:
        student = load_student(path)
        return _of_classes(StudentTeacher(student), student.classes, classes, path, student.names)
    return load_clip_teacher(path, classes, templates)


def _of_classes(teacher: Frozen, known: int, classes: Sequence[str], path: Path, names: Sequence[str] = ()) -> Frozen:
    """The teacher, if it knows as many classes as the data and, by `names`, none in another place."""
    if known != len(classes):
        raise ValueError(f"{path}: teacher knows {known} classes, the data has {len(classes)}")
    for place, (own, other) in enumerate(zip(names, classes, strict=False)):
        if own != other and own in classes:
            raise ValueError(
                f"{path}: the teacher's class {place} is {own!r}, the data's is {other!r}: bring the data's classes "
                "into the order that it was trained on"
            )
    return teacher
