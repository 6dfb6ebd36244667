"""Prompt learning by CoOp (Zhou et al., 2022): context vectors, shared by all labels, in place of "a photo of".

As in *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV 2023): eight
context tokens before each label, drawn from N(0, 0.02), text encoder frozen. Its released code ends each label with a
full stop and trains the context together with the student, by the student's optimizer; so does whoever passes
`learner()` as the text features of `dadlab.vlm.losses` losses. Left out: contexts of a class's own, contexts that start
from a phrase, and CoCoOp.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor, nn

from dadlab.teacher import Tokenizer
from dadlab.vlm.language import warn_of_cuts


class PromptLearner(nn.Module):
    """Learnt context before fixed texts: `learner()` gives unit-length text features (C, D).

    The context is the only parameter and all there is in the state; the CLIP model is frozen, stays outside, and has
    to be on the context's device. `texts_are` scores other labels with the same context.

    Args:
        clip: an open_clip model with its own text tower; frozen here.
        tokenizer: the tokenizer it was trained with.
        texts: what follows the context, in label order: names or enriched names.
        tokens: length M of the context.
        seed: of the random vectors that it starts from.

    Raises:
        ValueError: the model has no token embedding, or the tokenizer leaves no place for the context.
    """

    def __init__(
        self,
        clip: CLIP | CustomTextCLIP,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        *,
        tokens: int = 8,
        seed: int = 0,
    ):
        super().__init__()
        embedding = _token_embedding(clip)
        clip.requires_grad_(False)
        self._outside = (clip, tokenizer, embedding)  # a tuple, so that they are not submodules
        self._first = _place_after("", tokenizer)
        generator = torch.Generator().manual_seed(seed)
        context = 0.02 * torch.randn(tokens, embedding.embedding_dim, generator=generator)
        self.context = nn.Parameter(context.to(embedding.weight))  # (M, W)
        self.texts_are(texts)

    def texts_are(self, texts: Sequence[str]) -> None:
        """Take other texts, for instance those of unseen labels; warns of texts that are cut."""
        _, tokenizer, embedding = self._outside
        places = " ".join(["a"] * len(self.context))
        if _place_after(places, tokenizer) != self._first + len(self.context):
            raise ValueError(f"the tokenizer does not make {len(self.context)} tokens of {places!r}")
        prompts = [f"{places} {text}" for text in texts]
        warn_of_cuts(tokenizer, prompts)
        self._tokens = tokenizer(prompts).to(embedding.weight.device)

    def forward(self) -> Tensor:
        clip, _, embedding = self._outside
        with embedding.register_forward_hook(self._put_context):
            return clip.encode_text(self._tokens, normalize=True)

    def _put_context(self, module: nn.Module, arguments: tuple[Tensor], embedded: Tensor) -> Tensor:
        after = self._first + len(self.context)
        context = self.context.expand(len(embedded), -1, -1)
        return torch.cat([embedded[:, : self._first], context, embedded[:, after:]], dim=1)


def _token_embedding(clip: CLIP | CustomTextCLIP) -> nn.Embedding:
    found = getattr(getattr(clip, "text", clip), "token_embedding", None)
    if not isinstance(found, nn.Embedding):
        raise ValueError(f"{type(clip).__name__} has no token embedding; give a model with open_clip's own text tower")
    return found


def _place_after(phrase: str, tokenizer: Tokenizer) -> int:
    """Position of the first token that follows a phrase."""
    first, second = tokenizer([f"{phrase} a", f"{phrase} x"])
    differ = (first != second).nonzero()
    if not len(differ):
        raise ValueError(f"the text encoder has no room after {phrase!r}")
    return int(differ[0])
