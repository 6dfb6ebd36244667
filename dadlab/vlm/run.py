"""A training of the second paper's as data: which losses, which filter, which label texts, which recipe, which seed.

*Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV 2023). A run's
fingerprint names its folder, so that notebooks share runs and none is trained twice.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dadlab.fingerprints import content_of, fingerprint, sha256
from dadlab.photos import ASSETS
from dadlab.profile import check_types, nearest
from dadlab.students import check_student
from dadlab.vlm.archives import ARCHIVES
from dadlab.vlm.benchmarks import listing
from dadlab.vlm.losses import TAU, keep_above, keep_correct, keep_percentile
from dadlab.vlm.openvocab import LABELS, NAMINGS

PROMPTS = ASSETS / "openvocab_prompts.json"
LOSSES = {
    "cls": "L_cls",
    "mse": "L_mse",
    "log_mse": "L_mse, the code's other form",
    "cst": "L_im-cst",
    "cst_single": "L_im-cst, student to teacher only",
    "vlprox": "L_vlprox",
    "cap": "L_cap",
}
TEXTS = {
    "plain": "names",
    "description": "names and descriptions",
    "shuffled": "names and other labels' descriptions",
    "random words": "names and as many random words",
    "succinct": "names and brief descriptions",
    "detailed": "names and detailed descriptions",
    "distinct": "names and what sets each apart",
    "learnt": "no text: a vector a label, learnt",
}
KEEPS = ("all", "correct", "above", "percentile")
BESIDE = {
    "": "clean images alone",
    "view": "a second clean view",
    "q": "Q(x), no attack",
    "dad": "DAD samples",
    "dad described": "DAD samples, made with descriptions in the teacher's head",
}
RECIPES = {
    "one-cycle": "AdamW, one cycle with 5 % warm-up",
    "steps": "SGD with momentum 0.9, a tenth of the rate after each third",
}
# Fields younger than the first runs: at their default they do not count, so that older runs are found again.
_LATER = ("data", "image_size", "descriptions", "recipe", "magnitude", "last", "beside", "captions", "context_rate")
# Texts of data on disk that need descriptions, and by which of the paper's prompts (`dadlab.vlm.describe`).
_DESCRIBED = dict.fromkeys(("description", "shuffled", "random words"), "base")
_DESCRIBED |= {prompt: prompt for prompt in ("succinct", "detailed", "distinct")}


class Unfit(ValueError):
    """The data have no such names, texts or captions."""


@dataclass(frozen=True)
class AlignRun:
    """One student into a teacher's text space.

    Attributes:
        losses: terms of the plain sum, from `LOSSES`, joined by `+`.
        keep: I(x) of L_vlprox: `correct`, `above` a probability, from a `percentile` upwards, or `all`.
        keep_at: that probability, or that percentile of the batch.
        keep_contrast: apply I(x) in L_im-cst too (Table 9).
        k: labels in L_vlprox.
        text: what a label is called in training and in tests, one of `TEXTS`; `learnt` is the closed-set classifier.
        naming: which names, one of `dadlab.vlm.openvocab.NAMINGS`.
        beside: what makes up half of every batch, one of `BESIDE`; there are twice as many batches then, so that clean
            images are seen as often as without.
        epsilon: radius of the one L2 step that DAD samples are made with (`dadlab.profile.Attack`).
        context: learnt context tokens in place of "a photo of" (CoOp); 0 for none.
        context_rate: their learning rate, as a share of the student's; 1 in the released code, where both have SGD.
        tau: τ of every loss with a temperature, L_cap's aside (1, as in the released code).
        teacher: an embedded CLIP tower, `open_clip:MODEL/TAG`, or a file written by `dadlab.making.teacher`.
        student, seed: as in `dadlab.run.Run`.
        epochs, batch, lr, weight_decay: optimization.
        views: replayable augmented views of a sample; epoch e shows view e mod views.
        limit: about so many images of each split; 0 for all.
        data: `fashion`, the embedded benchmark, or a data set on disk such as `flowers:FOLDER` (`dadlab.vlm.archives`).
        image_size: side in pixels of images on disk and of what the student takes.
        descriptions: file of descriptions, keyed by label name, of a data set on disk (`dadlab.vlm.text_files`); or a
            folder of one a prompt, `base.json`, `succinct.json`, `detailed.json` and `distinct.json`.
        recipe: one of `RECIPES`. The paper's: `steps` with lr 0.05 and weight decay 1e-4 for ResNets, 450 epochs on
            birds, cars and flowers and 90 on others; `one-cycle` with 2e-4 and 0.01 for ViTs.
        magnitude: strength of two RandAugment operations on every view, timm's; 0 for none, 9 for the paper's ViTs.
        last: accuracies are means over the students of so many last epochs; 5 in the paper.
        captions: file of captions, keyed by image, of a data set on disk; L_cap wants one of every training image and
            of every shot.
    """

    losses: str = "cls"
    keep: str = "correct"
    keep_at: float = 0.0
    keep_contrast: bool = False
    k: int = 256
    text: str = "plain"
    naming: str = "plain"
    beside: str = ""
    epsilon: float = 1.0
    context: int = 0
    context_rate: float = 1.0
    tau: float = TAU
    teacher: str = "resnet"
    student: str = "resnet_s"
    seed: int = 0
    epochs: int = 12
    batch: int = 128
    lr: float = 6e-3
    weight_decay: float = 0.05
    views: int = 8
    limit: int = 0
    data: str = "fashion"
    image_size: int = 32
    descriptions: str = ""
    recipe: str = "one-cycle"
    magnitude: int = 0
    last: int = 1
    captions: str = ""

    def __post_init__(self) -> None:
        check_types(self)
        check_student(self.student)
        for name in self.terms:
            nearest(name, LOSSES, "loss")
        if len(set(self.terms)) < len(self.terms) or {"cst", "cst_single"} <= set(self.terms):
            raise ValueError(f"losses {self.losses!r}: a loss is there twice")
        nearest(self.text, TEXTS, "kind of text")
        nearest(self.naming, dict.fromkeys(NAMINGS), "naming")
        nearest(self.keep, dict.fromkeys(KEEPS), "filter")
        nearest(self.beside, BESIDE, "half of a batch")
        if self.keep_contrast and not {"cst", "cst_single"} & set(self.terms):
            raise ValueError(f"losses {self.losses!r}: keep_contrast filters L_im-cst, which is not there")
        if not 0 <= self.keep_at <= (100 if self.keep == "percentile" else 1):
            raise ValueError(f"keep_at {self.keep_at}: a probability in [0, 1], or a percentile in [0, 100]")
        if self.text == "learnt" and (self.context or self.beside or self.losses != "cls"):
            raise ValueError("text 'learnt' is the closed-set classifier: losses 'cls', context 0, nothing beside")
        nearest(self.recipe, RECIPES, "recipe")
        self._check_data()
        for name in ("k", "epochs", "batch", "views", "image_size", "last"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if min(self.tau, self.lr, self.epsilon, self.context_rate) <= 0:
            raise ValueError("tau, lr, epsilon and context_rate must be positive")
        if self.context_rate != 1 and not self.context:
            raise ValueError(f"context_rate {self.context_rate}: there is no learnt context; set context")
        for name in ("context", "seed", "limit", "weight_decay", "magnitude"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def _check_data(self) -> None:
        if not self.on_disk:
            if self.image_size != AlignRun.image_size or self.descriptions or self.captions:
                raise ValueError(
                    "fashion is drawn at 32 pixels and has its own texts: leave image_size, descriptions and captions"
                )
            return
        nearest(self.data.partition(":")[0], ARCHIVES, "data set")
        if self.naming != "plain":
            raise Unfit(f"naming {self.naming!r}: {self.data} has plain names alone")
        if self.text in _DESCRIBED and not self.descriptions:
            raise Unfit(
                f"text {self.text!r}: {self.data} needs descriptions, a file that describes every label by name"
            )
        if _DESCRIBED.get(self.text, "base") != "base" and not Path(self.descriptions).is_dir():
            raise Unfit(f"text {self.text!r}: descriptions must be a folder, with {self.text}.json and base.json in it")
        if self.beside not in ("", "view"):
            raise Unfit(f"beside {self.beside!r}: samples are made of fashion alone, whose discretizer is embedded")
        if "cap" in self.terms and not self.captions:
            raise Unfit(f"losses {self.losses!r}: L_cap needs captions, a file with one of every image of {self.data}")

    @property
    def on_disk(self) -> bool:
        return self.data != "fashion"

    @property
    def described_in(self) -> str:
        """On disk the file that the run's descriptions are read from; empty where it reads none."""
        if not self.on_disk or self.text not in _DESCRIBED:
            return ""
        folder = Path(self.descriptions)
        return str(folder / f"{_DESCRIBED[self.text]}.json") if folder.is_dir() else self.descriptions

    @property
    def terms(self) -> list[str]:
        return self.losses.split("+")

    @property
    def title(self) -> str:
        return " + ".join(LOSSES[term] for term in self.terms)

    @property
    def fingerprint(self) -> str:
        """Of all that the student depends on: the fields that its losses and data use, and what lies in files now.

        It does not matter where the files lie: the teacher's and those of texts count by content, images on disk by
        name, size and time.
        """
        used = dataclasses.asdict(self)
        if "vlprox" not in self.terms:
            del used["k"]
        if "vlprox" not in self.terms and not self.keep_contrast:
            del used["keep"], used["keep_at"]
        for name in _LATER:
            if used[name] == getattr(AlignRun, name):
                del used[name]
        if not self.beside.startswith("dad"):
            del used["epsilon"]
        if self.on_disk:
            for name in ("descriptions", "captions"):
                used.pop(name, None)
            used["data"], texts = listing(self.data).fingerprint, []
            if self.described_in:
                texts.append(content_of(self.described_in))
            if "cap" in self.terms:
                texts += ["captions", content_of(self.captions)]
        else:
            texts = [sha256(path) for path in (LABELS, PROMPTS)]
        return fingerprint({**used, "teacher": content_of(self.teacher), "texts": texts})

    def folder(self, runs_dir: Path) -> Path:
        return Path(runs_dir) / f"align-{self.losses}-{self.student}-s{self.seed}-{self.fingerprint}"

    def keeps(self, teacher_logits: Tensor, labels: Tensor) -> Tensor:
        """I(x) of a batch: teacher logits (B, C) and labels (B,) to (B,) bool."""
        if self.keep == "all":
            return torch.ones_like(labels, dtype=torch.bool)
        if self.keep == "correct":
            return keep_correct(teacher_logits, labels)
        if self.keep == "above":
            return keep_above(teacher_logits, labels, threshold=self.keep_at)
        return keep_percentile(teacher_logits, labels, percentile=self.keep_at)
