"""What labels are to a student: the teacher's features of their texts, fixed, with a learnt context, or learnt whole.

Calling a module gives unit-length features (C, D) of the training labels; `of` gives those of any other labels, in
the same terms. `OTHERS` are what `dadlab.openvocab` does not have: descriptions for the other three prompts of the paper
(Table 7), written by hand and fixed before any result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab import captions, enrichment
from dadlab.align_run import AlignRun
from dadlab.coop import PromptLearner
from dadlab.language import enriched, prompts, text_features
from dadlab.openvocab import Label
from dadlab.teacher import ClipTeacher

TEMPLATE = "a photo of a {}"  # of three, by the teacher's accuracy on `val` (notebooks/vlm_ood/enrichment.ipynb)
# What the paper's other prompts ask for: broad and brief; short descriptive phrases; what sets it apart.
OTHERS = {
    "succinct": {
        "t-shirt": "a {} top",
        "trouser": "long {} legs",
        "pullover": "a warm {} top",
        "dress": "one long {} piece",
        "coat": "a warm {} layer",
        "sandal": "a light {} shoe",
        "shirt": "a {} top with buttons",
        "sneaker": "a flat {} shoe",
        "bag": "a {} box with a handle",
        "ankle boot": "a high {} shoe",
    },
    "detailed": {
        "t-shirt": "a light {} top, short sleeves, a round neck, no collar, no buttons",
        "trouser": "two long straight {} legs, a narrow waist, worn to the ankles",
        "pullover": "a warm knitted {} top, long sleeves, a round neck, no buttons",
        "dress": "one long {} piece, a narrow waist, a skirt, a round neck",
        "coat": "a warm {} outer layer, long sleeves, an open front, buttons",
        "sandal": "a light {} shoe, open straps, an open toe, a flat sole",
        "shirt": "a {} top, a collar, a row of buttons, long sleeves",
        "sneaker": "a low flat {} shoe, laces, a round toe, a rubber sole",
        "bag": "a {} box, a strap, a handle on top, to carry things",
        "ankle boot": "a high {} shoe, a heel, a shaft that covers the ankle",
    },
    "distinct": {
        "t-shirt": "a {} top with short sleeves",
        "trouser": "two {} legs",
        "pullover": "a {} knitted top pulled over the head",
        "dress": "a {} top and a skirt in one",
        "coat": "a {} outer layer with an open front",
        "sandal": "a {} shoe with open straps around the foot",
        "shirt": "a {} collar and a row of buttons",
        "sneaker": "a {} shoe with laces and a rubber sole",
        "bag": "a {} handle on top to carry things",
        "ankle boot": "a {} shoe that covers the ankle",
    },
}


def described(labels: Sequence[Label], naming: str, kind: str, *, seed: int) -> list[str]:
    """Each label's name with its text of a kind, ready for a template or a learnt context; plain ones the name alone."""
    if kind not in OTHERS:
        return enrichment.texts(labels, naming, kind, seed=seed, template="{}")
    told = {}
    for label in labels:
        colour, garment = label.plain.split(" ", 1)
        told[label.name(naming)] = OTHERS[kind][garment].format(colour)
    return enriched([label.name(naming) for label in labels], told)


class FixedTexts(nn.Module):
    """Frozen features of "a photo of a …"."""

    features: Tensor

    def __init__(self, run: AlignRun, teacher: ClipTeacher, labels: Sequence[Label]):
        super().__init__()
        self._outside = (run, teacher)
        self.register_buffer("features", self.of(labels), persistent=False)

    def of(self, labels: Sequence[Label]) -> Tensor:
        run, teacher = self._outside
        texts = prompts(described(labels, run.naming, run.text, seed=run.seed), TEMPLATE)
        return text_features(teacher.clip, captions.tokenizer(), texts)

    def forward(self) -> Tensor:
        return self.features


class LearntContext(nn.Module):
    """CoOp: a context learnt with the student, before names or enriched names."""

    def __init__(self, run: AlignRun, teacher: ClipTeacher, labels: Sequence[Label]):
        super().__init__()
        self._run, self._labels = run, list(labels)
        self.prompt = PromptLearner(
            teacher.clip, captions.tokenizer(), self._texts(labels), tokens=run.context, seed=run.seed
        )

    def _texts(self, labels: Sequence[Label]) -> list[str]:
        return [f"{text}." for text in described(labels, self._run.naming, self._run.text, seed=self._run.seed)]

    @torch.no_grad()
    def of(self, labels: Sequence[Label]) -> Tensor:
        self.prompt.texts_are(self._texts(labels))
        features = self.prompt()
        self.prompt.texts_are(self._texts(self._labels))
        return features

    def forward(self) -> Tensor:
        return self.prompt()


class LearntLabels(nn.Module):
    """The closed-set classifier: a vector a label, learnt; labels outside have no place before few-shot training.

    Args:
        run: its seed draws the vectors.
        size: D.
        labels: C training labels.
        known: vectors of earlier labels to begin with.
    """

    def __init__(self, run: AlignRun, size: int, labels: Sequence[Label], known: LearntLabels | None = None):
        super().__init__()
        generator = torch.Generator().manual_seed(run.seed)
        self.names = [label.plain for label in labels]
        self.vectors = nn.Parameter(torch.randn(len(labels), size, generator=generator) / size**0.5)
        if known is not None:
            rows = [self.names.index(name) for name in known.names]
            self.vectors.data[rows] = known.vectors.data

    def of(self, labels: Sequence[Label]) -> Tensor:
        unknown = [label.plain for label in labels if label.plain not in self.names]
        if unknown:
            raise ValueError(f"a closed-set classifier has no answer for {unknown[0]!r}, which it was not trained on")
        return F.normalize(self.vectors.detach()[[self.names.index(label.plain) for label in labels]], dim=1)

    def forward(self) -> Tensor:
        return F.normalize(self.vectors, dim=1)


Texts = FixedTexts | LearntContext | LearntLabels


def label_texts(run: AlignRun, teacher: ClipTeacher, labels: Sequence[Label]) -> Texts:
    """What a run asks for."""
    if run.text == "learnt":
        return LearntLabels(run, teacher.text_features.shape[1], labels)
    return LearntContext(run, teacher, labels) if run.context else FixedTexts(run, teacher, labels)
