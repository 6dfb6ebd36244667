"""Generation against the straightforward loop, side by side in one process: images a second, and whether they agree.

python -m benchmarks.generation                        (the embedded benchmark, CPU)
python -m benchmarks.generation --shapes toy           (f = 8, K = 16384, narrow, 64 × 64, CPU)
python -m benchmarks.generation --shapes imagenet      (ViT-L/14, f = 8 VQGAN, 224 × 224, random weights, a GPU)

The straightforward loop is the released code's way: float32, all cores on one batch, taming's `VectorQuantizer` (the
whole distance matrix, a one-hot matrix, a matrix product), one PNG a kept image. Models, photographs, attack, batch and
filter are the same. Repetitions alternate; both ways are warmed up first, so neither compilation nor the search for a
batch is counted. Beside the speed: the memory, and the operations that take most of the time, of a batch of each way;
of dadlab's without reading images and writing shards, which other threads do meanwhile. The models of both ways lie on
the device all the time.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import create_model, get_tokenizer
from PIL import Image
from taming.modules.vqvae.quantize import VectorQuantizer
from torch import Tensor, nn

from benchmarks.inside import inside
from dadlab.attack import perturb
from dadlab.compute import Compute, compile_towers, compute_on, with_towers
from dadlab.data import load_split
from dadlab.dataset import Dataset, to_bytes
from dadlab.discretizer import FrozenVQGAN, load_discretizer
from dadlab.examples import discretize_adversarially, sample_generators
from dadlab.files import write_json
from dadlab.generate import TILE, generate
from dadlab.profile import ATTACKS, Attack
from dadlab.progress import track
from dadlab.provenance import made_by
from dadlab.store import open_dataset
from dadlab.students import Student
from dadlab.teacher import ClipTeacher, StudentTeacher, load_teacher
from dadlab.wrappers import Preprocess

Setup = tuple[Dataset, nn.Module, FrozenVQGAN, Attack]


def fashion(samples: int) -> Setup:
    """The embedded benchmark as it is."""
    data = load_split("fashion", "train", limit=samples)
    return data, load_teacher("resnet", data.classes), load_discretizer("studio"), ATTACKS["fashion"]


def toy(samples: int) -> Setup:
    """The published VQGAN's depth, codebook and code size, narrow, on 64 × 64 noise."""
    torch.manual_seed(0)
    vqgan = random_vqgan(ch=32, ch_mult=[1, 1, 1, 1], num_res_blocks=0, resolution=64, attn_resolutions=[])
    return noise(samples, 64, 10), StudentTeacher(Student("resnet_s", 10, 64).eval()), vqgan, ATTACKS["paper"]


def imagenet(samples: int) -> Setup:
    """The paper's teacher and discretizer with random weights, on 224 × 224 noise."""
    torch.manual_seed(0)
    clip = create_model("ViT-L-14", pretrained=None)
    preprocess = Preprocess(224, clip.visual.image_mean or (0.5,) * 3, clip.visual.image_std or (0.25,) * 3)
    data = noise(samples, 224, 100)
    teacher = ClipTeacher(clip, get_tokenizer("ViT-L-14"), preprocess, data.classes, ["a photo of a {}"])
    vqgan = random_vqgan(ch=128, ch_mult=[1, 2, 2, 4], num_res_blocks=2, resolution=256, attn_resolutions=[32])
    return data, teacher, vqgan, ATTACKS["paper"]


SHAPES: dict[str, Callable[[int], Setup]] = {"fashion": fashion, "toy": toy, "imagenet": imagenet}


