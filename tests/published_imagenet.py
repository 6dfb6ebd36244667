"""A toy ImageNet in the folders that the authors' archives and scripts write: ten classes, four of them in A and R."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dadlab.disk.imagenet import CORRUPTIONS, SEVERITIES, Vocabulary

WNIDS = tuple(f"n{number:08d}" for number in (1440764, 1443537, 1484850, 1491361, 1494475, 2, 7, 30, 4, 5))
TOY = Vocabulary(
    tuple(sorted(WNIDS)),
    tuple(f"thing {k}" for k in range(10)),
    {"a": tuple(sorted(WNIDS))[1:9:2], "rendition": tuple(sorted(WNIDS))[0:8:2]},
)
V2 = "imagenetv2-{}-format-val"


def write_toy_imagenet(root: Path, *, corruptions: tuple[str, ...] = CORRUPTIONS, each: int = 2) -> Path:
    """Every published folder under `root`; class k is painted in its own grey, so that a model can tell."""
    sixty = {wnid: label for label, wnid in enumerate(TOY.wnids)}
    for split in ("train", "val", "sketch"):
        write_classes(root / split, sixty, each, "JPEG")
    for variant in ("matched-frequency", "threshold0.7", "top-images"):
        write_classes(root / V2.format(variant), {str(k): k for k in range(10)}, each, "jpeg")
    for subset, folder in (("a", "imagenet-a"), ("rendition", "imagenet-r")):
        write_classes(root / folder, {wnid: sixty[wnid] for wnid in TOY.subsets[subset]}, each, "jpg")
        (root / folder / "README.txt").write_text("as the archive has it")
    write_classes(root / "stylized-imagenet" / "val", sixty, each, "png", (224, 224))
    for kind in corruptions:
        for severity in SEVERITIES:
            write_classes(root / "imagenet-c" / kind / str(severity), sixty, 1, "JPEG", (224, 224))
    return root


def write_classes(
    folder: Path, labels: dict[str, int], each: int, suffix: str, size: tuple[int, int] = (96, 80)
) -> None:
    for name, label in labels.items():
        (folder / name).mkdir(parents=True)
        for k in range(each):
            picture(label, size).save(folder / name / f"{name}_{k}.{suffix}", quality=95)


def picture(label: int, size: tuple[int, int]) -> Image.Image:
    """Grey 25 · label with a checked border, so that a crop or a resize shows."""
    rows, columns = np.indices((size[1], size[0]))
    edge = (rows < 4) | (columns < 4) | (rows >= size[1] - 4) | (columns >= size[0] - 4)
    values = np.where(edge & ((rows + columns) % 2 == 0), 255, 25 * label).astype(np.uint8)
    return Image.fromarray(np.stack([values] * 3, axis=2))
