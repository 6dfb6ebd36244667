"""What descriptions do to zero-shot accuracy on the open-vocabulary benchmark, against two controls.

Nothing is trained: the teacher itself is the classifier. Each naming of the labels is read plain, with its
descriptions, with the descriptions shuffled between labels, and with as many random words. Rows of every result are
drawings of the same photographs; a control is drawn anew, with the drawing's number as seed, for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dadlab.estimates import accuracy, difference, rounded
from dadlab.tables.verdicts import Claim, Verdict, judge
from dadlab.teacher import ClipTeacher
from dadlab.vlm.language import JOIN, PLAIN, enriched, prompts, random_words, shuffled, text_features
from dadlab.vlm.openvocab import NAMINGS, Label, descriptions, labels_of, load_open, names
from dadlab.vlm.spectrum import spread
from dadlab.vlm.zero_shot import class_balanced, correct_by_scores, image_features

KINDS = ("plain", "description", "shuffled", "random words")
RIVALS = {"plain": "the name alone", "shuffled": "other labels' descriptions"}


def texts(
    labels: Sequence[Label], naming: str, kind: str, *, seed: int = 0, template: str = PLAIN, join: str = JOIN
) -> list[str]:
    """Finished prompts of labels, one of `KINDS`.

    Args:
        labels: the labels that are scored together; shuffling and random words stay among them.
        naming: one of `dadlab.vlm.openvocab.NAMINGS`.
        kind: one of `KINDS`.
        seed: of the controls.
        template, join: see `dadlab.vlm.language`.

    Raises:
        ValueError: unknown kind or naming.
    """
    called, described = names(labels, naming), descriptions(labels, naming)
    if kind == "plain":
        return prompts(called, template)
    if kind == "shuffled":
        described = shuffled(described, seed=seed)
    elif kind == "random words":
        described = random_words(described, seed=seed)
    elif kind != "description":
        raise ValueError(f"unknown kind of text {kind!r}: choose one of {', '.join(KINDS)}")
    return prompts(enriched(called, described, join=join), template)


def hits(
    teacher: ClipTeacher,
    split: str,
    drawings: Sequence[int],
    *,
    template: str = PLAIN,
    join: str = JOIN,
    kinds: Sequence[str] = KINDS,
    limit: int = 0,
) -> dict[tuple[str, str], np.ndarray]:
    """Correctness (drawings, images) of the zero-shot teacher on a split, by (naming, kind of text).

    Images are encoded once for all texts, these with the teacher's own tokenizer. Classes have equally many images, so
    the mean is mean per-class accuracy.
    """
    labels = labels_of(split)
    found: dict[tuple[str, str], list[np.ndarray]] = {(naming, kind): [] for naming in NAMINGS for kind in kinds}
    for drawing in drawings:
        dataset = load_open(split, drawing=drawing, limit=limit)
        features = image_features(teacher.features, dataset)
        for (naming, kind), rows in found.items():
            prompted = texts(labels, naming, kind, seed=drawing, template=template, join=join)
            scores = features @ text_features(teacher.clip, teacher.tokenizer, prompted).T
            right = correct_by_scores(scores, dataset.labels)
            assert torch.equal(class_balanced(right, dataset.labels), right.float())
            rows.append(right.numpy())
    return {key: np.stack(rows) for key, rows in found.items()}


def tabulate(measured: Mapping[str, Mapping[tuple[str, str], np.ndarray]]) -> dict[str, Any]:
    """JSON-ready `rows` (accuracy) and `differences` (each kind of text minus plain), with 95 % intervals.

    Args:
        measured: split → what `hits` returns.
    """
    rows, differences = [], []
    for split, by_text in measured.items():
        for (naming, kind), found in by_text.items():
            about = {"split": split, "naming": naming, "text": kind}
            each = [round(100 * float(drawing.mean()), 2) for drawing in found]
            rows.append({**about, "n": found.shape[1], "accuracy": rounded(accuracy(found)), "drawings": each})
            if kind != "plain":
                differences.append({**about, **rounded(difference(found, by_text[naming, "plain"]))})
    return {"rows": rows, "differences": differences}


def judged(measured: Mapping[str, Mapping[tuple[str, str], np.ndarray]]) -> tuple[list[Claim], list[Verdict]]:
    """That descriptions beat plain names, and other labels' descriptions, on every split and by every naming.

    Args:
        measured: split → what `hits` returns; drawings stand where students have seeds.
    """
    claims, pairs = [], []
    for split, by_text in measured.items():
        for naming in dict.fromkeys(naming for naming, _ in by_text):
            for other in ("plain", "shuffled"):
                text = f"Descriptions beat {RIVALS[other]}: {naming} names, {split}"
                claims.append(Claim(text, "description", other, f"{split}, {naming}"))
                pairs.append((by_text[naming, "description"], by_text[naming, other]))
    return claims, [judge(*pair, claims=len(claims)) for pair in pairs]


def spreads(teacher: ClipTeacher, split: str, *, template: str = PLAIN, join: str = JOIN) -> list[dict[str, Any]]:
    """`dadlab.vlm.spectrum.spread` of a split's texts, a row a naming and kind of text; controls with seed 0."""
    labels, rows = labels_of(split), []
    for naming in NAMINGS:
        for kind in KINDS:
            prompted = texts(labels, naming, kind, template=template, join=join)
            features = text_features(teacher.clip, teacher.tokenizer, prompted)
            rows.append({"split": split, "naming": naming, "text": kind, **spread(features)})
    return rows


def best_prompt(teacher: ClipTeacher, templates: Sequence[str], *, limit: int = 0) -> tuple[str, dict[str, float]]:
    """The template under which plain names do best on `val`, and each template's accuracy in percent."""
    found = {}
    for template in templates:
        right = hits(teacher, "val", [0], template=template, kinds=("plain",), limit=limit)
        found[template] = round(100 * float(right["plain", "plain"].mean()), 2)
    return max(found, key=found.__getitem__), found
