"""Frozen renderers: draw a grey garment photograph as a 32×32 colour image in one of six styles.

Photographs are real, what is drawn around them is procedural. Every random number comes from a Philox counter
keyed by (seed, sample index), and all arithmetic is float64 before the one rounding to 8 bits, so a sample has the
same bytes on every machine, in every batch and order. A sample keeps its pose and texture noise across styles: a
column of the shift figure shows one garment drawn six ways.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

SIZE = 32
STYLES = ("studio", "context", "v2", "rendition", "sketch", "stylized")
COLOURS = ("black", "grey", "white", "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
_HUE_EDGES = (0.03, 0.11, 0.19, 0.42, 0.53, 0.70, 0.80, 0.95)  # upper hue of red … pink; above: red again
_CHUNK = 1024


class Draws:
    """Random numbers of a batch, one independent counter-based stream a sample, handed out in order."""

    def __init__(self, seed: int, index: np.ndarray):
        self._streams = [np.random.Generator(np.random.Philox(key=[seed, int(i)])) for i in index]
        self._uniform = torch.from_numpy(np.stack([s.random(48) for s in self._streams]))
        self._used = 0

    @functools.cached_property
    def noise(self) -> Tensor:
        """White noise (N, 5, S, S), drawn after the uniform numbers."""
        return torch.from_numpy(np.stack([s.standard_normal((5, SIZE, SIZE)) for s in self._streams]))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """The next uniform number of every sample, shape (N, 1, 1, 1)."""
        self._used += 1
        return low + (high - low) * self._uniform[:, self._used - 1].view(-1, 1, 1, 1)

    def colour(self, saturation: tuple[float, float], value: tuple[float, float]) -> Tensor:
        """A random colour a sample as (hue, saturation, value), shape (N, 3, 1, 1)."""
        return torch.cat([self.uniform(), self.uniform(*saturation), self.uniform(*value)], 1)

    def texture(self, channel: int, roughness: float) -> Tensor:
        """Smooth random texture in [0, 1] with amplitude spectrum 1/f^roughness, shape (N, 1, S, S)."""
        freq = torch.fft.fftfreq(SIZE, dtype=torch.float64)
        radius = (freq[:, None] ** 2 + freq[None] ** 2).sqrt() + 1 / SIZE
        field = torch.fft.ifft2(torch.fft.fft2(self.noise[:, channel : channel + 1]) / radius**roughness).real
        low, high = field.amin((2, 3), True), field.amax((2, 3), True)
        return (field - low) / (high - low)


def render(pixels: np.ndarray, style: str, *, seed: int, index: np.ndarray) -> tuple[Tensor, list[str]]:
    """Draw photographs in a style.

    Args:
        pixels: (N, 28, 28) uint8 grey photographs on black.
        style: one of `STYLES`.
        seed: which drawing of the photographs.
        index: (N,) stable sample index, the other half of the random key.

    Returns:
        Images (N, 3, 32, 32) uint8, and the garment's colour name a sample ("" where the style has no colour).

    Raises:
        ValueError: unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}: choose one of {', '.join(STYLES)}")
    images, colours = [], []
    for start in range(0, len(pixels), _CHUNK):
        part = slice(start, start + _CHUNK)
        draws = Draws(seed, index[part])
        grey, mask = _pose(*_photo_and_mask(pixels[part]), draws)
        image, colour = _PAINTERS[style](grey, mask, draws)
        images.append((image.clamp(0, 1) * 255).round().to(torch.uint8))
        colours += [""] * len(image) if colour is None else _colour_names(colour)
    return torch.cat(images), colours


def studio_colours(*, seed: int, index: np.ndarray) -> list[str]:
    """Colour names that `render` gives `studio` drawings, without drawing them."""
    draws = Draws(seed, index)
    _placement(draws)
    return _colour_names(_studio_paints(draws)[1])


def _photo_and_mask(pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pad to 32×32 and find the garment: threshold, close, fill holes. Both (N, 1, 32, 32) float64."""
    grey = np.pad(pixels, ((0, 0), (2, 2), (2, 2))).astype(np.float64) / 255
    mask = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(photo > 0.06)) for photo in grey])
    return torch.from_numpy(grey)[:, None], torch.from_numpy(mask.astype(np.float64))[:, None]


def _pose(grey: Tensor, mask: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Random rotation (±0.25 rad), scale (±20 %), shift (±10 %) and mirror."""
    angle, zoom, dx, dy, mirror = _placement(draws)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    theta = torch.cat([torch.cat([cos, -sin, dx], 3), torch.cat([sin, cos, dy], 3)], 2)[:, 0]  # (N, 2, 3)
    grid = F.affine_grid(theta, [len(grey), 1, SIZE, SIZE], align_corners=False)
    posed = F.grid_sample(torch.cat([grey, mask], 1), grid, align_corners=False)
    posed = torch.where(mirror < 0.5, posed.flip(3), posed)
    return posed[:, :1], posed[:, 1:]


def _placement(draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    angle, zoom = draws.uniform(-0.25, 0.25), draws.uniform(0.8, 1.2)
    return angle, zoom, draws.uniform(-0.1, 0.1), draws.uniform(-0.1, 0.1), draws.uniform()


def _rgb(hsv: Tensor) -> Tensor:
    """(N, 3, 1, 1) hue, saturation, value in [0, 1] to RGB."""
    hue, saturation, value = hsv.split(1, 1)
    k = (torch.tensor([5.0, 3.0, 1.0], dtype=hsv.dtype).view(1, 3, 1, 1) + hue * 6) % 6
    return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)


def _edges(image: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]], dtype=image.dtype).view(1, 1, 3, 3)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return (F.conv2d(padded, kernel) ** 2 + F.conv2d(padded, kernel.transpose(2, 3)) ** 2).sqrt()


