"""Students for others: a folder that `timm.create_model("local-dir:…")` loads, with a model card, and the hub.

Weights are safetensors; normalisation, and the crop that the card's numbers were measured with, travel as timm's
`pretrained_cfg`. A student that is a timm model needs timm alone to be loaded; the small embedded ones are known to
timm once `dadlab.export` is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
from huggingface_hub import HfApi
from timm.models import load_pretrained, register_model, save_for_hf
from torch import nn

from dadlab.data import class_names
from dadlab.disk.encoded import CROP
from dadlab.fingerprints import public
from dadlab.methods import METHODS
from dadlab.run import Run
from dadlab.students import STUDENTS, Student, load_student
from dadlab.views import SMALL

_PREFIX = "dadlab_"


def export_student(run: Run, runs_dir: Path, folder: Path, *, license: str = "") -> Path:
    """Write a finished run's student as a timm model with its card.

    Args:
        run: a run that has been trained.
        runs_dir: where it lives.
        folder: where to write `model.safetensors`, `config.json` and `README.md`.
        license: identifier for the card, such as `mit`; it depends on data and teacher, so nothing is assumed.

    Returns:
        The folder.

    Raises:
        ValueError: the run is not finished.
    """
    weights = run.weights(runs_dir)
    if not weights.is_file():
        raise ValueError(f"{weights.parent}: not trained yet; train the run before its export")
    student = load_student(weights)
    name = f"{_PREFIX}{student.name}" if student.name in STUDENTS else student.name
    classes = class_names(run.profile.data, run.profile.train)
    side = student.preprocess.size
    data = {
        "input_size": (3, side, side),
        "mean": _channels(student, "mean"),
        "std": _channels(student, "std"),
        "crop_pct": 1.0 if side < SMALL else CROP,
        "interpolation": "bicubic",
    }
    arguments: dict[str, Any] = {"image_size": student.preprocess.size} if student.name in STUDENTS else {}
    net = timm.create_model(name, num_classes=student.classes, **arguments)
    net.load_state_dict(student.net.state_dict())
    folder = Path(folder)
    labels = {"label_names": list(classes)}
    save_for_hf(net, str(folder), labels, arguments, safe_serialization=True, data_config=data)
    (folder / "README.md").write_text(model_card(run, runs_dir, license=license))
    return folder


def push_student(folder: Path, repo: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload an exported folder to the Hugging Face hub; returns its address.

    Raises:
        ValueError: the folder holds no export.
    """
    missing = [
        name for name in ("model.safetensors", "config.json", "README.md") if not (Path(folder) / name).is_file()
    ]
    if missing:
        raise ValueError(f"{folder}: {', '.join(missing)} missing; write it with dadlab.export.export_student")
    hub = HfApi(token=token)
    address = hub.create_repo(repo, private=private, exist_ok=True)
    hub.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message="Add student")
    return str(address)


def model_card(run: Run, runs_dir: Path, *, license: str = "") -> str:
    """Markdown: how the student was made, what it scored, how to load it."""
    profile, method = run.profile, METHODS[run.method]
    head = ["library_name: timm", "pipeline_tag: image-classification", "tags:", "- timm", "- knowledge-distillation"]
    head += [f"license: {license}"] if license else []
    found = sorted((run.folder(runs_dir) / "correct").glob("*.npy"))
    rows = [(path.stem, np.load(path)) for path in found]
    scores = [f"| {split} | {100 * right.mean():.2f} | {len(right):,} |" for split, right in rows]
    table = ["| split | top-1 in % | images |", "|---|---|---|", *scores] if scores else ["Not tested yet."]
    teacher = f", distilled from the teacher `{public(profile.teacher)}`" if method.uses_teacher else ""
    own = run.student in STUDENTS
    told = {k: public(v) if isinstance(v, str) else v for k, v in vars(profile).items() if k != "attack"}
    settings = json.dumps(told, indent=1, default=str)
    return "\n".join(
        [
            "---",
            *head,
            "---",
            f"# {run.student}, {method.title}",
            "",
            f"`{run.student}` trained with {method.title} on `{public(profile.data)}` ({profile.train}), seed "
            f"{run.seed}{teacher}. Images are {profile.image_size} × {profile.image_size}.",
            "",
            *table,
            "",
            "```python",
            "import timm",
            *(["import dadlab.export  # makes the architecture known to timm"] if own else []),
            'model = timm.create_model("local-dir:FOLDER", pretrained=True)',
            "```",
            "",
            f"Attack: {method.attack or profile.attack}. Recipe:",
            "",
            "```json",
            settings,
            "```",
            "",
        ]
    )


def _channels(student: Student, name: str) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in getattr(student.preprocess, name).flatten())


def _register(name: str, build: Callable[[int, int], nn.Module]) -> None:
    """Make an embedded student known to timm, under a name of its own."""

    def entry(
        pretrained: bool = False, pretrained_cfg: Any = None, num_classes: int = 10, image_size: int = 32, **_: Any
    ) -> nn.Module:
        net: Any = build(num_classes, image_size)
        given = pretrained_cfg or {"architecture": entry.__name__}
        net.pretrained_cfg = {"input_size": (3, image_size, image_size), "num_classes": num_classes, **given}
        if pretrained:
            load_pretrained(net, net.pretrained_cfg, num_classes=num_classes)
        return net

    entry.__name__ = _PREFIX + name
    register_model(entry)


for _name, _build in STUDENTS.items():
    if not timm.is_model(_PREFIX + _name):
        _register(_name, _build)
