"""Runs as a table and as curves: what the run list shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dadlab.estimates import difference
from dadlab.evaluate import SHIFTS, mce, mce_baseline, mean_error
from dadlab.students import WEIGHTS
from dadlab.style import COLOURS
from dadlab.widgets.kept import Kept
from dadlab.widgets.latest import Tick

_CSS = """
.dadlab-table { color: var(--jp-content-font-color1, currentColor); font-size: 12px; border-collapse: collapse; }
.dadlab-table th, .dadlab-table td { padding: 1px 10px; text-align: right; white-space: nowrap; line-height: 1.6; }
.dadlab-table tbody th { text-align: left; font-weight: normal; padding-left: 0; }
.dadlab-table thead th { border-bottom: 1px solid #8a8a8a; }
"""
_LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes:
        losses: one an epoch.
        seconds: of training so far.
        epochs: as planned.
        done: whether the weights are there; or answers without a log, as those that `dadlab.ledger` puts back.
    """

    losses: tuple[float, ...]
    seconds: float
    epochs: int
    done: bool

    @property
    def word(self) -> str:
        """What the table says of it: `done`, `answers` without a log, or the epochs so far and planned."""
        return ("done" if self.losses else "answers") if self.done else f"{len(self.losses)}/{self.epochs}"


def state(run: Kept) -> State:
    """Read a run's log; a line that is half written is left out."""
    losses, seconds = [], 0.0
    path = run.folder / "loss.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            losses.append(float(entry["loss"]))
            seconds += float(entry.get("seconds", 0))
        except (ValueError, KeyError, TypeError):
            continue
    done = run.trained or (not losses and bool(run.splits()))
    return State(tuple(losses), seconds, int(run.profile.get("epochs", len(losses))), done)


def measured(run: Kept) -> dict[str, float]:
    """Top-1 in percent on each split it was tested on, in the paper's order, and mCE where it was measured.

    Images without a baseline of their own have the mean error in mCE's place.
    """
    order = {split: k for k, split in enumerate(SHIFTS)}
    splits = sorted(run.splits(), key=lambda split: (order.get(split, len(order)), split))
    found = {split: 100 * float(run.correct(split).mean()) for split in splits}
    path = run.folder / "corruptions.json"
    if path.is_file():
        errors, baseline = json.loads(path.read_text()), mce_baseline(run.profile.get("data", "fashion"))
        found |= {"mCE ↓": mce(errors, baseline)} if baseline else {"C, error ↓": mean_error(errors)}
    return found


def table(runs: Sequence[Kept]) -> pd.DataFrame:
    """A line a run: how far it is, what it cost, its top-1 on each shift."""
    lines = {}
    for run in runs:
        now = state(run)
        last = now.losses[-1] if now.losses else float("nan")
        lines[run.title] = {"epochs": now.word, "loss": last, "minutes": now.seconds / 60, **measured(run)}
    return pd.DataFrame.from_dict(lines, orient="index")


def differences(runs: Sequence[Kept], tick: Tick = lambda share: None) -> pd.DataFrame:
    """Paired difference of each run to the first, in points, on the splits of the same data that both were tested on.

    Intervals are those of images alone: one run has one seed.
    """
    first, lines = runs[0], {}
    for place, run in enumerate(runs[1:]):
        common = [split for split in measured(run) if split in first.splits()] if run.sees_what(first) else []
        cells = {}
        for k, split in enumerate(common):
            tick((place + k / len(common)) / (len(runs) - 1))
            a, b = run.correct(split), first.correct(split)
            if len(a) == len(b):
                cells[split] = str(difference(a[None], b[None]))
        lines[run.title] = cells
    return pd.DataFrame.from_dict(lines, orient="index")


def as_html(frame: pd.DataFrame) -> str:
    """A table in the page's own colours."""
    text = frame.to_html(float_format="{:.1f}".format, na_rep="", border=0, escape=True, classes="dadlab-table")
    return f"<style>{_CSS}</style>{text}"


def draw(runs: Sequence[Kept]) -> Figure:
    """Loss curves on the left, top-1 on each shift on the right; one colour a method, one line style a run of it."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    curves, shifts = figure.subplots(1, 2)
    for place, run in enumerate(runs):
        same = sum(other.method == run.method for other in runs[:place])
        look = {"color": COLOURS.get(run.method, "#8A8A8A"), "linestyle": _LINES[same % len(_LINES)]}
        now = state(run)
        curves.plot(range(1, len(now.losses) + 1), now.losses, marker=".", linewidth=1.3, **look)
        found = {name: value for name, value in measured(run).items() if "↓" not in name}
        shifts.plot(list(found), list(found.values()), marker="o", markersize=4, linewidth=1.3, label=run.title, **look)
    curves.set(xlabel="epoch", ylabel="loss (each method has its own)")
    curves.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    curves.margins(x=0.08)
    curves.set_xlim(left=0.5)
    shifts.set_ylabel("top-1 (%)")
    shifts.tick_params(axis="x", rotation=40)
    if runs:
        figure.legend(
            *shifts.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False
        )
    for ax in (curves, shifts):
        _plain(ax)
    return figure


def _plain(ax: Axes) -> None:
    ax.grid(axis="y", color="#8A8A8A", linewidth=0.4, alpha=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_fontsize(8)


def stamp(runs_dir: Path) -> tuple[tuple[str, float], ...]:
    """Changes when a run below the folder is begun, goes on, ends or is tested."""
    watched = ("run.json", "loss.jsonl", WEIGHTS, "correct/*.npy", "corruptions.json")
    found = [path for run in Path(runs_dir).rglob("run.json") for name in watched for path in run.parent.glob(name)]
    return tuple(sorted((str(path), path.stat().st_mtime) for path in found))
