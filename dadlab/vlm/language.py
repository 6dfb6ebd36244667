"""What a CLIP text encoder is given: plain names, names enriched with a description, and the prompts around them.

From *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV 2023), §5: an
enriched label is one string, "a photo of {name} . {sentence}", encoded once. Descriptions belong to labels by name,
never by row; `dadlab.vlm.text_files` reads them, `dadlab.vlm.describe` asks a language model for them. What a text
encoder cuts off is said, not silent.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor

from dadlab.teacher import Tokenizer

PLAIN, JOIN = "a photo of {}", " . "


class Cut(NamedTuple):
    """A text that needs more `tokens`, start and end included, than the encoder's `limit`."""

    text: str
    tokens: int
    limit: int


def prompts(names: Sequence[str], template: str = PLAIN) -> list[str]:
    """Each name in a template with one `{}`.

    Raises:
        ValueError: the template has not exactly one `{}`.

    >>> prompts(["owl"])
    ['a photo of owl']
    """
    if template.count("{}") != 1:
        raise ValueError(f"template {template!r} needs exactly one {{}}, where the name goes")
    return [template.replace("{}", name) for name in names]


def enriched(labels: Sequence[str], descriptions: Mapping[str, str], *, join: str = JOIN) -> list[str]:
    """Names followed by what they look like, ready for a template or a learnt context; the paper joins them by " . ".

    >>> prompts(enriched(["owl"], {"owl": "A round bird."}))
    ['a photo of owl . A round bird.']
    """
    return [f"{label}{join}{descriptions[label]}" for label in labels]


def shuffled(descriptions: Mapping[str, str], *, seed: int) -> dict[str, str]:
    """A control for enrichment: every label gets another one's description, along one random cycle through all.

    >>> shuffled({"owl": "A round bird.", "bag": "A box."}, seed=0)
    {'owl': 'A box.', 'bag': 'A round bird.'}
    """
    order = np.random.default_rng(seed).permutation(list(descriptions)).tolist()
    follower = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return {label: descriptions[follower[label]] for label in descriptions}


def random_words(descriptions: Mapping[str, str], *, seed: int) -> dict[str, str]:
    """A control for enrichment: as many words as each description has, drawn from the distinct words of all."""
    rng = np.random.default_rng(seed)
    words = sorted({word for text in descriptions.values() for word in text.split()})
    return {label: " ".join(rng.choice(words, len(text.split()))) for label, text in descriptions.items()}


def cut_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Cut]:
    """Texts that do not fit the text encoder's context, for any open_clip tokenizer.

    Tokens are counted up to eight times the limit; an end token that is also the padding is not counted.
    """
    if not texts:
        return []
    short = tokenizer(list(texts))
    limit = short.shape[1]
    long, nothing = (tokenizer(list(t), context_length=8 * limit) for t in (texts, [""]))  # type: ignore[call-arg]
    lengths = ((long != nothing[0, -1]) * torch.arange(1, 8 * limit + 1)).amax(1)  # where padding begins
    cut = (short != long[:, :limit]).any(1) | (lengths > limit)
    return [Cut(texts[i], max(int(lengths[i]), limit + 1), limit) for i in cut.nonzero()[:, 0].tolist()]


def warn_of_cuts(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """One `UserWarning` that says how many texts are cut, and the longest of them."""
    if found := cut_texts(tokenizer, texts):
        longest = max(found, key=lambda cut: cut.tokens)
        warnings.warn(
            f"{len(found)} of {len(texts)} texts exceed the text encoder's {longest.limit} tokens and are cut; "
            f"the longest has {longest.tokens}: {longest.text!r}",
            stacklevel=4,  # to the caller of `text_features` or `PromptLearner`
        )


@torch.no_grad()
def text_features(
    clip: CLIP | CustomTextCLIP, tokenizer: Tokenizer, texts: Sequence[str], *, batch: int = 256
) -> Tensor:
    """Unit-length features (N, D) of texts, each encoded once; warns of texts that are cut.

    Args:
        clip: an open_clip model.
        tokenizer: the tokenizer it was trained with.
        texts: N finished prompts or captions.
        batch: texts a forward pass.
    """
    warn_of_cuts(tokenizer, texts)
    device = next(clip.parameters()).device
    tokens = tokenizer(list(texts)).to(device)
    return torch.cat([clip.encode_text(part, normalize=True) for part in tokens.split(batch)])
