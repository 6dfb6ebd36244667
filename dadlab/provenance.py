"""What numbers were measured with: the machine, and the code's commit."""

from __future__ import annotations

import ast
import functools
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dadlab.files import ROOT

TRAINED = "trained.json"  # beside a run's description, whose name must not change with it
_RESULTS = [
    ":(top,exclude)papers/*/results/*",
    ":(top,exclude)papers/*/report*.html",
]  # written, not writing


def machine() -> str:
    """What the numbers were measured on, in words that fit a table's footnote."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"{where}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}"


def _processor() -> str:
    """`CPU`, with its model where Linux says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"CPU {next(models, '')}".strip()


@functools.cache
def commit(folder: Path = Path(__file__).parent) -> str:
    """Short hash of the code's commit, with `+` if files but results have changed since; `unknown` outside a clone.

    Asked once, when the package is imported: what is committed or edited later does not run.
    """
    git = ["git", "-C", str(folder)]
    try:
        found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":(top)", *_RESULTS], check=False).returncode
    return found.stdout.strip() + "+" * bool(changed)


commit()  # now


def trained_by(folder: Path) -> dict[str, str]:
    """Commit and machine that trained a run, from its folder; both `unknown` of a run from before they were kept.

    And the precision, as Accelerate names it (`no`, `bf16`, `fp16`), and the code of the method's loss
    (`dadlab.methods`), of runs that are younger still.
    """
    path = Path(folder) / TRAINED
    return json.loads(path.read_text()) if path.is_file() else {"commit": "unknown", "machine": "unknown"}


def by_whom(trained: Mapping[Any, Mapping[str, str]], what: str = "seeds") -> list[dict[str, Any]]:
    """Each commit and machine that trained runs, and which seeds (or `what`), from `trained_by` of every one.

    The commit says what the loss was.
    """
    told = {seed: {key: value for key, value in made.items() if key != "loss"} for seed, made in trained.items()}
    kinds = {tuple(made.items()): made for made in told.values()}
    return [{**made, what: [seed for seed, found in told.items() if found == made]} for made in kinds.values()]


def command_of(notebook: str, variables: Mapping[str, Any]) -> str:
    """The command that makes again what a notebook writes, with its parameters as they are now.

    Args:
        notebook: its path below `notebooks/`, without the suffix.
        variables: the notebook's `globals()`.
    """
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = ("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    targets = (target for line in ast.parse(source).body if isinstance(line, ast.Assign) for target in line.targets)
    given = {target.id: variables[target.id] for target in targets if isinstance(target, ast.Name)}
    if given.get("train") is False:
        del given["train"]  # it showed what was there; who begins with nothing has to train it
    told = shlex.quote(json.dumps(given, ensure_ascii=False))
    return f"papermill notebooks/{notebook}.ipynb runs/{Path(notebook).name}.ipynb -y {told}"


def made_by(module: str, arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Command, commit and machine of a result that `python -m module` writes.

    Args:
        module: its name.
        arguments: of the command line; those of this process unless told.
    """
    words = sys.argv[1:] if arguments is None else arguments
    return {"command": shlex.join(["python", "-m", module, *words]), "commit": commit(), "machine": machine()}
