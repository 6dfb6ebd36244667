"""The doctor: what this machine lacks, and how to mend it.

python -m dadlab.doctor
python -m dadlab.doctor --runs-dir /somewhere/else
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import resource
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import torch

from dadlab.compute import has_compiler
from dadlab.files import load_weights
from dadlab.photos import ASSETS

GOOD, WANTED, NEEDED = "ok", "optional", "missing"
_DISK, _MEMORY = 10, 4  # GB that one experiment of the embedded benchmark is comfortable with
_SHARED = 8  # GB a GPU: 16 readers of ImageNet's largest training hold 4.9
_FILES = 1024  # readers pass every tensor as an open file
_SHARED_MEMORY = Path("/dev/shm")
_WEIGHTS = ("teacher_resnet", "teacher_vit", "vqgan_studio", "vqgan_broad")


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: its name.
        state: `ok`, `optional` (some part does not work without it) or `missing` (little works without it).
        found: what there is.
        remedy: what to do, or nothing.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


def examine(runs_dir: Path = Path("runs")) -> list[Finding]:
    """Look at everything; no check stops another."""
    findings: list[Finding] = []
    machine = (_python, _gpu, _memory, _shared_memory, _open_files, lambda: _disk(runs_dir))
    for look in (*machine, _checkpoints, _widgets, _apps, _browser, _opencv):
        try:
            findings += look()
        except Exception as error:
            findings.append(Finding(getattr(look, "__name__", "disk").strip("_"), NEEDED, f"check failed: {error}"))
    return findings


def report(findings: Iterable[Finding]) -> pd.DataFrame:
    """The findings as a table, what is missing first."""
    order = {NEEDED: 0, WANTED: 1, GOOD: 2}
    rows = sorted(findings, key=lambda finding: order[finding.state])
    return pd.DataFrame([vars(row) for row in rows]).set_index("what")


def _python() -> list[Finding]:
    version = sys.version_info[:2]
    ok = (3, 11) <= version <= (3, 13)
    remedy = "" if ok else "use Python 3.11, 3.12 or 3.13, then `make clean demo`"
    return [Finding("Python", GOOD if ok else NEEDED, ".".join(map(str, version)), remedy)]


def _gpu() -> list[Finding]:
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        found = f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}, {memory:.0f} GB"
        capability = torch.cuda.get_device_capability()
        kernels = [arch[3:] for arch in torch.cuda.get_arch_list()]  # sm_75, …; AMD's have letters
        oldest = min((divmod(int(arch), 10) for arch in kernels if arch.isdigit()), default=capability)
        if capability < oldest:
            older = "this torch has no kernels for compute capability {}.{}, its oldest is {}.{}"
            return [Finding("GPU", NEEDED, found, older.format(*capability, *oldest) + "; install a build that has")]
        remedy = "" if has_compiler() else "generation would be faster compiled: install gcc"
        return [Finding("GPU", WANTED if remedy else GOOD, found, remedy)]
    remedy = "not needed for `fashion`; for ImageNet install a driver and a CUDA build of torch"
    return [Finding("GPU", WANTED, f"none that torch {torch.__version__} can use", remedy)]


def _memory() -> list[Finding]:
    free = psutil.virtual_memory().available / 2**30
    remedy = "" if free > _MEMORY else "close other kernels (Running, then Shut Down All), or set `limit`"
    return [Finding("memory", GOOD if not remedy else NEEDED, f"{free:.1f} GB free", remedy)]


def _shared_memory() -> list[Finding]:
    """Readers hand batches over in it, where a GPU waits for them; not every system shows it."""
    if not _SHARED_MEMORY.is_dir():
        return []
    size, wanted = shutil.disk_usage(_SHARED_MEMORY).total / 2**30, _SHARED * torch.cuda.device_count()
    remedy = "" if size >= wanted else f"ImageNet's readers want {wanted} GB: `--shm-size {wanted}g` of Docker's"
    return [Finding("shared memory", GOOD if not remedy else WANTED, f"{size:.1f} GB in {_SHARED_MEMORY}", remedy)]


def _open_files() -> list[Finding]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    unlimited = most == resource.RLIM_INFINITY
    remedy = "" if unlimited or most >= _FILES else f"`ulimit -n {_FILES}`, or `--ulimit nofile={_FILES}` of Docker's"
    found = "no limit" if unlimited else f"{most:,} a process"
    return [Finding("open files", GOOD if not remedy else WANTED, found, remedy)]


def _disk(runs_dir: Path) -> list[Finding]:
    place = Path(runs_dir).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        return [Finding("disk", NEEDED, f"{place} cannot be written", "set `runs_dir` to a folder of your own")]
    remedy = "" if free > _DISK else f"delete old runs, or set `runs_dir` to a disk with {_DISK} GB"
    return [Finding("disk", GOOD if not remedy else NEEDED, f"{free:.0f} GB free for runs", remedy)]


def _checkpoints() -> list[Finding]:
    """The embedded weights are committed: a checkout without one is damaged."""
    findings = []
    for name in _WEIGHTS:
        path = ASSETS / f"{name}.safetensors"
        try:
            load_weights(path)
            findings.append(Finding(name, GOOD, f"{path.stat().st_size / 2**20:.1f} MB"))
        except ValueError as error:
            findings.append(Finding(name, NEEDED, str(error).split(": ")[-1], "`git checkout dadlab/assets`"))
    return findings


def _widgets() -> list[Finding]:
    """The kernel's ipywidgets and the page's half of it must be of one major version."""
    wanted = {"ipywidgets": "8", "jupyterlab_widgets": "3", "jupyterlab": "4"}
    return [_package(name, major, NEEDED, "`make clean lab`, or pip install -r requirements.lock") for name, major in
            wanted.items()]  # fmt: skip


def _apps() -> list[Finding]:
    remedy = "pip install 'dadlab[app]'"
    return [_package("voila", "0", WANTED, remedy), _package("notebook", "7", WANTED, "pip install 'notebook>=7'")]


def _browser() -> list[Finding]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    state = GOOD if chromium else WANTED
    remedy = "" if chromium else "`make test-browser` wants it: apt-get install chromium"
    return [
        Finding("chromium", state, chromium or "not found", remedy),
        _package("playwright", "1", WANTED, "`make test-browser` wants it: pip install playwright"),
    ]


def _opencv() -> list[Finding]:
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        return [Finding("OpenCV", NEEDED, str(error), "Debian and Ubuntu: apt-get install libgl1 libglib2.0-0")]
    return [Finding("OpenCV", GOOD, "loads")]


def _package(name: str, major: str, otherwise: str, remedy: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, otherwise, "not installed", remedy)
    ok = version.split(".")[0] == major
    return Finding(name, GOOD if ok else otherwise, version, "" if ok else f"version {major} is wanted: {remedy}")


def main(arguments: list[str] | None = None) -> int:
    """Print the report; 1 where something needed is missing."""
    parser = argparse.ArgumentParser("python -m dadlab.doctor", description="what is missing, and how to mend it")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are to live")
    findings = examine(parser.parse_args(arguments).runs_dir)
    for row in report(findings).itertuples():
        print(f"{row.state:9} {row.Index:20} {row.found}" + (f"\n{'':30} → {row.remedy}" if row.remedy else ""))
    return int(any(finding.state == NEEDED for finding in findings))


if __name__ == "__main__":
    raise SystemExit(main())
