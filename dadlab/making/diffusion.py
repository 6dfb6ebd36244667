"""Train the embedded diffusion model: class-conditioned denoising of the discretizer's own drawings (Ho et al., 2020).

It stands in for Stable Diffusion in the ablation of the discretizer (Zhou et al., 2023, Table 10), so it sees what the
`studio` VQGAN has seen, `studio` drawings of photographs that no student sees, for about as long. Velocities are
predicted and the last step is pure noise, which is what sampling in few steps wants (Salimans & Ho, 2022; Lin et al.,
2024); a share of the labels is hidden, so that one network also answers for no class in particular (Ho & Salimans,
2022). The average of the weights over the last steps is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dadlab.compute import mixed
from dadlab.diffusion import SmallDiffusion
from dadlab.files import save_weights
from dadlab.fingerprints import fingerprint
from dadlab.making.drawings import random_batch
from dadlab.snapshot import restore_training, save_training

SAVED = 250  # steps between checkpoints
CONFIG: dict[str, Any] = {
    "classes": 10,
    "image_size": 32,
    "widths": [48, 80],
}


def train_diffusion(
    images: Tensor,
    labels: Tensor,
    out: Path,
    *,
    config: dict[str, Any] = CONFIG,
    steps: int = 5000,
    batch: int = 64,
    peak: float = 1e-3,
    hidden: float = 0.2,
    ema: float = 0.998,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> SmallDiffusion:
    """Train on images (N, 3, S, S) uint8 with labels (N,); restarted, it goes on where it was.

    Args:
        images, labels: drawings and their classes.
        out: safetensors to write, in half precision.
        config: of `SmallDiffusion`.
        steps, batch, peak: optimization (AdamW, one-cycle schedule).
        hidden: share of samples that are shown without their class.
        ema: decay a step of the weight average.
        seed: of everything random.
        log: gets a line with every checkpoint.
    """
    torch.manual_seed(seed)
    model = SmallDiffusion(**config)
    average = AveragedModel(model.unet, multi_avg_fn=get_ema_multi_avg_fn(ema))
    optimizer = torch.optim.AdamW(model.unet.parameters(), lr=peak, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, steps)
    state, checkpoint = (model, average, optimizer, schedule), Path(out).with_suffix(".ckpt")
    of = fingerprint(images, labels, config, steps, batch, peak, hidden, ema, seed)
    done, started, losses = restore_training(checkpoint, state, of), time.monotonic(), []
    for step in range(done, steps):
        pixels, rows = random_batch(images, step, batch, seed, pad=2)
        shown = torch.where(torch.rand(batch) < hidden, model.classes, labels[rows])
        with mixed("cpu"):
            loss = denoising_loss(model, pixels, shown)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model.unet)
        losses.append(loss.item())
        if (step + 1) % SAVED == 0 or step == steps - 1:
            save_training(checkpoint, state, step + 1, of)
            log(f"step {step + 1}/{steps} loss {sum(losses) / len(losses):.4f} {time.monotonic() - started:.0f} s")
            losses.clear()
    model.unet.load_state_dict(average.module.state_dict())
    save_weights(out, model.state_dict(), config)
    checkpoint.unlink(missing_ok=True)
    return model.eval()


def denoising_loss(model: SmallDiffusion, images: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity at a random time: a scalar.

    v = √ᾱ·ε − √(1−ᾱ)·x₀ (Salimans & Ho, 2022, appendix D).

    Args:
        model: what is trained.
        images: (B, 3, S, S) in [0, 1].
        labels: (B,), `model.classes` for no class.
    """
    clean = model.grid(images)
    noise, times = torch.randn_like(clean), torch.randint(model.scheduler.config.num_train_timesteps, (len(images),))
    noisy = model.scheduler.add_noise(clean, noise, times)
    wanted = model.scheduler.get_velocity(clean, noise, times)
    return F.mse_loss(model.velocity(noisy, times, labels).float(), wanted)
