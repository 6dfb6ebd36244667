"""Claims: any number of processes fill a folder with shards, without a coordinator.

A claim is an operating-system lock on a hidden file beside the shard, so it ends with its process, however that ends.
Processes on several machines need a shared file system whose locks reach all of them (NFS does; Lustre when mounted
with `flock`).
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from dadlab.progress import say, track

_T = TypeVar("_T")

POLL = 0.5  # seconds between two looks at what others do
_CLAIM = ".claim"
_CLAIMED = ("shard-", "view-", "manifest.json.", "agreement.txt.")  # how names of such files begin
_GONE = (errno.ESTALE, errno.ENOENT)  # what NFS says of a file that its owner removed between our opening and locking


@contextlib.contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Try to claim a file that is to be written: True for the one who may write it, until the block ends."""
    lock = FileLock(path.with_name(f".{path.name}{_CLAIM}"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in _GONE:
            raise
        yield False
        return
    try:
        yield True
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: filelock refuses an unlinked file
        lock.release()


@contextlib.contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file; who has to wait for it says so once.

    Raises:
        Timeout: it is another's, and this one is not to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise
        print(f"{path}: held by another process, which this one waits for", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Claims(contextlib.AbstractContextManager["Claims"]):
    """Claims to several files at once, each until it is given back or the block ends."""

    def __init__(self) -> None:
        self._held: dict[Path, contextlib.ExitStack] = {}

    def take(self, path: Path) -> bool:
        """Claim a file that is missing; False where it is there, or another process writes it now."""
        with contextlib.ExitStack() as taken:
            if not taken.enter_context(claim(path)) or path.is_file():
                return False
            self._held[path] = taken.pop_all()
        return True

    def give_back(self, path: Path) -> None:
        self._held.pop(path).close()

    def __exit__(self, *raised: object) -> None:
        for path in list(self._held):
            self.give_back(path)


def write_unclaimed(path: Path, write: Callable[[], Any]) -> bool:
    """Write a file that is missing; False where another process writes it now."""
    with claim(path) as mine:
        if mine and not path.is_file():
            write()
    return mine


def write_once(path: Path, write: Callable[[], Any]) -> None:
    """Write a file that is missing, or wait for the process that writes it now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while not path.is_file():
        if not write_unclaimed(path, write):
            time.sleep(POLL)


def clear(path: Path) -> None:
    """Remove the hidden files that killed processes left of a file, for whoever may write it."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        if leftover.suffix != _CLAIM:  # may be another's by now; who holds one removes it
            leftover.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove temporary files of killed processes, unless a living one holds the claim to what they were to become."""
    hidden = [found for name in _CLAIMED for found in folder.glob(f".{name}*")]
    for name in {found.name[1:].rsplit(".", 1)[0] for found in hidden}:
        with claim(folder / name) as mine:
            if mine:
                clear(folder / name)


def fill(
    paths: Sequence[Path],
    make: Callable[[int], Any],
    what: str,
    *,
    threads: int = 1,
    initializer: Callable[[], Any] | None = None,
) -> None:
    """Write what is missing of `paths`, sharing the work with every process that does the same.

    Returns when all of them are there: shards of a process that was killed meanwhile are taken over.

    Args:
        paths: files of one folder, named `shard-…`.
        make: writes the file at a position, atomically.
        what: said beside the progress.
        threads: files in work at once in this process.
        initializer: called in each thread before it starts.
    """

    def attempt(position: int) -> bool:
        return write_unclaimed(paths[position], lambda: make(position))

    def missing() -> list[int]:
        return [position for position, path in enumerate(paths) if not path.is_file()]

    def work(left: list[int]) -> bool:
        return any(list(track(pool.map(attempt, left), what, len(left), alone=True)))

    sweep(paths[0].parent)
    with ThreadPoolExecutor(threads, initializer=initializer) as pool:
        together(missing, work, what, alone=True)
    sweep(paths[0].parent)


def together(
    missing: Callable[[], list[_T]], work: Callable[[list[_T]], object], what: str, *, alone: bool = False
) -> None:
    """Work on what is missing until nothing is, and say once if there is nothing left but to wait for others.

    Args:
        missing: what nobody has finished by now.
        work: makes of it what no other process makes; falsy where that is nothing.
        what: said before what is waited for.
        alone: as of `dadlab.progress.track`.
    """
    said = False
    while left := missing():
        if work(left):
            continue
        if not said:
            say(f"{what}: waiting for {len(left)} that other processes have claimed", alone=alone)
        said = True
        time.sleep(POLL)
