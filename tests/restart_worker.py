"""What each process of a launch does that dies once: the first attempt ends as soon as all have met, the second is
slow to come where the first would still be found.
"""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist


def main() -> None:
    rank, again = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
    if again and rank == "1":
        time.sleep(3)
    dist.init_process_group("gloo")
    if not again:
        sys.exit(1)
    met = torch.ones(1)
    dist.all_reduce(met)
    sys.stdout.write(f"rank {rank} met {met.item():.0f}\n")  # in one piece, unlike print
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
