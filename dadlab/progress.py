"""Progress that fits where it is read: a bar in JupyterLab or a terminal, calm lines everywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm.auto import tqdm

_T = TypeVar("_T")


def track(items: Iterable[_T], what: str, total: int | None = None) -> Iterator[_T]:
    """Iterate with a bar when somebody watches, else with at most a line every 15 seconds."""
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
