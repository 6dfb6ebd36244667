"""The open-vocabulary benchmark, embedded: colour × garment labels, half of them unseen in training.

Of the 110 labels 55 are seen in training (ID) and 55 are not (OOD), as *Distilling Large Vision-Language Model with
Out-of-Distribution Generalizability* (Li et al., ICCV 2023) halves its data sets; here an unseen label is a new pair of
a colour and a garment that are both seen. Every label has two names: `plain` ("red coat"), and `product`, an invented
name that says nothing. Either is enriched by the same description, which never says the garment's name. All of it is
data, in `assets/openvocab.json`.

Images are `studio` drawings. In every split the photographs of a garment take its colours in turn, so labels have
equally many images and mean per-class accuracy is plain accuracy. Photographs that would not fill all colours are left
out. A drawing number gives other poses, light and shades of the same photographs under the same labels.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from dadlab.captions import caption
from dadlab.dataset import Dataset
from dadlab.files import write_json
from dadlab.photos import ASSETS, CLASSES, Photos, load_photos
from dadlab.render import COLOURS, render, studio_colours

LABELS = ASSETS / "openvocab.json"
NAMINGS = ("plain", "product")
SHOTS = 5
CAPTIONS = 8  # a label, for L_cap and for tables about texts
# split: (photographs, seen labels or unseen). No split holds unseen labels for choosing: nothing is chosen on OOD.
SPLITS = {
    "train": ("train", True),
    "shots": ("train", False),
    "val": ("val", True),
    "id": ("test", True),
    "ood": ("test", False),
}
APPEARANCES = {
    "t-shirt": "a light {} top with short sleeves and a round neck",
    "trouser": "two long straight {} legs worn from the waist to the ankles",
    "pullover": "a warm knitted {} top with long sleeves and no buttons",
    "dress": "one long {} piece with a narrow waist and a skirt",
    "coat": "a warm {} outer layer with long sleeves and an open front",
    "sandal": "a light {} shoe with open straps and an open toe",
    "shirt": "a {} top with a collar and a row of buttons",
    "sneaker": "a low flat {} shoe with laces and a rubber sole",
    "bag": "a {} box with a strap and a handle on top",
    "ankle boot": "a high {} shoe with a heel that covers the ankle",
}
_SEED = 20230705
_FIRST_DRAWING = 1_000_000  # far from every seed of `dadlab.data` and `dadlab.making.teacher`


@dataclass(frozen=True)
class Label:
    """One label: its plain and its product name, whether training sees it, and what it looks like."""

    plain: str
    product: str
    seen: bool
    description: str

    def name(self, naming: str) -> str:
        """Its name in one of `NAMINGS`."""
        if naming not in NAMINGS:
            raise ValueError(f"unknown naming {naming!r}: choose one of {', '.join(NAMINGS)}")
        return self.plain if naming == "plain" else self.product


@functools.lru_cache(maxsize=2)
def load_labels(path: Path = LABELS) -> tuple[Label, ...]:
    """All labels in their fixed order: garment by garment, colours in the order of `dadlab.render.COLOURS`."""
    return tuple(Label(**entry) for entry in json.loads(Path(path).read_text())["labels"])


def names(labels: Sequence[Label], naming: str = "plain") -> list[str]:
    return [label.name(naming) for label in labels]


def descriptions(labels: Sequence[Label], naming: str = "plain") -> dict[str, str]:
    """What each looks like, keyed by its name, as `dadlab.vlm.language.enriched` takes it."""
    return {label.name(naming): label.description for label in labels}


def caption_texts(labels: Sequence[Label], each: int, *, seed: int = 0) -> tuple[list[str], torch.Tensor]:
    """`each` captions of `studio` drawings of every label, and the position (N,) of the label of each caption."""
    rng, texts = np.random.default_rng(seed), []
    for label in labels:
        colour, kind = label.plain.split(" ", 1)
        texts += [caption(CLASSES.index(kind), colour, "studio", rng=rng) for _ in range(each)]
    return texts, torch.arange(len(labels)).repeat_interleave(each)


def labels_of(split: str) -> list[Label]:
    """The labels of a split, in the order of its classes.

    Raises:
        ValueError: unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of the open-vocabulary benchmark: choose one of {', '.join(SPLITS)}")
    return [label for label in load_labels() if label.seen == SPLITS[split][1]]


