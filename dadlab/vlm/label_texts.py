"""What labels are to a student: the teacher's features of their texts, fixed, with a learnt context, or learnt whole.

Calling a module gives unit-length features (C, D) of the training labels; `of` gives those of any other labels, in
the same terms. The template, and descriptions for the paper's other three prompts (Table 7), are data, in
`assets/openvocab_prompts.json`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab.profile import nearest
from dadlab.teacher import ClipTeacher
from dadlab.vlm import enrichment
from dadlab.vlm.coop import PromptLearner
from dadlab.vlm.language import PLAIN, enriched, prompts, text_features
from dadlab.vlm.openvocab import Label, descriptions, names
from dadlab.vlm.run import PROMPTS, AlignRun


@functools.lru_cache(maxsize=1)
def _prompts() -> dict[str, Any]:
    return json.loads(PROMPTS.read_text(encoding="utf-8"))


def told(labels: Sequence[Label], naming: str, kind: str) -> dict[str, str]:
    """What labels of the embedded benchmark look like, keyed by name, as the prompt of a kind asks for it.

    Args:
        labels: of the embedded benchmark.
        naming: one of `dadlab.vlm.openvocab.NAMINGS`.
        kind: `description`, by the paper's base prompt, or one of its others (Table 7).

    Raises:
        ValueError: unknown kind.
    """
    if kind == "description":
        return descriptions(labels, naming)
    by_garment = nearest(kind, {k: v for k, v in _prompts().items() if isinstance(v, dict)}, "kind of description")
    parts = {label: label.plain.split(" ", 1) for label in labels}
    return {label.name(naming): by_garment[garment].format(colour) for label, (colour, garment) in parts.items()}


def described(run: AlignRun, labels: Sequence[Label]) -> list[str]:
    """Each label's name with the run's text, ready for a template or a learnt context; the name alone for plain."""
    if run.text in enrichment.KINDS:
        return enrichment.texts(labels, run.naming, run.text, seed=run.seed, template="{}")
    by_name = told(labels, run.naming, "description" if run.on_disk else run.text)
    return enriched(names(labels, run.naming), by_name)


def prompted(run: AlignRun, labels: Sequence[Label]) -> list[str]:
    """A run's texts in a template: for data on disk the paper's, for the embedded benchmark its own."""
    return prompts(described(run, labels), PLAIN if run.on_disk else _prompts()["template"])


class FixedTexts(nn.Module):
    """The teacher's features of a run's texts, names alone or with descriptions, in the template; nothing is learnt."""

    features: Tensor

    def __init__(self, run: AlignRun, teacher: ClipTeacher, labels: Sequence[Label]):
        super().__init__()
        self._outside = (run, teacher)
        self.register_buffer("features", self.of(labels), persistent=False)

    def of(self, labels: Sequence[Label]) -> Tensor:
        run, teacher = self._outside
        return text_features(teacher.clip, teacher.tokenizer, prompted(run, labels))

    def joined(self, labels: Sequence[Label]) -> FixedTexts:
        """The same with more labels behind these, each part in the terms that it has alone."""
        run, teacher = self._outside
        wider = FixedTexts(run, teacher, labels)
        wider.features = torch.cat([self.features.to(wider.features.device), wider.features])
        return wider

    def forward(self) -> Tensor:
        return self.features


class LearntContext(nn.Module):
    """CoOp: a context learnt with the student, before names or enriched names; names alone end with a full stop."""

    def __init__(self, run: AlignRun, teacher: ClipTeacher, labels: Sequence[Label]):
        super().__init__()
        self._run, self._labels = run, list(labels)
        self.prompt = PromptLearner(
            teacher.clip, teacher.tokenizer, self._texts(labels), tokens=run.context, seed=run.seed
        )

    def _texts(self, labels: Sequence[Label]) -> list[str]:
        texts = described(self._run, labels)
        return [f"{text}." for text in texts] if self._run.text == "plain" else texts

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
    """What the training labels are to a run's student; whatever of it is learnt is as it was before training."""
    if run.text == "learnt":
        return LearntLabels(run, teacher.text_features.shape[1], labels)
    return LearntContext(run, teacher, labels) if run.context else FixedTexts(run, teacher, labels)
