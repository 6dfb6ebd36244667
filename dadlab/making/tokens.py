"""Train a Discrete ViT (Mao et al., 2022) on the students' own training images: a teacher of Tables 5 and 9.

A small ViT sees pixels together with a VQGAN's codes of the same image (`dadlab.tokens`); the VQGAN stays as it is.
Cross-entropy on crops and mirrors, as `dadlab.making.pretrain` has it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dadlab.dataset import Dataset
from dadlab.discretizer import FrozenVQGAN
from dadlab.files import load_weights
from dadlab.making.pretrain import train_classifier
from dadlab.photos import ASSETS
from dadlab.students import PIXELS, VITS
from dadlab.tokens import TokenTeacher, TokenViT, save_token_teacher


class _Trained(nn.Module):
    """The backbone with a VQGAN that gives it codes."""

    def __init__(self, discretizer: FrozenVQGAN, backbone: TokenViT):
        super().__init__()
        self.discretizer, self.backbone = discretizer, backbone

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            entries = self.discretizer.embed(images)
        return self.backbone(images, entries)


def train_token_teacher(
    images: Dataset,
    out: Path,
    *,
    discretizer: Path = ASSETS / "vqgan_studio.safetensors",
    vit: dict[str, Any] = VITS["vit_s"],
    steps: int = 3400,
    batch: int = 32,
    peak: float = 6e-3,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> TokenTeacher:
    """Train a Discrete ViT and write it, discretizer included; killed and started again, it goes on.

    Args:
        images: the training images.
        out: safetensors file, which `dadlab.teacher.load_teacher` reads.
        discretizer: weights of the VQGAN.
        vit: arguments of timm's `VisionTransformer`; image size and classes are those of the images.
        steps, batch, peak, seed: of training.
        log: is given a line every hundred steps.
    """
    torch.manual_seed(seed)
    pixels = images.in_memory().pixels
    assert isinstance(pixels, Tensor)
    state, vqgan = load_weights(discretizer)
    quantizer = FrozenVQGAN(**vqgan)
    quantizer.load_state_dict(state)
    mean, std = PIXELS
    shape = {"img_size": pixels.shape[-1], "num_classes": len(images.classes)}
    code = 2 ** (len(vqgan["ddconfig"]["ch_mult"]) - 1)
    tokens = {"vit": {**vit, **shape}, "code_dim": vqgan["embed_dim"], "code_size": code, "mean": mean, "std": std}
    net = _Trained(quantizer.freeze(), TokenViT(**tokens))
    checkpoint = Path(out).with_suffix(".ckpt")
    train_classifier(net, pixels, images.labels, checkpoint, steps, batch, peak, seed, log)
    teacher = TokenTeacher(quantizer, net.backbone, shape["img_size"])
    save_token_teacher(out, teacher, {"tokens": tokens, "vqgan": vqgan})
    checkpoint.unlink(missing_ok=True)
    return teacher
