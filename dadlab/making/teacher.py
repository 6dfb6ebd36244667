"""Train the embedded CLIP: contrastive learning on drawn photographs and their captions.

It sees `studio`, `context`, `rendition` and `sketch` drawings of the 50,000 photographs that no student sees, never
`stylized`, `v2` or a corruption. The loss is CLIP's (Radford et al., 2021, Fig. 3) over the distinct captions of a
batch: with ten garments most captions occur more than once, and a repeated caption is one target, not several.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dadlab import captions
from dadlab.compute import mixed
from dadlab.files import load_weights, save_weights
from dadlab.fingerprints import content_of, fingerprint
from dadlab.photos import Photos
from dadlab.render import render
from dadlab.snapshot import restore_training, save_training
from dadlab.teacher import build_clip
from dadlab.views import augment
from dadlab.wrappers import Preprocess

STYLES = tuple(captions.TEMPLATES)
_TEXT = {"context_length": captions.CONTEXT_LENGTH, "width": 96, "heads": 4, "layers": 2}
_PIXELS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
CONFIGS: dict[str, dict[str, Any]] = {
    "resnet": {
        "embed_dim": 64,
        "vision_cfg": {"layers": [2, 2, 2, 1], "width": 16, "head_width": 64, "image_size": 64},
        "text_cfg": _TEXT,
        **_PIXELS,
    },
    "vit": {
        "embed_dim": 64,
        "vision_cfg": {
            "layers": 6,
            "width": 128,
            "head_width": 32,
            "patch_size": 4,
            "image_size": 32,
            "patch_dropout": 0.5,
        },
        "text_cfg": _TEXT,
        **_PIXELS,
    },
}

UNMASK_FROM = 0.5  # share of the steps after which a ViT sees all patches, as in FLIP (Li et al., 2023)


def draw_corpus(
    photos: Photos, draws: int, *, seed: int, styles: Sequence[str] = STYLES
) -> tuple[Tensor, Tensor, list[tuple[int, str, str]]]:
    """Draw every photograph in every style `draws` times.

    Returns:
        Images (N, 3, 32, 32) uint8, stable index (N,), and what each shows as (label, colour, style).
    """
    images, facts = [], []
    for draw in range(draws):
        for style in styles:
            drawn, colours = render(photos.pixels, style, seed=seed + draw, index=photos.index)
            images.append(drawn)
            facts += [(int(label), colour, style) for label, colour in zip(photos.labels, colours, strict=True)]
    stacked = torch.cat(images)
    return stacked, torch.arange(len(stacked)), facts


def clip_loss(clip: CLIP, pixels: Tensor, tokens: Tensor) -> Tensor:
    """Symmetric contrastive loss of (B, 3, H, W) pixels and (B, L) tokens, distinct captions as classes."""
    distinct, target = tokens.unique(dim=0, return_inverse=True)
    image = clip.encode_image(pixels, normalize=True).float()
    text = clip.encode_text(distinct, normalize=True).float()
    logits = clip.logit_scale.exp() * image @ text.T  # (B, K)
    shown = F.one_hot(target, len(distinct)).to(logits).T
    to_image = -(logits.T.log_softmax(1) * shown).sum(1) / shown.sum(1)
    return (F.cross_entropy(logits, target) + to_image.mean()) / 2


def train_clip(
    photos: Photos,
    config: dict[str, Any],
    out: Path,
    *,
    styles: Sequence[str] = STYLES,
    draws: int = 2,
    steps: int = 5000,
    batch: int = 256,
    peak: float = 2e-3,
    seed: int = 0,
    start: Path | None = None,
    log: Callable[[str], None] = print,
) -> CLIP:
    """Train one CLIP and write its safetensors; killed and started again, it goes on from the last checkpoint.

    The defaults are the recipe of the committed ResNet tower. With `start`, weights written here before, it trains
    these further, a ViT on all patches.

    Attention runs in plain matrix products: on a CPU the fused kernel's backward takes half of a ViT's step.
    """
    tokenize = captions.tokenizer()
    config = {**config, "text_cfg": {**config["text_cfg"], "vocab_size": tokenize.vocab_size}}
    torch.manual_seed(seed)
    clip = build_clip(config).to(memory_format=torch.channels_last)
    preprocess = Preprocess(config["vision_cfg"]["image_size"], config["mean"], config["std"])
    if start:
        clip.load_state_dict(load_weights(start)[0])
    optimizer = torch.optim.AdamW(clip.parameters(), lr=peak, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, max(20, steps), pct_start=0.1)
    state, checkpoint = (clip, optimizer, schedule), Path(out).with_suffix(".ckpt")
    begun = content_of(str(start)) if start else ""
    of = fingerprint(torch.from_numpy(photos.index), config, styles, draws, steps, batch, peak, seed, begun)
    done = restore_training(checkpoint, state, of)
    images, index, facts = draw_corpus(photos, draws, seed=1000 + seed, styles=styles)
    started = time.monotonic()
    for step in range(done, steps):
        if (start or step >= UNMASK_FROM * steps) and hasattr(clip.visual, "patch_dropout"):
            clip.visual.patch_dropout.prob = 0.0
        rng = np.random.Generator(np.random.Philox(key=[seed, step]))
        rows = torch.from_numpy(rng.integers(len(images), size=batch))
        tokens = tokenize([captions.caption(*facts[row], rng=rng) for row in rows.tolist()])
        pixels = preprocess(augment(images[rows].float() / 255, index[rows], step, pad=2))
        optimizer.zero_grad()
        with sdpa_kernel(SDPBackend.MATH), mixed("cpu"):
            loss = clip_loss(clip, pixels.contiguous(memory_format=torch.channels_last), tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, 4.6052)  # at most 100, as CLIP does
        if step % 200 == 199 or step == steps - 1:
            log(f"step {step + 1}/{steps} loss {loss.item():.3f} {time.monotonic() - started:.0f} s")
            save_training(checkpoint, state, step + 1, of)
    save_weights(out, clip.state_dict(), config)
    checkpoint.unlink(missing_ok=True)
    return clip.eval()
