"""A run as a job: what `torchrun` starts, and how a notebook or a batch system starts `torchrun`.

`python -m dadlab.job run.json` trains the run that the file describes, or finishes it, and tests it on the splits it
is given; under `torchrun` the processes share both.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from dadlab.files import write_json
from dadlab.launch import Launch
from dadlab.loop import Service
from dadlab.results import check_splits, measure
from dadlab.run import Run, read_run
from dadlab.train import train

GRACE = 60.0  # seconds for the step that is being computed and its checkpoint; torchrun itself gives its workers 30
SERVICE = Service(tracker="auto", lines=True)  # how a job is looked after unless told

# Shared with torchrun, the store would outlive the processes, and those started again would find the addresses of the
# dead in it: https://github.com/pytorch/pytorch/issues/135712
_OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"


def training_command(
    run: Run,
    runs_dir: Path = Path("runs"),
    *,
    processes: int = 0,
    nodes: int = 1,
    rendezvous: str = "",
    name: str = "dadlab",
    restarts: int = 0,
    service: Service = SERVICE,
    splits: Sequence[str] = (),
) -> list[str]:
    """Write a run's `run.json`; the whole command that trains and tests it, the same on every node.

    Args:
        run: what to train.
        runs_dir: where runs and their materials live; with several nodes, a folder that all of them see.
        processes, nodes, rendezvous, name, restarts: see `torchrun`.
        service: tracker, workers, checkpoints; by default with TensorBoard.
        splits: what to test the student on afterwards, into the run's folder.

    Raises:
        ValueError: a number of processes or nodes that cannot be, or something is wrong with the splits' images.
    """
    command = torchrun(processes=processes, nodes=nodes, rendezvous=rendezvous, name=name, restarts=restarts)
    check_splits(run, runs_dir, splits)
    path = run.folder(runs_dir) / "run.json"
    if not path.is_file():
        write_json(path, dataclasses.asdict(run))
    arguments = [str(path), "--runs-dir", str(runs_dir), "--splits", *splits]
    for option, value in dataclasses.asdict(service).items():
        arguments.append(f"--{option.replace('_', '-')}={value}")
    return [*command, "-m", "dadlab.job", *arguments]


def start_training(command: Sequence[str], *, echo: bool = True) -> Launch:
    """Start a training's command beside this process and return at once; `echo` prints the processes' lines."""
    cpu = {} if torch.cuda.device_count() else {"ACCELERATE_USE_CPU": "1"}
    return Launch({"torchrun": command}, env=cpu, echo=echo, grace=GRACE)


def torchrun(
    *, processes: int = 0, nodes: int = 1, rendezvous: str = "", name: str = "dadlab", restarts: int = 0
) -> list[str]:
    """The `torchrun` command line, up to what it shall start; the same on every node.

    Args:
        processes: on this node; 0 is one a GPU, or one where there is none.
        nodes: how many nodes start this command.
        rendezvous: `host:port` of one of them, where they meet.
        name: of the job, the same on every node.
        restarts: how often the processes are started again after one of them died.

    Raises:
        ValueError: more processes than GPUs, or several nodes without a place to meet.
    """
    gpus = torch.cuda.device_count()
    if processes < 0 or (gpus and processes > gpus):
        raise ValueError(f"{processes} processes: this node has {gpus} GPU(s); 0 takes one process a GPU")
    if nodes < 1 or (nodes > 1 and ":" not in rendezvous):
        raise ValueError(f"{nodes} nodes: give the rendezvous as host:port of one of them, got {rendezvous!r}")
    command = ["env", _OWN_STORE, sys.executable, "-m", "torch.distributed.run"]
    meeting = ["--standalone"]
    if nodes > 1:
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", rendezvous, "--rdzv-id", name]
    size = ["--nproc-per-node", str(processes or gpus or 1), "--nnodes", str(nodes)]
    return [*command, *size, *meeting, "--max-restarts", str(restarts)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and test one run; the command line of `python -m dadlab.job`."""
    parser = argparse.ArgumentParser("dadlab.job", description="Train the run of a run.json, or finish it.")
    parser.add_argument("run", type=Path, help="run.json")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--splits", nargs="*", default=[], help="test on these afterwards")
    kinds: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": lambda text: text == "True"}
    for option in dataclasses.fields(Service):
        name = f"--{option.name.replace('_', '-')}"
        parser.add_argument(name, type=kinds[str(option.type)], default=getattr(SERVICE, option.name))
    given = vars(parser.parse_args(arguments))
    path, runs_dir, splits = (given.pop(name) for name in ("run", "runs_dir", "splits"))
    try:
        run = read_run(path)
        check_splits(run, runs_dir, splits)  # before days of training, not after
        train(run, runs_dir, Service(**given))
        found = measure(run, runs_dir, splits)
    except ValueError as error:
        print(f"dadlab.job: {error}", file=sys.stderr)
        return 1
    first = not dist.is_initialized() or dist.get_rank() == 0
    for split, right in found.items() if first else ():
        print(f"{split}: top-1 {100 * right.mean():.2f} % of {len(right):,}", flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
