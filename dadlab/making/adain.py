"""Train the embedded style transfer with the losses of Huang and Belongie (2017), Eqs. 11–13.

The encoder is what is left of a small classifier of colour × garment, trained first and then frozen, in the place of
VGG-19. The decoder learns to draw features that AdaIN has moved to another image's statistics. Both see `studio`
drawings of photographs that no student sees: the students' training style and nothing else. The committed one, with
what `dadlab.making.pretrain.draw_labelled` gives for these photographs (its first half is `studio`) and seed 5000:

    train_style_transfer(images[:50_000], labels[:50_000], "adain_studio.safetensors", encoder_steps=300, steps=600)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dadlab.adain import StyleTransfer, adain, statistics
from dadlab.compute import mixed
from dadlab.files import save_weights
from dadlab.fingerprints import fingerprint
from dadlab.making.drawings import random_batch
from dadlab.making.pretrain import train_classifier
from dadlab.snapshot import restore_training, save_training

STAGES = ((32, 32), (64,))
STYLE_WEIGHT = 10.0  # λ of Eq. 11, as published


def train_style_transfer(
    images: Tensor,
    labels: Tensor,
    out: Path,
    *,
    stages: Sequence[Sequence[int]] = STAGES,
    encoder_steps: int = 1000,
    steps: int = 2000,
    batch: int = 64,
    peak: float = 2e-3,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> StyleTransfer:
    """Train on images (N, 3, S, S) uint8 of labels (N,), and write the safetensors in half precision.

    Killed and started again, it goes on from the last checkpoint.
    """
    torch.manual_seed(seed)
    net = StyleTransfer(stages)
    _prepare(net)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(stages[-1][-1], int(labels.max()) + 1))
    checkpoints = [Path(out).with_suffix(suffix) for suffix in (".encoder.ckpt", ".ckpt")]
    classifier = nn.Sequential(net.encoder, head)
    train_classifier(classifier, images, labels, checkpoints[0], encoder_steps, batch, peak, seed, log)
    net.encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(net.decoder.parameters(), lr=peak, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, max(20, steps))
    state, started = (net, optimizer, schedule), time.monotonic()
    of = fingerprint(images, labels, stages, encoder_steps, steps, batch, peak, seed)
    done = restore_training(checkpoints[1], state, of)
    scales = [part.square().mean() for part in net.features(random_batch(images, 0, 256, seed)[0])]
    for step in range(done, steps):
        shown, styles = random_batch(images, step, 2 * batch, seed + 1)[0].split(batch)
        with mixed("cpu"):
            content, style = transfer_losses(net, shown, styles, scales)
            loss = content + STYLE_WEIGHT * style
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.decoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99 or step == steps - 1:
            seconds = time.monotonic() - started
            log(f"step {step + 1}/{steps} content {content.item():.4f} style {style.item():.4f} {seconds:.0f} s")
            save_training(checkpoints[1], state, step + 1, of)
    save_weights(out, net.state_dict(), {"stages": net.stages})
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    return net.eval()


@torch.no_grad()
def _prepare(net: StyleTransfer) -> None:
    """Begin with centred pixels and with weights that keep a signal's size through ReLUs (He et al., 2015)."""
    for layer in (*net.encoder, *net.decoder):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    first, last = net.encoder[0], net.decoder[-1]
    first.weight.copy_(4 * torch.eye(3)[:, :, None, None])  # type: ignore[operator, union-attr]
    first.bias.fill_(-2.0)  # type: ignore[operator, union-attr]
    last.bias.fill_(0.5)  # type: ignore[operator, union-attr]


def transfer_losses(
    net: StyleTransfer, content: Tensor, style: Tensor, scales: Sequence[Tensor | float]
) -> tuple[Tensor, Tensor]:
    """Content and style loss of one batch (Eqs. 12 and 13).

    How far the drawn image's deepest features are from AdaIN's, and how far each stage's means and deviations are from
    the style's: mean squares, here each divided by `scales`, the mean square of that stage's features, since the
    encoder's activations are not normalised as the published VGG's are.

    Args:
        net: encoder and decoder.
        content, style: (B, 3, H, W) in [0, 1].
        scales: one a stage.
    """
    wanted = net.features(style)
    target = adain(net.encoder(content), wanted[-1])
    found = net.features(net.decoder(target))
    moments = [
        (F.mse_loss(a, b) + F.mse_loss(c, d)) / scale
        for (a, c), (b, d), scale in zip(map(statistics, found), map(statistics, wanted), scales, strict=True)
    ]
    return F.mse_loss(found[-1], target) / scales[-1], torch.stack(moments).sum()