def load_open(split: str, *, naming: str = "plain", drawing: int = 0, limit: int = 0) -> Dataset:
    """One split, its images drawn once more for every drawing number.

    Args:
        split: `train`; `val`, seen labels, for every choice; `id` and `ood`, seen and unseen labels, for reports;
            `shots`, 5 images of each unseen label, from photographs of the training set: other ones for other drawings.
        naming: one of `NAMINGS`; the pixels do not depend on it.
        drawing: which drawing of the photographs.
        limit: keep about this many images, the first of every label; 0 keeps all.

    Raises:
        ValueError: unknown split or naming, or a drawing below 0.
    """
    labels = labels_of(split)
    classes = tuple(names(labels, naming))
    if drawing < 0:
        raise ValueError(f"drawing must be at least 0, got {drawing}")
    dataset = _drawn(split, drawing, max(1, limit // len(labels)) if limit else 0)
    return Dataset(dataset.name, classes, dataset.pixels, dataset.labels)


def load_shift(style: str, *, seen: bool, naming: str = "plain", limit: int = 0) -> Dataset:
    """The test photographs drawn once in a style that training never saw, in whatever colour the style gives them.

    A photograph's label is its garment and the colour that it came out in; those with seen labels are kept, or those
    with unseen ones. Classes are all labels of `id` or `ood`: some have no image, since no style has every colour.

    Args:
        style: one with a colour: `context` (busy backdrops) or `rendition` (cartoons) of `dadlab.render.STYLES`.
        seen: which labels.
        naming, limit: as in `load_open`.

    Raises:
        ValueError: unknown style, or one without colours.
    """
    labels = labels_of("id" if seen else "ood")
    pixels, known = _styled(style)
    place = {label.plain: k for k, label in enumerate(labels)}
    numbers = np.array([place.get(name, -1) for name in known])
    rows = _each(numbers, len(labels), 0, max(1, limit // len(labels)) if limit else 0)
    kept = torch.from_numpy(numbers[rows])
    return Dataset(f"{'id' if seen else 'ood'} {style}", tuple(names(labels, naming)), pixels[rows], kept)


@functools.lru_cache(maxsize=4)
def _styled(style: str) -> tuple[torch.Tensor, list[str]]:
    photos = load_photos("test")
    pixels, colours = render(photos.pixels, style, seed=_FIRST_DRAWING, index=photos.index)
    if not any(colours):
        raise ValueError(f"style {style!r} has no colours, and labels here are colour and garment: choose another")
    return pixels, [f"{colour} {CLASSES[k]}" for colour, k in zip(colours, photos.labels, strict=True)]


@functools.lru_cache(maxsize=16)
def _drawn(split: str, drawing: int, quota: int) -> Dataset:
    source, _ = SPLITS[split]
    photos, colours = assigned(load_photos(source))
    known = [f"{colour} {CLASSES[k]}" for colour, k in zip(colours, photos.labels, strict=True)]
    position = {label.plain: k for k, label in enumerate(labels_of(split))}
    labels = np.array([position.get(name, -1) for name in known])
    first = SHOTS * drawing if split == "shots" else 0
    rows = _each(labels, len(position), first, SHOTS if split == "shots" else quota)
    pixels = draw_in(photos.take(rows), [colours[k] for k in rows], drawing)
    return Dataset(split, tuple(position), pixels, torch.from_numpy(labels[rows]))


def _each(labels: np.ndarray, count: int, first: int, quota: int) -> np.ndarray:
    """Sorted rows of labels 0 … count − 1: of each at most `quota` (0: all), from its `first` on and round again."""
    found = [np.roll(rows, -first)[: quota or None] for rows in (np.flatnonzero(labels == k) for k in range(count))]
    return np.sort(np.concatenate(found))


def assigned(photos: Photos) -> tuple[Photos, list[str]]:
    """Photographs with the colour each is to be drawn in: a garment's photographs take the colours in turn."""
    turn = np.zeros(len(photos), int)
    for label in np.unique(photos.labels):
        rows = np.flatnonzero(photos.labels == label)
        turn[rows] = np.arange(len(rows))
        turn[rows[len(rows) // len(COLOURS) * len(COLOURS) :]] = -1
    rows = np.flatnonzero(turn >= 0)
    return photos.take(rows), [COLOURS[turn[k] % len(COLOURS)] for k in rows]


def draw_in(photos: Photos, colours: Sequence[str], drawing: int) -> torch.Tensor:
    """`studio` drawings (N, 3, 32, 32) uint8 of photographs in given colours.

    A photograph's seed is the first from `_FIRST_DRAWING` (1 + drawing) on that draws it in its colour, so that the
    shade is random within what the name allows.
    """
    wanted, still_open = np.array(colours), np.arange(len(photos))
    pixels = torch.empty(len(photos), 3, 32, 32, dtype=torch.uint8)
    seed = _FIRST_DRAWING * (1 + drawing)
    while len(still_open):
        fits = np.array(studio_colours(seed=seed, index=photos.index[still_open])) == wanted[still_open]
        if fits.any():
            rows = still_open[fits]
            pixels[rows] = render(photos.pixels[rows], "studio", seed=seed, index=photos.index[rows])[0]
        still_open, seed = still_open[~fits], seed + 1
    return pixels


def make_labels() -> list[Label]:
    """All labels by rule.

    Garments and colours are put in a random order. The label at garment g and colour c of these orders is unseen where
    (g + c) mod 10 ≥ 5: a colour is unseen on 5 of the 10 garments, a garment in 5 or 6 of the 11 colours, and two
    garments never in the same ones. Product names are distinct random pairs of open syllables, the second with o or u.
    """
    rng = np.random.Generator(np.random.Philox(_SEED))
    garment, colour = rng.permutation(len(CLASSES)), rng.permutation(len(COLOURS))
    spelt = ["".join(letters) for letters in itertools.product("bdfklmnstvz", "aeiou", "bdklmnstvz", "ou")]
    products = [spelt[k] for k in rng.permutation(len(spelt))]
    return [
        Label(
            plain=f"{name} {kind}",
            product=products.pop(),
            seen=bool((garment[g] + colour[c]) % len(CLASSES) < len(CLASSES) // 2),
            description=APPEARANCES[kind].format(name),
        )
        for g, kind in enumerate(CLASSES)
        for c, name in enumerate(COLOURS)
    ]


def write_labels(path: Path = LABELS) -> None:
    """Store what `make_labels` gives."""
    rule = " ".join((make_labels.__doc__ or "").split())
    write_json(path, {"rule": rule, "seed": _SEED, "labels": [asdict(label) for label in make_labels()]})
