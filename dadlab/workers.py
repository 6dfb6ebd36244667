"""Worker processes for generation: started from a notebook or a shell, on one machine or on many.

Workers need no coordinator, only the same `runs_dir` on a file system whose locks they share (`dadlab.claims`): start
more at any time, here or on another machine, and stop any. They end with the process that started them.

python -m dadlab.workers runs/stores/KEY.json --runs runs --processes 8     (on every machine)
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from dadlab.ahead import cores
from dadlab.claims import POLL, sweep
from dadlab.compute import Compute, compute_on, share_memory
from dadlab.data import training_split
from dadlab.discretizer import load_discretizer
from dadlab.files import write_json
from dadlab.generate import generate
from dadlab.launch import Launch
from dadlab.materials import store_folder
from dadlab.profile import Profile, make_profile, strict
from dadlab.progress import track
from dadlab.store import AGREEMENT, Store, read_manifest
from dadlab.teacher import load_teacher

_STARTED: dict[Path, Workers] = {}  # none is lost when a notebook's cell runs again


class Workers:
    """Processes that come and go, each a `Launch` of its own, whose lines are kept and not shown.

    Attributes:
        launches: those that were started and not stopped, the last one last.
    """

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def start(self, commands: Sequence[Sequence[str]], env: Mapping[str, str] | None = None) -> None:
        """Start more of them."""
        for command in commands:
            self.launches.append(Launch({f"worker {len(self.launches)}": command}, env=env, echo=False))

    def alive(self) -> int:
        return sum(launch.running for launch in self.launches)

    def failed(self) -> list[str]:
        """What the workers that ended badly said last."""
        said = []
        for launch in self.launches:
            for name, code in launch.codes.items():
                if code:
                    with contextlib.suppress(RuntimeError):
                        launch.wait()  # until its last line is read
                    last = next((line for line in reversed(launch.lines[name]) if line.strip()), "nothing said")
                    said.append(f"{name}: ended with {code}: {last}")
        return said

    def stop(self, number: int | None = None) -> None:
        """End the last `number` workers, or all, side by side: see `Launch.stop`."""
        kept = 0 if number is None else max(0, len(self.launches) - number)
        chosen, self.launches[kept:] = self.launches[kept:], []
        with ThreadPoolExecutor() as pool:
            list(pool.map(Launch.stop, chosen))


def describe_store(profile: Profile, runs_dir: Path) -> Path:
    """Write down what a profile's store is made from, for workers on any machine; returns the store's folder.

    Raises:
        ValueError: anything the profile names cannot be had.
    """
    clean = training_split(profile)
    load_discretizer(profile.discretizer, clean.classes)
    load_teacher(profile.teacher, clean.classes, ["{}"])  # a large CLIP's own eighty templates take minutes
    folder = store_folder(clean, profile, runs_dir)
    samples = len(clean) * profile.variants
    write_json(_description(folder), {"profile": dataclasses.asdict(profile), "samples": samples})
    return folder


def worker_command(folder: Path, runs_dir: Path, *, compute: Compute | None = None) -> list[str]:
    """The command that makes a described store, the same on every machine; it takes `--processes` or `--device`."""
    command = [sys.executable, "-m", "dadlab.workers", str(_description(folder)), "--runs", str(runs_dir)]
    return command + ([] if compute is None else ["--compute", json.dumps(dataclasses.asdict(compute))])


def _description(folder: Path) -> Path:
    return folder.with_suffix(".json")


def start_workers(
    profile: Profile,
    runs_dir: Path,
    processes: int = 0,
    *,
    devices: Sequence[str] = (),
    compute: Compute | None = None,
) -> tuple[Workers, Path]:
    """Start workers that make a profile's store, and return at once; called again, it adds workers.

    Args:
        profile: what to generate.
        runs_dir: where the store goes; shared by all machines that take part.
        processes: how many here; 0 is one a GPU, or one where there is none.
        devices: where they compute, taken in turn; all GPUs here unless told, or the CPU.
        compute: precision, compilation and batch; what suits the device unless told.

    Returns:
        All workers that this process started for the store, and the store's folder.

    Raises:
        ValueError: anything the profile names cannot be had, before a process is started.
    """
    folder = describe_store(profile, runs_dir)
    devices = devices or [f"cuda:{k}" for k in range(torch.cuda.device_count())] or ["cpu"]
    processes = processes or len(devices)
    threads = max(1, cores() // processes)
    sharing = -(-processes // len(devices))
    command = [*worker_command(folder, runs_dir, compute=compute), "--sharing", str(sharing)]
    commands = [[*command, "--device", devices[k % len(devices)]] for k in range(processes)]
    workers = _STARTED.setdefault(folder, Workers())
    workers.start(commands, {"OMP_NUM_THREADS": str(threads)})
    return workers, folder


def watch(workers: Workers, folder: Path) -> None:
    """Show progress until the store is whole; an interrupt ends the workers.

    Raises:
        RuntimeError: every worker ended and shards are missing; says what they said last.
    """
    try:
        for _ in _finished(workers, folder):
            pass
        for line in workers.failed():
            print(f"{line}; the others did its share", flush=True)
        with contextlib.suppress(FileNotFoundError):  # none of a store made in float32
            print((folder / AGREEMENT).read_text(), end="", flush=True)
    finally:
        workers.stop()
        _STARTED.pop(folder, None)
        if folder.is_dir():
            sweep(folder)


def _finished(workers: Workers, folder: Path) -> Iterator[int]:
    while not (folder / "manifest.json").is_file():
        _check(workers, f"{folder}: not begun")
        time.sleep(POLL)
    store = Store(folder, read_manifest(folder)["shards"])
    yield from track(_arriving(workers, store), "shards", store.shards)


def _arriving(workers: Workers, store: Store) -> Iterator[int]:
    """Each shard as it is there."""
    seen: set[int] = set()
    while len(seen) < store.shards:
        ended = not workers.alive()
        there = set(range(store.shards)) - set(store.missing())
        yield from sorted(there - seen)
        seen |= there
        if ended and len(seen) < store.shards:
            _check(workers, f"{store.folder}: {store.shards - len(seen)} of {store.shards} shards missing")
        time.sleep(POLL)


def _check(workers: Workers, what: str) -> None:
    if not workers.alive():
        raise RuntimeError("\n".join([f"{what}; start workers again to finish", *workers.failed()]))


def work(described: Path, runs_dir: Path, device: torch.device, compute: Compute) -> None:
    """Be one worker: make shards of a profile's store until it is whole."""
    profile = make_profile(**json.loads(described.read_text())["profile"])
    clean = training_split(profile)
    teacher = load_teacher(profile.teacher, clean.classes).to(device)
    discretizer = load_discretizer(profile.discretizer, clean.classes).to(device)
    folder = store_folder(clean, profile, runs_dir)
    generate(clean, teacher, discretizer, profile.attack, folder, variants=profile.variants, compute=compute)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m dadlab.workers", description="generate a profile's store")
    parser.add_argument("profile", type=Path, help="the store's .json, written by notebooks/generate.ipynb")
    parser.add_argument("--runs", type=Path, required=True, help="runs_dir, the same for all machines")
    parser.add_argument("--processes", type=int, default=0, help="how many here; one a GPU unless told")
    parser.add_argument("--compute", default="", help='JSON, such as {"precision": "bfloat16", "batch": 128}')
    parser.add_argument("--device", default="", help="be one worker, on this device")
    parser.add_argument("--sharing", type=int, default=1, help="how many workers share that device")
    given = parser.parse_args(arguments)
    try:
        compute = strict(Compute, json.loads(given.compute)) if given.compute else None
        if given.device:
            device = torch.device(given.device)
            if device.type == "cuda" and device.index:
                torch.cuda.set_device(device)  # whatever asks for a GPU gets this one, not all workers the first
            share_memory(device, given.sharing)
            work(given.profile, given.runs, device, compute or compute_on(device))
        else:
            profile = make_profile(**json.loads(given.profile.read_text())["profile"])
            watch(*start_workers(profile, given.runs, given.processes, compute=compute))
    except (ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:500] if given.device else error  # who started a worker shows its last line
        print(f"dadlab.workers: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
