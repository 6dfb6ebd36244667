"""Progress that fits where it is read: a bar in JupyterLab or a terminal, calm lines everywhere else.

Of the processes that `torchrun` starts on a machine the first speaks for all.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm.auto import tqdm

_T = TypeVar("_T")


def track(items: Iterable[_T], what: str, total: int | None = None, *, alone: bool = False) -> Iterator[_T]:
    """Iterate with a bar when somebody watches, else with at most a line every 15 seconds.

    Args:
        items: what is gone through.
        what: said beside the progress.
        total: how many, where `items` does not say.
        alone: no other process does this work: speak whichever this one is.
    """
    if not (alone or _speaks()):
        yield from items
        return
    total = len(items) if total is None and isinstance(items, Sized) else total
    if "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty():  # a Jupyter server's kernel, or a terminal
        yield from tqdm(items, what, total, leave=False)
        return
    started = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said > 15 and done != total:
            print(f"{what}: {done}/{total or '?'} in {now - started:.0f} s", flush=True)
            said = now


def say(line: str, *, alone: bool = False) -> None:
    """Print a line that every process of a launch would print, or no other (`alone`)."""
    if alone or _speaks():
        print(line, flush=True)


def _speaks() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters; its name where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