def random_vqgan(**ddconfig: Any) -> FrozenVQGAN:
    """K = 16384 codes of 4 numbers, spread as the encoder's random latents are."""
    fixed = {"double_z": False, "z_channels": 4, "in_channels": 3, "out_ch": 3, "dropout": 0.0}
    vqgan = FrozenVQGAN(ddconfig={**fixed, **ddconfig}, n_embed=16384, embed_dim=4)
    with torch.no_grad():
        latents = vqgan.latents(noise(8, ddconfig["resolution"], 2).images(torch.arange(8))).flatten(2)
        spread = torch.randn(16384, 4) * latents.std((0, 2)) + latents.mean((0, 2))
        vqgan.quantize.embedding.weight.copy_(spread)
    return vqgan.freeze()


def noise(samples: int, size: int, classes: int) -> Dataset:
    """Smooth noise, which PNG compresses about as well as photographs."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(samples, 3, size // 8, size // 8, generator=generator)
    pixels = torch.cat(
        [
            to_bytes(nn.functional.interpolate(part, (size, size), mode="bicubic").clamp(0, 1))
            for part in coarse.split(64)
        ]
    )
    return Dataset("noise", tuple(f"class {k}" for k in range(classes)), pixels, torch.arange(samples) % classes)


class Straightforward:
    """The loop as it is usually written."""

    def __init__(self, dataset: Dataset, teacher: nn.Module, vqgan: FrozenVQGAN, attack: Attack, batch: int):
        self.dataset, self.teacher, self.vqgan, self.attack, self.batch = dataset, teacher, vqgan, attack, batch
        self.device = next(teacher.parameters()).device
        weight = vqgan.quantize.embedding.weight
        self.quantizer = VectorQuantizer(len(weight), weight.shape[1], beta=0.25).to(self.device)
        self.quantizer.embedding.weight.data.copy_(weight)

    def discretize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        entries, _, (_, _, codes) = self.quantizer(self.vqgan.quant_conv(self.vqgan.encoder(images * 2 - 1)))
        return ((self.vqgan.decoder(self.vqgan.post_quant_conv(entries)) + 1) / 2).clamp(0, 1), codes

    def run(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Write a PNG of every kept sample; returns codes (N, h·w) and verdicts (N,)."""
        codes, verdicts = [], []
        for rows in torch.arange(len(self.dataset)).split(self.batch):
            images = self.dataset.images(rows).to(self.device)
            labels = self.dataset.labels[rows].to(self.device)
            with torch.no_grad():
                reconstructed, _ = self.discretize(images)
            moved = perturb(self.teacher, reconstructed, labels, self.attack, sample_generators(rows, 0))
            with torch.no_grad():
                final, found = self.discretize(moved)
                kept = (self.teacher(final).argmax(1) == labels).cpu()
            pixels = to_bytes(final).permute(0, 2, 3, 1).cpu().numpy()
            for row in torch.nonzero(kept)[:, 0].tolist():
                Image.fromarray(pixels[row]).save(folder / f"{rows[row]:08d}.png")
            codes.append(found.view(len(rows), -1).cpu().numpy())
            verdicts.append(kept.numpy())
        return np.concatenate(codes), np.concatenate(verdicts)