def _grain(draws: Draws) -> Tensor:
    return 0.02 * draws.noise[:, 2:5]


def _studio(grey: Tensor, mask: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Product shot: plain light backdrop, muted garment, soft light from one side."""
    backdrop, garment = _studio_paints(draws)
    angle = draws.uniform(0, 2 * math.pi)
    axis = torch.linspace(-1, 1, SIZE, dtype=grey.dtype)
    light = 1 - 0.06 * (1 + angle.cos() * axis + angle.sin() * axis[:, None])
    image = mask * _rgb(garment) * (0.35 + 0.65 * grey) + (1 - mask) * _rgb(backdrop) * light
    return image + _grain(draws), garment


def _studio_paints(draws: Draws) -> tuple[Tensor, Tensor]:
    """Backdrop and garment as (hue, saturation, value)."""
    return draws.colour((0, 0.12), (0.75, 1)), draws.colour((0, 0.45), (0.25, 0.9))


def _v2(grey: Tensor, mask: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Studio again, under slightly other light: flatter contrast, a warm or cold cast."""
    image, garment = _studio(grey, mask, draws)
    cast = torch.cat([draws.uniform(-0.05, 0.05) for _ in range(3)], 1)
    return 0.5 + (image - 0.5) * draws.uniform(0.7, 0.95) + cast + draws.uniform(-0.06, 0.06), garment


def _context(grey: Tensor, mask: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Busy textured backdrop, garment of any colour, uneven exposure."""
    texture = draws.texture(0, 1.5)
    first, second = (_rgb(draws.colour((0, 0.5), (0.1, 1))) for _ in range(2))
    garment = draws.colour((0, 0.7), (0.45, 1))
    backdrop = texture * first + (1 - texture) * second
    image = mask * _rgb(garment) * (0.3 + 0.7 * grey) + (1 - mask) * backdrop
    return image * draws.uniform(0.75, 1.25) + _grain(draws), garment


def _rendition(grey: Tensor, mask: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Cartoon: three flat tones in a vivid colour, dark outline, gradient backdrop."""
    garment = draws.colour((0.5, 1), (0.6, 1))
    top, bottom = (_rgb(draws.colour((0.3, 1), (0.5, 1))) for _ in range(2))
    fade = torch.linspace(0, 1, SIZE, dtype=grey.dtype)[:, None]
    tones = 0.4 + 0.2 * (grey * 3).round()
    outline = (0.4 * _edges(mask)).clamp(0, 1)
    image = (mask * _rgb(garment) * tones + (1 - mask) * (top * fade + bottom * (1 - fade))) * (1 - outline)
    soft = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return (image + soft) / 2, garment


def _sketch(grey: Tensor, mask: Tensor, draws: Draws) -> tuple[Tensor, None]:
    """Pencil lines along edges of garment and outline, on white paper."""
    line = torch.maximum(0.45 * _edges(grey), 0.35 * _edges(mask)).clamp(0, 1)
    line = (1.6 * line - 0.25).clamp(0, 1)
    return (0.97 - 0.95 * line).expand(-1, 3, -1, -1) + _grain(draws), None


def _stylized(grey: Tensor, mask: Tensor, draws: Draws) -> tuple[Tensor, None]:
    """Garment and backdrop filled with two rough textures; only shape is left to tell them apart."""
    inks = [_rgb(draws.colour((0.3, 1), (0.1, 1))) for _ in range(4)]
    front, back = draws.texture(0, 0.6), draws.texture(1, 0.6)
    garment = (front * inks[0] + (1 - front) * inks[1]) * (0.6 + 0.4 * grey)
    return mask * garment + (1 - mask) * (back * inks[2] + (1 - back) * inks[3]), None


def _colour_names(hsv: Tensor) -> list[str]:
    """Name each (hue, saturation, value): black, grey or white when dull, else by hue."""
    names = []
    for hue, saturation, value in hsv.view(-1, 3).tolist():
        if value < 0.35:
            names.append("black")
        elif saturation < 0.12:
            names.append("white" if value > 0.75 else "grey")
        else:
            names.append(COLOURS[3 + sum(hue >= edge for edge in _HUE_EDGES) % 8])
    return names


Painter = Callable[[Tensor, Tensor, Draws], tuple[Tensor, Tensor | None]]
_PAINTERS: dict[str, Painter] = {
    "studio": _studio,
    "context": _context,
    "v2": _v2,
    "rendition": _rendition,
    "sketch": _sketch,
    "stylized": _stylized,
}
