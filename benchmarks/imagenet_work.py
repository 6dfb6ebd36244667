"""What one image costs at ImageNet's shapes: operations counted on tensors without content, bytes of what is kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import create_model
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.generation import noise
from dadlab.adain import FrozenStyleTransfer
from dadlab.cache import cache_teacher
from dadlab.checkpoints import VQGAN_F8
from dadlab.discretizer import FrozenVQGAN
from dadlab.examples import discretize_adversarially
from dadlab.profile import ATTACKS
from dadlab.store import open_store, write_shard
from dadlab.students import Student
from dadlab.teacher import StudentTeacher

CLASSES, SIZE, CODES, ENTRIES = 1000, 224, 784, 16384
STUDENTS = ("resnet50", "vit_base_patch16_224")


def gflop(work: Callable[[], Any]) -> float:
    """Floating-point operations of some work, in 10⁹; a multiplication with its addition is two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return round(counter.get_total_flops() / 1e9, 1)


def work_an_image() -> dict[str, float]:
    """GFLOP an image at the true shapes, by the package's own functions; a student's pass is forward and backward."""
    with torch.device("meta"):
        images, labels, codes = (torch.zeros(1, 3, SIZE, SIZE), *torch.zeros(2, 1, 28, 28, dtype=torch.int64).unbind())
        clip = create_model("ViT-L-14", pretrained=None, load_weights=False, device="meta").requires_grad_(False)
        head = torch.zeros(768, CLASSES)
        vqgan, transfer = FrozenVQGAN(**VQGAN_F8).freeze(), FrozenStyleTransfer().freeze()

        def teacher(images: Tensor) -> Tensor:  # counting fails where a module is given the very leaf of a gradient
            return clip.encode_image((images - 0.5) / 0.25, normalize=True) @ head

        students = {name: Student(name, CLASSES, SIZE) for name in STUDENTS}
        sample = functools.partial(discretize_adversarially, images, labels[:, 0, 0], teacher, vqgan, ATTACKS["paper"])
        passes = {name: gflop(lambda net=net: net(images).sum().backward()) for name, net in students.items()}
        return {
            "sample": gflop(lambda: sample([])),
            "teacher": gflop(lambda: teacher(images)),
            "discretizer": gflop(lambda: vqgan(images)),
            "decoder": gflop(lambda: vqgan.decode(codes)),
            "transfer": gflop(lambda: transfer(images, images)),
            **passes,
        }


def bytes_an_entry(folder: Path, rows: int = 512) -> dict[str, int]:
    """Bytes of a row of a store and of an answer of a cache, as the package writes them; codes as random as can be."""
    generator = torch.Generator().manual_seed(0)
    store = open_store(folder / "store", 2, {})
    same = {"variant": 0, "label": 0, "accepted": True, "reason": "kept", "distance": 1.0, "pixels": None}
    columns: dict[str, list[Any]] = {name: [value] * rows for name, value in same.items()}
    columns["index"] = list(range(rows))
    columns["codes"] = list(torch.randint(ENTRIES, (rows, CODES), generator=generator).numpy().astype(np.uint16))
    write_shard(store, 0, {**columns, "logits": list(torch.randn(rows, CLASSES, generator=generator).numpy())})
    write_shard(store, 1, {**columns, "logits": [None] * rows})
    row, codes = (round(store.path(shard).stat().st_size / rows) for shard in (0, 1))
    found = {"row of the store": row, "of it codes": codes, "of it logits": row - codes}
    data, teacher = noise(rows, 32, CLASSES), StudentTeacher(Student("resnet_s", CLASSES))
    for name, top in (("cached answer, top 64", 64), ("cached answer, all", 0)):
        home = cache_teacher(data, teacher, folder / "cache", views=1, top=top).home
        found[name] = round(next(home.glob("*.npy")).stat().st_size / rows)
    return found
