"""Samples of a store as pictures and tables: what the store browser draws and exports."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from dadlab.dataset import to_picture
from dadlab.decode import decoded, draw
from dadlab.discretizer import VQGAN, Discretizer, Identity
from dadlab.files import atomic_path
from dadlab.pictures import canvas, plain_to_see, thumbnail
from dadlab.store import REASONS
from dadlab.style import COLOURS, KEPT, REJECTED

Row = Mapping[str, Any]
_SHOWN = 96  # pixels; a thumbnail needs no more


@torch.no_grad()
def images_of(content: Sequence[Row], discretizer: Discretizer | None) -> Tensor:
    """Images (B, 3, H, W) of rows with `codes` or `pixels`; grey where codes have no discretizer to draw them."""
    if content[0]["codes"] is None:
        return draw(torch.tensor(np.stack([row["pixels"] for row in content])), Identity()).float() / 255
    if not isinstance(discretizer, VQGAN):
        return torch.full((len(content), 3, 8, 8), 0.5)
    return decoded(torch.tensor(np.stack([row["codes"] for row in content])), discretizer)


@torch.no_grad()
def answers(batch: pa.RecordBatch, student: nn.Module, discretizer: Discretizer) -> tuple[np.ndarray, np.ndarray]:
    """What a student says of a slice of a store: class (B,), and KL(teacher ‖ student) in nats (B,)."""
    rows = batch.select(["codes", "pixels"]).to_pylist()
    logits = torch.cat([student(images_of(rows[k : k + 64], discretizer)) for k in range(0, len(rows), 64)])
    teacher = torch.tensor(np.stack(batch["logits"].to_pylist()))
    gap = F.kl_div(logits.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True).sum(1)
    return logits.argmax(1).numpy(), gap.numpy()


def data_url(image: Tensor) -> str:
    """A picture (3, H, W) in [0, 1] as a PNG inside a URL, at most 96 pixels wide."""
    picture = to_picture(image.clamp(0, 1))
    picture.thumbnail((_SHOWN, _SHOWN))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def caption(row: Row, classes: Sequence[str]) -> str:
    """`class → what the teacher says instead`, and how sure it is, in percent."""
    name = classes[row["label"]]
    said = "" if row["guess"] == row["label"] else f" → {classes[row['guess']]}"
    return f"{name}{said} {100 * row['confidence']:.0f}\N{NO-BREAK SPACE}%"


def describe(row: Row, classes: Sequence[str]) -> str:
    """A sample in a line of words."""
    parts = [
        f"photograph {row['index']:,}, variant {row['variant']}",
        f"{classes[row['label']]}: {row['reason']}",
        f"teacher says {classes[row['guess']]}, {100 * row['confidence']:.1f} %",
        f"‖Q(x′)−x‖₂ = {row['distance']:.2f}",
    ]
    if "student" in row:
        parts.append(f"student says {classes[row['student']]}, KL {row['disagreement']:.2f}")
    return " · ".join(parts)


def draw_page(images: Tensor, rows: Sequence[Row], classes: Sequence[str], title: str) -> Figure:
    """A page of samples, framed as kept or rejected."""
    columns, cell, line = 6, 1.15, 1.45
    lines = max(1, -(-len(rows) // columns))
    figure, ax = canvas(columns * (cell + 0.12) + 0.06, lines * line + 0.35)
    ax.text(0.08, lines * line + 0.12, title, fontsize=8)
    for k, (image, row) in enumerate(zip(images, rows, strict=True)):
        x, y = 0.08 + (k % columns) * (cell + 0.12), (lines - 1 - k // columns) * line + 0.25
        thumbnail(ax, image, x, y, cell)
        _frame(ax, row, x, y, cell)
        ax.text(x + cell / 2, y - 0.06, caption(row, classes), fontsize=7, ha="center", va="top")
    return figure


def draw_sample(
    image: Tensor, row: Row, logits: Sequence[float], classes: Sequence[str], clean: Tensor | None
) -> Figure:
    """One sample: x and what changed where x is at hand, Q(x′), the teacher's five likeliest classes."""
    cell, gap = 1.5, 0.15
    pictures = [("Q(x′)", image)]
    if clean is not None and clean.shape == image.shape:
        factor = plain_to_see(image - clean)
        name = "Q(x′)−x" if factor == 1 else f"{factor:g}·(Q(x′)−x)"
        pictures = [("x", clean), *pictures, (name, 0.5 + factor * (image - clean))]
    figure, ax = canvas(len(pictures) * (cell + gap) + 2.9, cell + 0.4)
    for k, (name, picture) in enumerate(pictures):
        x = 0.08 + k * (cell + gap)
        thumbnail(ax, picture, x, 0.08, cell)
        ax.text(x, cell + 0.14, name, fontsize=9, fontweight="bold")
        if name == "Q(x′)":
            _frame(ax, row, x, 0.08, cell)
    shares = torch.tensor(logits).softmax(0)
    left = 0.15 + len(pictures) * (cell + gap)
    ax.text(left, cell + 0.14, "teacher on Q(x′), %", fontsize=9)
    for k, label in enumerate(shares.topk(min(5, len(shares))).indices.tolist()):
        y, value = cell - 0.12 - 0.3 * k, float(shares[label])
        ax.text(left, y, classes[label], fontsize=9, va="center", fontweight="bold" if label == row["label"] else None)
        ax.add_patch(Rectangle((left + 1.0, y - 0.09), 1.2 * value, 0.18, color=COLOURS["dad"]))
        ax.text(left + 1.04 + 1.2 * value, y, f"{100 * value:.0f}", fontsize=8, va="center")
    return figure


def _frame(ax: Axes, row: Row, x: float, y: float, size: float) -> None:
    colour = KEPT if row["reason"] == REASONS[0] else REJECTED
    ax.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=colour, linewidth=1.8, zorder=2))


def export(marks: Sequence[Row], path: Path) -> str:
    """Write marked samples as `.csv` or `.json`, one entry a sample; returns what was written.

    Raises:
        ValueError: another suffix, or nothing to write.
    """
    if path.suffix not in (".csv", ".json"):
        raise ValueError(f"{path}: marks are written as .csv or .json")
    if not marks:
        raise ValueError("no sample is marked: open one and press mark")
    text = pd.DataFrame(marks).to_csv(index=False) if path.suffix == ".csv" else json.dumps(marks, indent=1)
    with atomic_path(path) as temporary:
        temporary.write_text(text)
    return text
