"""What is committed keeps what it promises; `slow` checks run the teacher over whole test splits."""

import pytest
import torch

from dadlab.data import load_split
from dadlab.dataset import to_bytes
from dadlab.discretizer import codebook_use, load_discretizer
from dadlab.evaluate import top1
from dadlab.making.discretizer import CONFIG
from dadlab.photos import ASSETS
from dadlab.teacher import load_teacher

LARGEST = {".npz": 7_000_000, ".safetensors": 5_000_000, ".json": 100_000, ".gz": 100_000, ".md": 100_000}
WANTED = {"studio": 0.87, "context": 0.85, "rendition": 0.85, "sketch": 0.85}


@pytest.mark.parametrize("path", sorted(ASSETS.iterdir()), ids=lambda path: path.name)
def test_assets_are_small(path):
    assert path.stat().st_size <= LARGEST[path.suffix]


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("resnet")


@pytest.mark.slow
@pytest.mark.parametrize("split", WANTED)
def test_teacher_is_good_enough(teacher, split):
    assert top1(teacher, load_split("fashion", split)) >= WANTED[split]


@pytest.mark.slow
@pytest.mark.parametrize("split", WANTED)
def test_vit_tower_answers_nearly_as_well(split):
    """At most three points below what the better tower must reach."""
    assert top1(load_teacher("vit"), load_split("fashion", split)) >= WANTED[split] - 0.03


@pytest.mark.slow
@pytest.mark.parametrize(("name", "low", "high"), [("diffusion", 0.65, 0.82), ("diffusion-text", 0.0, 0.2)])
def test_diffusion_keeps_what_its_record_says(teacher, name, low, high):
    """74 % of photographs from half-way noise, 8 % from noise alone: papers/dad/results/diffusion_studio.json."""
    photographs, diffusion = load_split("fashion", "val", limit=200), load_discretizer(name)
    drawn = to_bytes(diffusion(photographs.images(torch.arange(200))))
    assert low < top1(teacher, type(photographs)("Q(val)", photographs.classes, drawn, photographs.labels)) < high


@pytest.mark.slow
@pytest.mark.parametrize("name", ["studio", "broad"])
def test_discretizer_keeps_what_the_teacher_sees(teacher, name):
    studio, vqgan = load_split("fashion", "studio"), load_discretizer(name)
    codes = torch.cat([vqgan.encode(studio.images(rows)) for rows in torch.arange(len(studio)).split(100)])
    drawn = torch.cat([to_bytes(vqgan.decode(part)) for part in codes.split(100)])
    redrawn = type(studio)("Q(studio)", studio.classes, drawn, studio.labels)
    assert top1(teacher, redrawn) >= top1(teacher, studio) - 0.03
    share, perplexity = codebook_use(codes, CONFIG["n_embed"])
    assert share > 0.5
    assert perplexity > 100
