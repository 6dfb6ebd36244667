"""Implication 1 (Zhou et al., 2023, §3.4): teachers that differ in nothing but how many styles they saw.

All see the same photographs, as many drawings and as many steps, so that a teacher of fewer styles has seen each more
often. A set of styles is **P**₁ of the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dadlab.fingerprints import fingerprint
from dadlab.making.teacher import CONFIGS, STYLES, train_clip
from dadlab.photos import Photos, load_photos, read_published, split_published
from dadlab.profile import nearest

SETS = {f"{count} style{'s' * (count > 1)}": STYLES[:count] for count in (1, 2, 4)}


def teachers_photographs(folder: str = "") -> Photos:
    """Photographs to train teachers on.

    Args:
        folder: of Fashion-MNIST's published files, whose 50,000 no student sees; empty for the students' own 9,000.

    Raises:
        ValueError: files that are missing or damaged.
    """
    if not folder:
        return load_photos("train")
    return split_published(read_published(Path(folder), "train"), read_published(Path(folder), "t10k"))["teacher"]


def style_teacher(
    styles: Sequence[str],
    photos: Photos,
    runs_dir: Path,
    *,
    tower: str = "resnet",
    drawings: int = 8,
    steps: int = 2000,
    batch: int = 256,
    seed: int = 0,
    train: bool = True,
) -> Path:
    """The file of a CLIP that saw these styles, trained if it is not there.

    Args:
        styles: of `dadlab.making.teacher.STYLES`.
        photos: from `teachers_photographs`.
        runs_dir: teachers lie in its folder `teachers`.
        tower: `resnet` or `vit`.
        drawings: of each photograph, shared evenly between the styles.
        steps, batch, seed: of training; the rate is `train_clip`'s.
        train: else say where the file would be.

    Raises:
        ValueError: unknown tower or style, or drawings that cannot be shared evenly.
    """
    config = nearest(tower, CONFIGS, "tower")
    for style in styles:
        nearest(style, {name: name for name in STYLES}, "style")
    if not styles or drawings % len(styles):
        raise ValueError(f"{drawings} drawings cannot be shared evenly between {len(styles)} styles")
    key = fingerprint(list(styles), photos.index.tolist(), config, drawings, steps, batch, seed)
    file = Path(runs_dir) / "teachers" / f"{tower}-{len(styles)}-styles-{key}.safetensors"
    if train and not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        train_clip(
            photos, config, file, styles=styles, draws=drawings // len(styles), steps=steps, batch=batch, seed=seed
        )
    return file
