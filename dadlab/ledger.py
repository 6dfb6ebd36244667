"""Ledger: what every run of ours answered to every test photograph, so that tables can be read without training.

A page of the ledger is a zip of a run's small files: its description, who trained it, what it got right. Unpacked
under `runs/` it stands for the run wherever answers are enough. Weights are not in it: whoever needs them trains the
run, which drops the unpacked answers, and `verify` says how the new ones differ. Only of the teachers that were trained
for some of these runs the weights are kept, beside the pages, since such a run's name depends on them.

python -m dadlab.ledger unpack
python -m dadlab.ledger verify
python -m dadlab.ledger pack
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dadlab.evaluate import SHIFTS
from dadlab.files import ROOT, atomic_path
from dadlab.provenance import TRAINED, trained_by
from dadlab.run import read_run
from dadlab.students import WEIGHTS

LEDGER = Path("papers/dad/answers")
PAGE = ("run.json", TRAINED, *(f"correct/{split}.npy" for split in SHIFTS), "corrupted.npz", "corruptions.json")
TEACHERS = "teachers"  # folder of the ledger that has the trained ones, each where it lies under `runs/`
_COMMIT = re.compile("[0-9a-f]+")  # of a clean working tree
_DAY = (1980, 1, 1, 0, 0, 0)  # of every file in a page, so that the same answers are the same bytes


def pack(runs_dir: Path, ledger: Path) -> list[Path]:
    """Write a page for every run on the whole embedded benchmark that was trained here and tested on all shifts.

    Args:
        runs_dir: where runs live.
        ledger: folder of the pages; those that are there stay as they are.

    Returns:
        The new pages.

    Raises:
        ValueError: runs were trained by code that no commit has; nothing has been written then.
    """
    new = {page: folder for folder in _trained(runs_dir) if not (page := _page(ledger, folder)).is_file()}
    if loose := [folder.name for folder in new.values() if not _COMMIT.fullmatch(trained_by(folder)["commit"])]:
        raise ValueError(f"trained by code that no commit has: {', '.join(loose)}; commit it and train them again")
    for page, folder in new.items():
        content = {name: (folder / name).read_bytes() for name in PAGE}
        if teacher := _trained_teacher(folder, runs_dir):
            _copy_teacher(Path(runs_dir), Path(ledger) / TEACHERS, teacher)
            content["run.json"] = _taught_by(content["run.json"], teacher.as_posix())
        with atomic_path(page) as temporary, zipfile.ZipFile(temporary, "w") as out:
            for name in PAGE:
                out.writestr(zipfile.ZipInfo(name, _DAY), content[name], zipfile.ZIP_DEFLATED, 9)
    return list(new)


def unpack(ledger: Path, runs_dir: Path) -> list[Path]:
    """Lay the answers of all pages under `runs_dir`, but of runs that are trained or answered there; and the teachers.

    Returns:
        Folders of the runs whose answers are new there.

    Raises:
        ValueError: there are no pages, or one is damaged.
    """
    pages = sorted(Path(ledger).glob("*.zip"))
    if not pages:
        raise ValueError(f"{ledger}: holds no page of a ledger")
    for file in sorted((Path(ledger) / TEACHERS).rglob("*.safetensors")):
        _copy_teacher(Path(ledger) / TEACHERS, Path(runs_dir), file.relative_to(Path(ledger) / TEACHERS))
    new = {page: folder for page in pages if not _there(folder := Path(runs_dir) / page.stem)}
    for page, folder in new.items():
        content = read_page(page)
        if (teacher := Path(runs_dir) / _teacher_in(content["run.json"])).is_file():
            content["run.json"] = _taught_by(content["run.json"], str(teacher))
        for name in PAGE:
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(content[name])
    return list(new.values())


def read_page(page: Path) -> dict[str, bytes]:
    """The files of a page by name.

    Raises:
        ValueError: it is damaged or lacks one.
    """
    try:
        with zipfile.ZipFile(page) as opened:
            return {name: opened.read(name) for name in PAGE}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{page}: not a page of a ledger ({error})") from None


def verify(runs_dir: Path, ledger: Path) -> pd.DataFrame:
    """How the answers of runs that were trained here differ from their pages: a row a run and shift or corruption.

    On a CPU of the same kind training gives the same answers to the last photograph; on another it need not.

    Returns:
        Columns `run`, `split`, `photographs`, `otherwise` (answered right here and wrong there, or the reverse), and
        top-1 `there` and `here` in percent.
    """
    lines = []
    for folder, there, here in trained_twice(runs_dir, ledger):
        for split in here:
            told = {"run": folder.name, "split": split, "photographs": len(here[split])}
            told |= {"otherwise": int((there[split] != here[split]).sum())}
            lines.append({**told, "there": 100 * float(there[split].mean()), "here": 100 * float(here[split].mean())})
    return pd.DataFrame(lines, columns=["run", "split", "photographs", "otherwise", "there", "here"])


def trained_twice(runs_dir: Path, ledger: Path) -> Iterator[tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Runs that were trained here and have a page: folder, and what was answered right there and here.

    Answers are booleans a photograph, split by split; under a corruption the share of its severities, in [0, 1].
    """
    for folder in _trained(runs_dir):
        if (page := _page(ledger, folder)).is_file():
            yield folder, _right(read_page(page)), _right({name: (folder / name).read_bytes() for name in PAGE})


