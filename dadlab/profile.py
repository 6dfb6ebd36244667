"""Profiles: frozen descriptions of everything two runs must share to be compared.

Data, teacher, discretizer, attack and recipe. Unknown or wrongly typed parameters stop before any work starts.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

from timm.optim import list_optimizers

from dadlab.schedules import SCHEDULES

_T = TypeVar("_T")


@dataclass(frozen=True)
class Attack:
    """Gradient ascent on the teacher's cross-entropy at the true label (Zhou et al., 2023, Eq. 9).

    Attributes:
        norm: `l2` or `linf`.
        epsilon: radius on the [0, 1] pixel scale; the L2 norm is over all pixels of an image.
        step_size: length of one step in the same norm.
        steps: how many; 0 is no attack, the sampling control of the paper's Table 11.
        start: probability that a sample starts at a random point of norm epsilon (`l2`) or in the box (`linf`).
        through: take the gradient through the discretizer, straight-through, rather than at Q(x).
    """

    norm: str = "l2"
    epsilon: float = 0.1
    step_size: float = 0.1
    steps: int = 1
    start: float = 0.0
    through: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.norm not in ("l2", "linf"):
            raise ValueError(f"attack norm {self.norm!r}: choose 'l2' or 'linf'")
        if self.epsilon < 0 or self.step_size < 0 or self.steps < 0 or not 0 <= self.start <= 1:
            raise ValueError("attack: epsilon, step_size and steps must not be negative, start must lie in [0, 1]")
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(f"attack: an L∞ epsilon lies in [0, 1], as pixels do; {self.epsilon:g}/255, perhaps?")

    def rms(self, image_size: int) -> float:
        """Root mean square change a pixel value at the radius, in 1/255."""
        return 255 * self.epsilon / ((3 * image_size**2) ** 0.5 if self.norm == "l2" else 1.0)


@dataclass(frozen=True)
class Profile:
    """Everything two runs must share to be compared.

    Attributes:
        data: `fashion`, a folder of images, or `imagenet:`, `hf:` or `hf-stream:` and a place (`dadlab.data`).
        train: training split; `train_context` is the broad training distribution.
        limit: keep about this many training photographs; 0 keeps all.
        image_size: side in pixels.
        teacher: `resnet` or `vit` (embedded CLIP); `open_clip:MODEL/TAG` or `timm:MODEL`, or either with a PATH for
            the weights; or a file written by `dadlab.making.teacher`, `dadlab.tokens` or a run.
        discretizer: `studio`, `broad`, `identity`, a file written by `dadlab.making.discretizer` or converted by
            `dadlab.checkpoints`; `diffusion` or `diffusers:MODEL`, with `-text` before the colon text-to-image.
        attack: how adversarial examples are made.
        variants: adversarial examples a photograph, each of another replayable view of it.
        views: distinct augmented views of a sample in training; epoch e uses view e mod views.
        epochs, batch, lr, weight_decay: optimization (AdamW). The default rate suits the embedded ResNets; the ViTs
            want 1e-3 (`papers/LOG.md`). Gradients are clipped to norm 1 for all methods alike.
        temperature, alpha: T and a of the distillation losses (paper, appendix C).
        optimizer: any of timm's; weight decay acts on all parameters.
        schedule: of the rate, whose peak is `lr` (`dadlab.schedules`): `one_cycle`, or AugReg's `warm_cosine`.
        accumulate: parts that a batch is computed in, one after the other (and split over processes beside).
        ema: decay a step of the weight average that becomes the student; 0 keeps the last weights.
        augreg: one of `AUGREG`, on top of the views' crops and mirrors.
        top_logits: how many of the teacher's largest logits the cache keeps a sample; 0 keeps all.
        dropout, drop_path: rates of dropout and, rising with depth, of stochastic depth (AugReg has 0.1 or 0 of both).
        start: what a student starts from: nothing, `pretrained` (of an embedded student its committed weights, of
            timm's those published under its name), or a file of a run; of another number of classes its head is new.
        augmix_severity: the largest level of AugMix's operations, from 0.1 to 10 (its code has 3 for small images and
            1 for ImageNet).
        transfer: style transfer of debiased training, `studio` or a file made by `dadlab.adain`.
    """

    data: str = "fashion"
    train: str = "train"
    limit: int = 0
    image_size: int = 32
    teacher: str = "resnet"
    discretizer: str = "studio"
    attack: Attack = field(default_factory=lambda: ATTACKS["fashion"])
    variants: int = 2
    views: int = 8
    epochs: int = 12
    batch: int = 32
    lr: float = 6e-3
    weight_decay: float = 0.05
    temperature: float = 4.0
    alpha: float = 0.5
    optimizer: str = "adamw"
    schedule: str = "one_cycle"
    accumulate: int = 1
    ema: float = 0.0
    augreg: str = "none"
    top_logits: int = 0
    dropout: float = 0.0
    drop_path: float = 0.0
    start: str = ""
    transfer: str = "studio"
    augmix_severity: float = 3.0

    def __post_init__(self) -> None:
        check_types(self)
        if not isinstance(self.attack, Attack):
            raise ValueError(f"profile: attack must be an Attack, a preset's name or a dict, got {self.attack!r}")
        for name in ("limit", "alpha", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"profile: {name} must not be negative, got {getattr(self, name)}")
        if self.temperature <= 0 or self.lr <= 0:
            raise ValueError("profile: temperature and lr must be positive")
        for name in ("image_size", "variants", "views", "epochs", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"profile: {name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.ema < 1 or self.top_logits < 0:
            raise ValueError("profile: ema must lie in [0, 1), top_logits must not be negative")
        if not (0 <= self.dropout < 1 and 0 <= self.drop_path < 1):
            raise ValueError("profile: dropout and drop_path must lie in [0, 1)")
        if not 0.1 <= self.augmix_severity <= 10:
            raise ValueError(f"profile: augmix_severity must lie in [0.1, 10], got {self.augmix_severity}")
        nearest(self.optimizer, {str(name): name for name in list_optimizers()}, "optimizer")
        nearest(self.schedule, SCHEDULES, "schedule")
        if nearest(self.augreg, AUGREG, "augreg").mixup and self.batch % 2:
            raise ValueError(f"profile: Mixup pairs the samples of a batch, so batch must be even, got {self.batch}")

    @property
    def is_folder(self) -> bool:
        return self.data != "fashion"


@dataclass(frozen=True)
class AugReg:
    """RandAugment and Mixup together (Steiner et al., 2022, §3).

    Attributes:
        layers: operations an image.
        magnitude: their strength, 10 being timm's and RandAugment's nominal full scale.
        mixup: α of the Beta distribution that Mixup's weight is drawn from; 0 mixes nothing.
    """

    layers: int = 2
    magnitude: int = 0
    mixup: float = 0.0


AUGREG: dict[str, AugReg] = {
    "none": AugReg(layers=0),
    "light1": AugReg(),
    "light2": AugReg(magnitude=10, mixup=0.2),
    "medium1": AugReg(magnitude=15, mixup=0.2),
    "medium2": AugReg(magnitude=15, mixup=0.5),
    "strong1": AugReg(magnitude=20, mixup=0.5),
    "strong2": AugReg(magnitude=20, mixup=0.8),
}


def make_profile(preset: str = "fashion", /, **parameters: Any) -> Profile:
    """A profile from notebook parameters; `attack` may be a preset's name, or a dict of the fields to change.

    Args:
        preset: one of `PROFILES`, whose values hold where no parameter says otherwise.
        parameters: fields of `Profile`.

    Raises:
        ValueError: unknown name (with the nearest valid one), wrong type, value out of range.
    """
    usual = nearest(preset, PROFILES, "profile")
    parameters = {"attack": "fashion"} | usual | parameters
    attack = parameters["attack"]
    if isinstance(attack, str):
        parameters["attack"] = nearest(attack, ATTACKS, "attack preset")
    elif isinstance(attack, dict):
        own = ATTACKS[usual.get("attack", "fashion")]
        parameters["attack"] = strict(Attack, dataclasses.asdict(own) | attack)
    return strict(Profile, parameters)


def strict(kind: type[_T], parameters: dict[str, Any]) -> _T:
    """Build a dataclass from parameters, refusing unknown names."""
    what, fields = f"{kind.__name__.lower()} parameter", dataclasses.fields(kind)  # type: ignore[arg-type]
    for name in parameters:
        nearest(name, {f.name: f.name for f in fields}, what)
    needed = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in parameters]:
        raise ValueError(f"{what} {missing[0]!r} is missing")
    return kind(**parameters)


def nearest(name: str, known: dict[str, _T], what: str) -> _T:
    """Look a name up; a `ValueError` names the nearest known one."""
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, 1, 0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"
    raise ValueError(f"unknown {what} {name!r}: {hint}")


def check_types(instance: Any) -> None:
    """Check (and for whole-number floats, fix) the types of a frozen dataclass's plain fields; floats are finite."""
    kinds = {"str": str, "int": int, "float": float, "bool": bool}
    for entry in dataclasses.fields(instance):
        value, wanted = getattr(instance, entry.name), kinds.get(str(entry.type))
        if wanted is float and type(value) is int:
            object.__setattr__(instance, entry.name, float(value))
            continue
        what = f"{type(instance).__name__.lower()} parameter {entry.name!r}"
        if wanted is not None and type(value) is not wanted:
            raise ValueError(f"{what} must be {wanted.__name__}, got {value!r}")
        if wanted is float and not math.isfinite(value):
            raise ValueError(f"{what} must be finite, got {value!r}")


ATTACKS: dict[str, Attack] = {
    "paper": Attack(),
    "official-code": Attack(step_size=0.01, start=0.8),
    "none": Attack(epsilon=0.0, steps=0),
    "fashion": Attack(epsilon=8.0, step_size=8.0),
}

# The paper's scale. Its ViTs are trained as AugReg's (Zhou et al., 2023, appendix C); the recipe is that of AugReg's
# published ViT-B/16 on ImageNet-1K. ResNets go without AugReg, dropout and stochastic depth, and for 100 epochs.
PROFILES: dict[str, dict[str, Any]] = {
    "fashion": {},
    "imagenet": {
        "data": "imagenet:imagenet",
        "image_size": 224,
        "teacher": "open_clip:ViT-L-14/openai",
        "discretizer": "vqgan_f8.safetensors",
        "attack": "paper",
        "variants": 1,
        "epochs": 300,
        "batch": 4096,
        "lr": 1e-3,
        "weight_decay": 0.1,
        "schedule": "warm_cosine",
        "augreg": "strong2",
        "dropout": 0.1,
        "drop_path": 0.1,
        "transfer": "adain_vgg.safetensors",
        "augmix_severity": 1.0,
    },
}
