"""The frozen baseline: one plain ResNet, outside every comparison, that defines `a` and normalises mCE.

As ImageNet-A holds what a ResNet-50 gets wrong (Hendrycks et al., 2021), `a` holds the test photographs that this
network gets wrong; and as mCE divides by AlexNet's errors, ours divides by this network's.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from dadlab.data import load_split
from dadlab.evaluate import C_PHOTOS, correct, corrupted_errors
from dadlab.files import write_json
from dadlab.photos import ASSETS
from dadlab.profile import Profile
from dadlab.run import Run
from dadlab.train import train

BASELINE = Run(Profile(), "plain", seed=1000)


def freeze_baseline(runs_dir: Path, out: Path = ASSETS) -> None:
    """Train the baseline and write `a.json` and `mce_baseline.json`; done once, before the first comparison."""
    student = train(BASELINE, runs_dir)
    studio = load_split("fashion", "studio")
    right = correct(student, studio)
    run = dataclasses.asdict(BASELINE)
    wrong = torch.nonzero(~right)[:, 0].tolist()
    write_json(Path(out) / "a.json", {"baseline": run, "n": len(wrong), "of": len(studio), "index": wrong})
    few = load_split("fashion", "studio", limit=C_PHOTOS)
    wrong_shares = corrupted_errors(student, few, Path(runs_dir) / "corrupted")
    errors = {kind: float(share.mean()) for kind, share in wrong_shares.items()}
    write_json(Path(out) / "mce_baseline.json", {"baseline": run, "photographs": C_PHOTOS, "errors": errors})
