"""Teachers and discretizers trained for a question: on fewer styles, or as the embedded ones from another seed.

Teachers of more and fewer styles are Implication 1's (Zhou et al., 2023, §3.4), a set of styles its **P**₁: all see the
same photographs, as many drawings and as many steps, so that one of fewer styles has seen each more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dadlab.data import training_split
from dadlab.fingerprints import fingerprint
from dadlab.making.discretizer import CONFIG, train_vqgan
from dadlab.making.drawings import draw
from dadlab.making.teacher import CONFIGS, STYLES, train_clip
from dadlab.materials import discretized, kept_share
from dadlab.photos import Photos, load_photos, read_published, split_published
from dadlab.profile import Profile, nearest
from dadlab.tables.answers import teacher_correct

DRAWING_SEED = 2000  # of what the embedded discretizers saw
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
    steps: int = 5000,
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
        steps, batch, seed: of training; the rate is `train_clip`'s. With all styles and the seed 0 these are the
            embedded ResNet tower's.
        train: else say where the file would be.

    Raises:
        ValueError: unknown tower or style, or drawings that cannot be shared evenly.
    """
    config = nearest(tower, CONFIGS, "tower")
    _check(styles)
    if drawings % len(styles):
        raise ValueError(f"{drawings} drawings cannot be shared evenly between {len(styles)} styles")
    key = fingerprint(list(styles), photos.index.tolist(), config, drawings, steps, batch, seed)
    file = Path(runs_dir) / "teachers" / f"{tower}-{len(styles)}-styles-{key}.safetensors"
    if train and not file.is_file():
        train_clip(
            photos, config, file, styles=styles, draws=drawings // len(styles), steps=steps, batch=batch, seed=seed
        )
    return file


def style_discretizer(
    styles: Sequence[str],
    photos: Photos,
    runs_dir: Path,
    *,
    steps: int = 3500,
    batch: int = 64,
    perceptual_steps: int = 600,
    seed: int = 0,
    train: bool = True,
) -> Path:
    """The file of a VQGAN that saw these styles, trained if it is not there.

    Args:
        styles: of `dadlab.making.teacher.STYLES`; `studio` alone, with the seed 0, is the embedded one's.
        photos: from `teachers_photographs`.
        runs_dir: discretizers lie in its folder `discretizers`.
        steps, batch, perceptual_steps, seed: of training; the rest is `train_vqgan`'s.
        train: else say where the file would be.

    Raises:
        ValueError: no style, or an unknown one.
    """
    _check(styles)
    key = fingerprint(list(styles), photos.index.tolist(), CONFIG, steps, batch, perceptual_steps, seed)
    file = Path(runs_dir) / "discretizers" / f"{'-'.join(styles)}-{key}.safetensors"
    if train and not file.is_file():
        images, labels = draw(photos, styles, seed=DRAWING_SEED + seed)
        train_vqgan(images, labels, file, steps=steps, batch=batch, perceptual_steps=perceptual_steps, seed=seed)
    return file


def knowledge(profile: Profile, splits: Sequence[str], runs_dir: Path) -> dict[str, float]:
    """What a profile's teacher knows zero-shot, top-1 in per cent by split, and which share of its samples it keeps.

    A teacher that does not know its own adversarial examples keeps few. The store is made if it is not there.
    """
    clean = training_split(profile)
    found = {split: 100 * float(teacher_correct(profile, runs_dir, split).mean()) for split in splits}
    discretized(clean, profile, runs_dir)
    return {**found, "samples kept": 100 * kept_share(clean, profile, runs_dir)}


def spread(top1: pd.DataFrame) -> pd.DataFrame:
    """How much students' top-1 varies over what their profiles differ in, beside how much it does over their seeds.

    Args:
        top1: a line each (field, its value, student's seed), a column a split.

    Returns:
        A row each value of a field, averaged over seeds, then `deviation` over these values and `over seeds` the mean
        deviation over seeds of one value: standard deviations, in the unit of `top1`.
    """
    means = top1.groupby(level=[0, 1], sort=False).mean()
    lines: dict[tuple[str, str], pd.Series] = {}
    for field, part in means.groupby(level=0, sort=False):
        lines |= {(field, value): line for (_, value), line in part.iterrows()}
        lines[field, "deviation"] = part.std()
        lines[field, "over seeds"] = top1.loc[[field]].groupby(level=1).std().mean()
    return pd.DataFrame(lines).T.rename_axis(["field", "value"])


def _check(styles: Sequence[str]) -> None:
    """Raise a `ValueError` if there is no style, or one that teachers are not made of."""
    if not styles:
        raise ValueError(f"no style to learn: choose among {', '.join(STYLES)}")
    for style in styles:
        nearest(style, {name: name for name in STYLES}, "style")
