"""Experiment trackers: any of Accelerate's, by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from dadlab.profile import nearest
from dadlab.progress import say
from dadlab.run import Run


def tracker_name(name: str) -> str | None:
    """The tracker to use, or None.

    Args:
        name: `tensorboard`, `wandb` or another of Accelerate's; `auto` is TensorBoard where it is installed; empty
            is none.

    Raises:
        ValueError: unknown tracker, or one that is not installed.
    """
    installed = {str(tracker.value if hasattr(tracker, "value") else tracker) for tracker in get_available_trackers()}
    if name == "auto" and "tensorboard" not in installed:
        say("TensorBoard is not installed (pip install tensorboard): loss.jsonl alone keeps the curve")
        return None
    name = "tensorboard" if name == "auto" else name
    if not name:
        return None
    nearest(name, dict(LOGGER_TYPE_TO_CLASS), "tracker")
    if name not in installed:
        raise ValueError(f"tracker {name!r} is not installed: pip install {name}, or choose another tracker or none")
    return name


def settings(run: Run) -> dict[str, Any]:
    """What a tracker can show of a run: flat, of plain values."""
    described = dataclasses.asdict(run)
    profile = described.pop("profile")
    attack = {f"attack_{name}": value for name, value in profile.pop("attack").items()}
    return {**described, **profile, **attack}
