"""What tests of training share: a kill at a chosen step, and the losses that a run has written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dadlab.loop import Loop
from dadlab.methods import METHODS
from dadlab.run import Run

ATTACKING = [name for name, method in METHODS.items() if method.attack or "attack" in method.online]


class Stopped(Exception):
    """A kill."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die while a step is computed."""
    real = Loop.learn

    def learn(loop, batches):
        if loop.progress.steps == step:
            raise Stopped
        return real(loop, batches)

    monkeypatch.setattr(Loop, "learn", learn)


def losses(run: Run, folder: Path) -> list[float]:
    """The mean loss of each epoch."""
    return [json.loads(line)["loss"] for line in (run.folder(folder) / "loss.jsonl").read_text().splitlines()]
