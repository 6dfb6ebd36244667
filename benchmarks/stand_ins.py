"""Files of ImageNet's shapes and formats for who has neither: photographs of noise, random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import create_model
from PIL import Image
from safetensors.torch import save_file

from dadlab.adain import StyleTransfer
from dadlab.checkpoints import VQGAN_F8
from dadlab.discretizer import FrozenVQGAN
from dadlab.files import save_weights

PHOTOGRAPH = (500, 375)  # what an ImageNet photograph usually measures


def imagenet(folder: Path, count: int) -> dict[str, Any]:
    """ViT-L/14, the f = 8 VQGAN and AdaIN of random weights, `count` JPEGs in two class folders: a profile's fields.

    A random teacher answers the same almost everywhere: of two classes it keeps about half of the samples.
    """
    torch.manual_seed(0)
    write_photographs(folder / "data" / "train", count, ("first", "second"), PHOTOGRAPH)
    teacher, discretizer = folder / "vit_l_14.safetensors", folder / "vqgan_f8.safetensors"
    save_file(create_model("ViT-L-14", pretrained=None, load_weights=False).state_dict(), teacher)
    save_weights(discretizer, FrozenVQGAN(**VQGAN_F8).state_dict(), VQGAN_F8)
    net, transfer = StyleTransfer(), folder / "adain_vgg.safetensors"
    save_weights(transfer, net.state_dict(), {"stages": net.stages}, half=False)
    return {
        "data": str(folder / "data"),
        "teacher": f"open_clip:ViT-L-14/{teacher}",
        "discretizer": str(discretizer),
        "transfer": str(transfer),
        "attack": "paper",
    }


def write_photographs(folder: Path, count: int, classes: Sequence[str], size: tuple[int, int]) -> None:
    """JPEGs of smooth noise, of as many bytes as photographs have, in turn in each class folder."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        coarse = rng.integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        picture.save(folder / classes[k % len(classes)] / f"{k:06d}.jpg", quality=90)
