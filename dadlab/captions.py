"""The language of the embedded benchmark: class names, colours, descriptions, prompt templates, captions.

The teacher learns from captions such as "a sketch of a coat" or "a cartoon of a red bag, a handle on top". Colours
and descriptions are there for the second paper, whose label space is colour × garment and whose labels are enriched
with text. The tokenizer is open_clip's own byte-pair encoder with merges learnt from these captions alone: any text
can be encoded, and the vocabulary stays below 1,000 tokens.
"""

from __future__ import annotations

import gzip
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode

from dadlab.photos import ASSETS, CLASSES
from dadlab.render import COLOURS

CONTEXT_LENGTH = 24
TEMPLATES = {
    "studio": ("a studio photo of a {}", "a product photo of a {}", "a {} on a plain backdrop"),
    "context": ("a photo of a {}", "a snapshot of a {}", "a {} on a busy backdrop"),
    "rendition": ("a cartoon of a {}", "a rendition of a {}", "a poster of a {}"),
    "sketch": ("a sketch of a {}", "a drawing of a {}", "a pencil outline of a {}"),
}
ZERO_SHOT_TEMPLATES = tuple(itertools.chain.from_iterable(TEMPLATES.values()))
DESCRIPTIONS = {
    "t-shirt": ("short sleeves and a round neck", "a light top for summer"),
    "trouser": ("two long straight legs", "worn from the waist to the ankles"),
    "pullover": ("long sleeves and no buttons", "a warm knitted top pulled over the head"),
    "dress": ("one long piece with a narrow waist", "a top and a skirt in one"),
    "coat": ("long sleeves and an open front", "a warm outer layer with buttons"),
    "sandal": ("open straps around the foot", "a light shoe with an open toe"),
    "shirt": ("a collar and a row of buttons", "a top with a collar and sleeves"),
    "sneaker": ("a low flat shoe with laces", "a sports shoe with a rubber sole"),
    "bag": ("a handle on top", "a box with a strap to carry things"),
    "ankle boot": ("a high shoe that covers the ankle", "a shoe with a heel and a shaft"),
}


def caption(label: int, colour: str, style: str, *, rng: np.random.Generator) -> str:
    """One random caption of a drawing: always names style and garment, sometimes its colour, sometimes more."""
    name = CLASSES[label]
    noun = f"{colour} {name}" if colour and rng.random() < 0.5 else name
    text = TEMPLATES[style][rng.integers(3)].format(noun)
    return f"{text}, {DESCRIPTIONS[name][rng.integers(2)]}" if rng.random() < 0.25 else text


def tokenizer(merges: Path = ASSETS / "bpe_merges.txt.gz") -> SimpleTokenizer:
    """open_clip's tokenizer with the embedded merges: texts to (N, 24) int64 tokens."""
    return SimpleTokenizer(str(merges), context_length=CONTEXT_LENGTH)


def write_merges(path: Path = ASSETS / "bpe_merges.txt.gz") -> None:
    """Learn byte-pair merges from every word the captions can hold, and store them as open_clip reads them."""
    texts = [t for ts in TEMPLATES.values() for t in ts] + [d for ds in DESCRIPTIONS.values() for d in ds]
    words = Counter(" ".join([*texts, *CLASSES * 12, *COLOURS * 10]).replace("{}", "").replace(",", "").split())
    merges = [" ".join(pair) for pair in learn_merges(words, 400)]
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *merges]).encode(), mtime=0))


def learn_merges(words: Counter[str], count: int) -> list[tuple[str, str]]:
    """Byte-pair encoding (Sennrich et al., 2016): repeatedly merge the most frequent adjacent pair of symbols."""
    symbols = bytes_to_unicode()
    spelt = {word: [symbols[b] for b in word.encode()] for word in words}
    for parts in spelt.values():
        parts[-1] += "</w>"
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelt.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(sorted(pairs), key=pairs.__getitem__)
        merges.append(best)
        spelt = {word: _merge(parts, best) for word, parts in spelt.items()}
    return merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
