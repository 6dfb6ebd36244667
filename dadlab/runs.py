"""What lies in a `runs` folder, how big and how old it is, and how to be rid of it.

Besides runs it holds what they share: teacher caches, stores of discretized samples, corrupted test images, teachers'
answers to test images. All of it can be made again; nothing that is in use is deleted. A process says so by the locks
it holds: on the run it trains, on the store or cache it fills. A training does not say what it reads, so while one goes
on all that runs share stays.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from dadlab.students import WEIGHTS

COLUMNS = ["folder", "kind", "method", "student", "seed", "finished", "megabytes", "days"]
KINDS = {"cache": "cache", "stores": "store", "corrupted": "corrupted", "teachers": "teacher"}
_BESIDE = (".json", ".lock", "-metrics.json")  # what a store has next to its folder


def list_runs(runs_dir: Path = Path("runs")) -> pd.DataFrame:
    """One row a run, cache, store, set of corrupted images or of a teacher's answers, the oldest first.

    Columns: `folder` (below `runs_dir`), `kind`, `method`, `student`, `seed` and `finished` (of runs), `megabytes`,
    `days` since anything in it was written.
    """
    root = Path(runs_dir)
    shared = [path for name in KINDS for path in sorted((root / name).glob("*")) if path.is_dir()]
    runs = [path.parent for path in sorted(root.glob("*/run.json"))]
    rows = [_row(root, path) for path in [*runs, *shared]]
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("days", ascending=False, ignore_index=True)


def clean_runs(
    runs_dir: Path = Path("runs"),
    *,
    days: float | None = None,
    gigabytes: float | None = None,
    kinds: tuple[str, ...] = ("run", "cache", "store", "corrupted", "teacher"),
    delete: bool = False,
) -> pd.DataFrame:
    """Choose what is too old, and of the rest the oldest until it is small enough; delete it if told to.

    Args:
        runs_dir: the folder.
        days: whatever was last written longer ago goes.
        gigabytes: how much may stay.
        kinds: what to choose among.
        delete: nothing is deleted without it.

    Returns:
        The chosen rows of `list_runs`. Runs that are being trained are not among them, nor stores and caches that are
        being filled, nor, while any run is being trained, anything that runs share.

    Raises:
        ValueError: neither `days` nor `gigabytes`, a negative one, or an unknown kind.
    """
    known = ("run", *KINDS.values())
    if (days is None and gigabytes is None) or min(days or 0, gigabytes or 0) < 0 or not set(kinds) <= set(known):
        raise ValueError(f"give days or gigabytes, not negative, and kinds among {', '.join(known)}; got {kinds}")
    root, found = Path(runs_dir), list_runs(runs_dir)
    free = [not _in_use(root / folder) for folder in found["folder"]]
    if any(_held(lock) for depth in ("*", "*/*") for lock in root.glob(f"{depth}/.lock")):
        kinds = tuple(kind for kind in kinds if kind == "run")
    found = found[found["kind"].isin(kinds) & pd.Series(free, dtype=bool)]
    too_old = found["days"] > (float("inf") if days is None else days)
    staying = found["megabytes"].where(~too_old, 0.0)[::-1].cumsum()[::-1]  # of each and all younger ones
    too_much = staying > (float("inf") if gigabytes is None else 1000 * gigabytes)
    chosen = found[too_old | too_much].reset_index(drop=True)
    for folder, kind in chosen[["folder", "kind"]].itertuples(index=False) if delete else ():
        shutil.rmtree(root / folder)
        for ending in _BESIDE if kind == "store" else ():
            (root / f"{folder}{ending}").unlink(missing_ok=True)
    return chosen


def _row(root: Path, path: Path) -> dict[str, object]:
    found = (entry for entry in path.rglob("*") if not entry.name.endswith((".lock", ".claim")))
    files = [entry.stat() for entry in found if entry.is_file()]
    newest = max((entry.st_mtime for entry in files), default=path.stat().st_mtime)
    row: dict[str, object] = {"folder": str(path.relative_to(root)), "kind": KINDS.get(path.parent.name, "run")}
    row |= {"megabytes": sum(entry.st_size for entry in files) / 1e6, "days": (time.time() - newest) / 86_400}
    if row["kind"] == "run":
        described = json.loads((path / "run.json").read_text())
        row |= {name: described.get(name) for name in ("method", "student", "seed")}
        row["finished"] = (path / WEIGHTS).is_file()
    return row


def _in_use(path: Path) -> bool:
    """Whether a process trains this run, or fills this store or cache."""
    return any(map(_held, (path.with_suffix(".lock"), *path.rglob("*.lock"), *path.rglob(".*.claim"))))


def _held(lock: Path) -> bool:
    """Whether a process holds a lock; killed ones leave the file, not the lock."""
    try:
        if lock.is_file():
            FileLock(lock, blocking=False).acquire().lock.release()
    except Timeout:
        return True
    return False