def _right(files: dict[str, bytes]) -> dict[str, np.ndarray]:
    """What was answered right, split by split; of a photograph under a corruption the share of the severities."""
    right = {split: np.load(io.BytesIO(files[f"correct/{split}.npy"])) for split in SHIFTS}
    with np.load(io.BytesIO(files["corrupted.npz"])) as wrong:
        return right | {kind: 1 - wrong[kind] for kind in wrong}


def _trained_teacher(folder: Path, runs_dir: Path) -> Path | None:
    """Where below `runs_dir` the teacher of a run lies; None of one that was not trained there."""
    teacher, root = Path(_teacher_in((folder / "run.json").read_bytes())).resolve(), Path(runs_dir).resolve()
    return teacher.relative_to(root) if teacher.is_file() and teacher.is_relative_to(root) else None


def _teacher_in(description: bytes) -> str:
    return json.loads(description)["profile"]["teacher"]


def _taught_by(description: bytes, teacher: str) -> bytes:
    """A run's description with its teacher's file named otherwise."""
    told = json.loads(description)
    told["profile"]["teacher"] = teacher
    return (json.dumps(told, indent=1, sort_keys=True) + "\n").encode()


def _copy_teacher(source: Path, target: Path, teacher: Path) -> None:
    """Copy a teacher from one tree to another, with what describes its run; what is there stays."""
    for name in ("run.json", TRAINED, teacher.name):
        file = (source / teacher).with_name(name)
        if file.is_file() and not (there := target / file.relative_to(source)).is_file():
            with atomic_path(there) as temporary:
                shutil.copyfile(file, temporary)


def _there(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() or all((folder / name).is_file() for name in PAGE)


def _trained(runs_dir: Path) -> list[Path]:
    """Folders of runs that belong in the ledger and whose weights are there."""
    found = []
    for path in sorted(Path(runs_dir).glob("*/run.json")):
        try:
            run = read_run(path)
        except ValueError:  # of a method that this code does not know
            continue
        whole = (run.profile.data, run.profile.limit) == ("fashion", 0)
        same = run.folder(runs_dir) == path.parent  # not so where a teacher's file is gone, or the code names it anew
        there = run.weights(runs_dir).is_file() and all((path.parent / name).is_file() for name in PAGE)
        if whole and same and there:
            found.append(path.parent)
    return found


def _page(ledger: Path, folder: Path) -> Path:
    return Path(ledger) / f"{folder.name}.zip"


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, do what it says, return the exit status."""
    parser = argparse.ArgumentParser("python -m dadlab.ledger", description="what our runs answered")
    parser.add_argument("what", choices=["unpack", "verify", "pack"])
    parser.add_argument("--runs-dir", type=Path, default=ROOT / "runs", help="where runs live")
    parser.add_argument("--ledger", type=Path, default=ROOT / LEDGER, help="where the pages are")
    given = parser.parse_args(arguments)
    try:
        if given.what == "verify":
            return _told(verify(given.runs_dir, given.ledger))
        if given.what == "unpack":
            print(f"{len(unpack(given.ledger, given.runs_dir))} runs' answers unpacked under {given.runs_dir.name}")
        else:
            print(f"{len(pack(given.runs_dir, given.ledger))} new pages in {given.ledger.name}")
    except ValueError as error:
        print(f"dadlab.ledger: {error}", file=sys.stderr)
        return 1
    return 0


def _told(found: pd.DataFrame) -> int:
    """Print how runs differ from their pages; 1 if any does."""
    differing = found[found["otherwise"] > 0]
    for line in differing.itertuples():
        print(f"{line.run}, {line.split}: {line.otherwise} of {line.photographs} answered otherwise, ", end="")
        print(f"top-1 {line.here:.2f} where the page has {line.there:.2f}")
    runs, same = found["run"].nunique(), found["run"].nunique() - differing["run"].nunique()
    print(f"{same} of {runs} runs trained here have the answers of their pages" if runs else "no run here has a page")
    return int(len(differing) > 0)


if __name__ == "__main__":
    sys.exit(main())
