"""Train the embedded VQGAN with the full objective of Esser et al. (2021), Eqs. 1–7.

Pixel and perceptual reconstruction, codebook and commitment loss, and a patch discriminator that joins after a
warm-up with their adaptive weight. LPIPS weights are on no package index, so the perceptual distance compares
features of a small classifier trained here, on the same drawings, independent of teacher and students.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from taming.modules.discriminator.model import NLayerDiscriminator, weights_init
from torch import Tensor, nn

from dadlab.compute import mixed
from dadlab.discretizer import VQGAN, codebook_use
from dadlab.files import save_weights
from dadlab.fingerprints import fingerprint
from dadlab.making.drawings import random_batch
from dadlab.snapshot import restore_training, save_training

SAVED = 250  # steps between checkpoints
REVIVED = 100  # steps between revivals of unused codes
CONFIG: dict[str, Any] = {
    "ddconfig": {
        "double_z": False,
        "z_channels": 8,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    "n_embed": 1024,
    "embed_dim": 4,
}


class PerceptualNet(nn.Module):
    """A small classifier whose unit-normalised features stand in for LPIPS' (Zhang et al., 2018)."""

    def __init__(self, classes: int = 10):
        super().__init__()
        widths = (3, 32, 64, 128)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 1 if a == 3 else 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], classes)

    def features(self, images: Tensor) -> list[Tensor]:
        found = []
        hidden = images * 4 - 2
        for stage in self.stages:
            hidden = stage(hidden)
            found.append(hidden)
        return found

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images)[-1].mean((2, 3)))

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Mean squared difference of unit-normalised features, averaged over stages: a scalar."""
        pairs = zip(self.features(first), self.features(second), strict=True)
        return torch.stack([(F.normalize(a) - F.normalize(b)).square().sum(1).mean() for a, b in pairs]).mean()


def train_perceptual(
    images: Tensor, labels: Tensor, *, steps: int = 600, batch: int = 128, seed: int = 0
) -> PerceptualNet:
    torch.manual_seed(seed)
    net = PerceptualNet(int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for step in range(steps):
        pixels, rows = random_batch(images, step, batch, seed + 1, pad=2)
        loss = F.cross_entropy(net(pixels), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval().requires_grad_(False)


def train_vqgan(
    images: Tensor,
    labels: Tensor,
    out: Path,
    *,
    config: dict[str, Any] = CONFIG,
    steps: int = 3500,
    batch: int = 64,
    peak: float = 1e-3,
    adversarial_from: float = 0.6,
    perceptual_steps: int = 600,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> VQGAN:
    """Train a VQGAN on images (N, 3, 32, 32) uint8 and write its safetensors; restarted, it goes on where it was.

    The defaults are the committed ones' recipe.
    """
    net = train_perceptual(images, labels, steps=perceptual_steps, seed=seed)
    torch.manual_seed(seed)
    vqgan = VQGAN(**config)
    critic = NLayerDiscriminator(n_layers=2, ndf=32).apply(weights_init)
    optimizers = [torch.optim.Adam(part.parameters(), lr=peak, betas=(0.5, 0.9)) for part in (vqgan, critic)]
    schedules = [torch.optim.lr_scheduler.OneCycleLR(opt, peak, steps, cycle_momentum=False) for opt in optimizers]
    state, checkpoint = (vqgan, critic, *optimizers, *schedules), Path(out).with_suffix(".ckpt")
    of = fingerprint(images, labels, config, steps, batch, peak, adversarial_from, perceptual_steps, seed)
    done, started = restore_training(checkpoint, state, of), time.monotonic()
    if done == 0:
        _seed_codebook(vqgan, random_batch(images, 0, batch, seed, pad=2)[0])
    for step in range(done, steps):
        pixels, _ = random_batch(images, step, batch, seed, pad=2)
        with mixed("cpu"):
            drawn, code_loss, codes = vqgan.reconstruct(pixels)
            fit = (drawn - pixels).abs().mean() + net.distance(drawn, pixels)
        loss = fit + code_loss
        playing = step >= adversarial_from * steps
        if playing:
            fooled = -critic(drawn.float() * 2 - 1).mean()
            loss = loss + 0.5 * adaptive_weight(fit, fooled, vqgan.decoder.conv_out.weight) * fooled
        _step(loss, optimizers[0], schedules[0])
        if playing:
            real, fake = critic(pixels * 2 - 1), critic(drawn.detach().float() * 2 - 1)
            _step((F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2, optimizers[1], schedules[1])
        if (step + 1) % REVIVED == 0 and step < 0.7 * steps:
            _revive_codes(vqgan, pixels, codes)
        if (step + 1) % SAVED == 0 or step == steps - 1:
            use, perplexity = codebook_use(codes, config["n_embed"])
            log(f"step {step + 1}/{steps} fit {fit.item():.4f} use {use:.2f} perplexity {perplexity:.0f} "
                f"{time.monotonic() - started:.0f} s")  # fmt: skip
            save_training(checkpoint, state, step + 1, of)
    save_weights(out, vqgan.state_dict(), config)
    checkpoint.unlink(missing_ok=True)
    return vqgan.eval()


def adaptive_weight(fit: Tensor, fooled: Tensor, last_layer: Tensor) -> Tensor:
    """Esser et al. (2021), Eq. 7: ratio of both losses' gradient norms at the decoder's last layer, at most 1e4."""
    wanted = torch.autograd.grad(fit, last_layer, retain_graph=True)[0].norm()
    offered = torch.autograd.grad(fooled, last_layer, retain_graph=True)[0].norm()
    return (wanted / (offered + 1e-4)).clamp(0, 1e4).detach()


def _step(loss: Tensor, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


@torch.no_grad()
def _seed_codebook(vqgan: VQGAN, pixels: Tensor) -> None:
    """Start the codebook at latents of real images: every entry can win from the first step."""
    _place(vqgan, torch.arange(vqgan.quantize.n_e), pixels)


@torch.no_grad()
def _revive_codes(vqgan: VQGAN, pixels: Tensor, codes: Tensor) -> None:
    """Move entries that a whole batch never chose to latents of that batch (Dhariwal et al., 2020)."""
    counts = torch.bincount(codes.flatten(), minlength=vqgan.quantize.n_e)
    _place(vqgan, torch.nonzero(counts == 0)[:, 0], pixels)


def _place(vqgan: VQGAN, entries: Tensor, pixels: Tensor) -> None:
    latents = vqgan.latents(pixels).permute(0, 2, 3, 1).flatten(0, 2)
    vqgan.quantize.embedding.weight[entries] = latents[torch.randint(len(latents), (len(entries),))].float()
