"""Any text encoder by name: texts to unit-length features.

The embedded CLIP, any CLIP of open_clip's, or a model of sentence-transformers, which is no dependency of dadlab and is
imported only when it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dadlab.photos import CLASSES
from dadlab.pretrained import load_open_clip
from dadlab.teacher import TOWERS, ClipTeacher, load_teacher
from dadlab.vlm.language import text_features

TextEncoder = Callable[[Sequence[str]], Tensor]


def load_text_encoder(name: str = "resnet") -> TextEncoder:
    """A function from N texts to unit-length features (N, D), float32 on the CPU; it warns of texts that are cut.

    Args:
        name: `resnet` or `vit`, the embedded teachers; `open_clip:MODEL/TAG` and its other forms, as
            `dadlab.teacher.load_teacher` takes them; `sentence-transformers:MODEL`, by name or folder.

    Raises:
        ValueError: unknown name, weights that cannot be had, or sentence-transformers that is not installed.
    """
    source, colon, model = name.partition(":")
    if name in TOWERS:
        teacher = load_teacher(name, CLASSES[:1], ("{}",))
        assert isinstance(teacher, ClipTeacher)
        return _clip_encoder(teacher.clip, teacher.tokenizer)
    if colon and source == "open_clip":
        clip, tokenizer, _ = load_open_clip(model)
        return _clip_encoder(clip.eval(), tokenizer)
    if colon and source == "sentence-transformers":
        return _sentence_encoder(model)
    raise ValueError(
        f"unknown text encoder {name!r}: choose one of {', '.join(TOWERS)}, open_clip:MODEL/WEIGHTS or "
        "sentence-transformers:MODEL"
    )


def _clip_encoder(clip: Any, tokenizer: Any) -> TextEncoder:
    return lambda texts: text_features(clip, tokenizer, texts).float().cpu()


def _sentence_encoder(model: str) -> TextEncoder:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ValueError(
            f"sentence-transformers:{model} needs the package: pip install sentence-transformers"
        ) from None
    try:
        encoder = SentenceTransformer(model, device="cpu")
    except Exception as error:  # the hub's client, transformers and torch each have their own
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"sentence-transformers:{model}: cannot be loaded ({reason}); give its folder") from None
    return lambda texts: torch.as_tensor(
        encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    ).float()