def compare(shapes: str, samples: int, repeats: int, batch: int, device: torch.device) -> dict[str, Any]:
    """Time both ways `repeats` times in turn; every repetition's own ratio counts."""
    data, teacher, vqgan, attack = SHAPES[shapes](samples)
    teacher, vqgan = teacher.to(device), vqgan.to(device)
    compute = compute_on(device)
    fast_teacher, fast_vqgan = with_towers(teacher, compute), with_towers(vqgan, compute)
    if compute.compiled:
        compile_towers(fast_teacher, fast_vqgan)
    prepared = Compute("float32", compiled=False, batch=batch)
    loop = Straightforward(data, teacher, vqgan, attack, batch)
    wall, cpu = ({"straightforward": [], "dadlab": []} for _ in range(2))
    with tempfile.TemporaryDirectory() as place:
        few = data.take(torch.arange(min(len(data), batch)))
        Straightforward(few, teacher, vqgan, attack, batch).run(Path(place))
        generate(few, fast_teacher, fast_vqgan, attack, Path(place) / "warm", compute=prepared)
        for repeat in track(range(repeats), "repetitions"):
            pictures, store = Path(place) / f"pictures-{repeat}", Path(place) / f"store-{repeat}"
            pictures.mkdir()
            with timed(wall["straightforward"], cpu["straightforward"]):
                codes, kept = loop.run(pictures)
            with timed(wall["dadlab"], cpu["dadlab"]):
                generate(data, fast_teacher, fast_vqgan, attack, store, compute=prepared)
        first = Straightforward(few, teacher, vqgan, attack, batch)
        within = {
            "straightforward": inside(lambda: first.run(Path(place))),
            "dadlab": inside(lambda: one_batch(few, fast_teacher, fast_vqgan, attack, device)),
        }
        rows = open_dataset(store).with_format("numpy")
        agree = {
            "codes": float((np.stack(rows["codes"][:]) == codes).mean()),
            "verdicts": float((np.asarray(rows["accepted"][:]) == kept).mean()),
            "kept": float(kept.mean()),
        }
        size = {
            "bytes a PNG": sum(p.stat().st_size for p in pictures.iterdir()) / max(1, int(kept.sum())),
            "bytes a stored row": sum(p.stat().st_size for p in store.glob("shard-*")) / len(rows),
        }
    return {
        "shapes": {"name": shapes, "what": SHAPES[shapes].__doc__, "image_size": int(data.pixels.shape[-1])},
        "samples": len(data),
        "batch": batch,
        "precision": compute.precision,
        "seconds": wall,
        "CPU seconds": cpu,
        "images a second": {way: round(len(data) / statistics.median(taken), 2) for way, taken in wall.items()},
        "ratio": spread(wall),
        "ratio of CPU time": spread(cpu),
        "inside a batch": within,
        "agreement": agree,
        "size": size,
    }


def one_batch(data: Dataset, teacher: nn.Module, vqgan: nn.Module, attack: Attack, device: torch.device) -> Tensor:
    """The verdicts on a batch, as `generate` comes to them."""
    rows = torch.arange(len(data))
    images, labels = data.images(rows).to(device), data.labels.to(device)
    return discretize_adversarially(images, labels, teacher, vqgan, attack, sample_generators(rows, 0)).accepted.cpu()


@contextlib.contextmanager
def timed(wall: list[float], cpu: list[float]) -> Iterator[None]:
    """Append the time that passed, and the time that all threads of this process computed."""
    started, worked = time.perf_counter(), time.process_time()
    yield
    wall.append(time.perf_counter() - started)
    cpu.append(time.process_time() - worked)


def spread(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How many times longer the straightforward loop took, repetition by repetition."""
    ratios = [slow / fast for slow, fast in zip(seconds["straightforward"], seconds["dadlab"], strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "n": len(ratios)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.generation", description="generation, side by side")
    parser.add_argument("--shapes", choices=SHAPES, default="fashion")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=TILE)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--note", default="", help="what else the reader should know, such as load on the machine")
    parser.add_argument("--out", type=Path, default=None, help="where the result goes as JSON")
    given = parser.parse_args(arguments)
    found = compare(given.shapes, given.samples, given.repeats, given.batch, torch.device(given.device))
    found |= {**made_by("benchmarks.generation", arguments), "note": given.note}
    speed, ratio = found["images a second"], found["ratio"]
    print(f"{speed['straightforward']} → {speed['dadlab']} images a second: {ratio['median']:.2f} times")
    print(f"between {ratio['low']:.2f} and {ratio['high']:.2f} in {ratio['n']} repetitions")
    print(f"of CPU time {found['ratio of CPU time']['median']:.2f} times, which other programs disturb less")
    print(f"codes agree {found['agreement']['codes']:.4%}, verdicts {found['agreement']['verdicts']:.2%}")
    if given.out:
        write_json(given.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
