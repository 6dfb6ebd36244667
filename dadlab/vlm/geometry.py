"""How well a student's feature space keeps the geometry of its teacher's.

The metrics of *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV
2023), whose code was never released: Table 2's distance and Eqs. 4, 5 and 7, over features of the same N images.
Exact, up to rounding in the precision given (half precision is raised to single): every distance is computed, in
blocks of at most `BLOCK_BYTES`, never an N × N matrix, on a GPU where there is one. Features count as they are: pass
unit-length ones for the paper's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dadlab.progress import track

BLOCK_BYTES = 2**27


@torch.inference_mode()
def squared_distance(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """Mean ‖S − T‖² over images of unit-length features, and the angle it stands for, in degrees (Table 2).

    Args:
        student: S (N, D), normalised here.
        teacher: T (N, D), normalised here.

    >>> squared_distance(torch.eye(2), torch.eye(2).flip(0))
    (2.0, 90.0)
    """
    found = squared_distances(student, teacher).mean().item()
    return found, math.degrees(math.acos(max(-1.0, 1 - found / 2)))


@torch.inference_mode()
def squared_distances(student: Tensor, teacher: Tensor) -> Tensor:
    """‖S − T‖² of every image (N,); features (N, D) are normalised here."""
    _check_pairs(student, teacher)
    student, teacher = (F.normalize(_place(features), dim=1) for features in (student, teacher))
    return (student - teacher).square().sum(1)


@torch.inference_mode()
def relative_coherence(student: Tensor, teacher: Tensor) -> float:
    """M_rel: share of images whose teacher feature no other image's is nearer to the student's (Eq. 4).

    |{i : i = argmin_j ‖T(x_j) − S(x_i)‖²}| / N, higher is better. An image that shares its teacher feature with
    another is no miss.

    Args:
        student: S (N, D).
        teacher: T (N, D).

    >>> relative_coherence(torch.tensor([[0.0], [0.9], [0.8]]), torch.tensor([[0.0], [1.0], [2.0]]))
    0.6666666666666666
    """
    return relative_hits(student, teacher).sum().item() / len(student)


@torch.inference_mode()
def relative_hits(student: Tensor, teacher: Tensor) -> Tensor:
    """M_rel image by image: (N,) bool of features (N, D)."""
    _check_pairs(student, teacher)
    student, teacher = _place(student), _place(teacher)
    hits = torch.empty(len(student), dtype=torch.bool, device=student.device)
    for rows, distances in _distances(student, teacher, "M_rel"):
        own = distances[torch.arange(len(distances)), torch.arange(rows.start, rows.stop)]
        hits[rows] = own <= distances.amin(1)
    return hits


@torch.inference_mode()
def neighbour_coherence(student: Tensor, teacher: Tensor, ks: Sequence[int] = (3, 5, 10)) -> dict[int, float]:
    """M_neigh(k): share of an image's k nearest images that both spaces agree on (Eq. 5), for every k.

    Σ_i |KNN_S(i, k) ∩ KNN_T(i, k)| / (k N), each in its own space, the image itself excluded; higher is better.

    Args:
        student: S (N, D).
        teacher: T (N, D'), its dimension may differ.
        ks: each from 1 to N − 1.

    Raises:
        ValueError: numbers of images differ, or a k does not fit.

    >>> points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    >>> neighbour_coherence(points, -points, ks=(1, 2))
    {1: 1.0, 2: 1.0}
    """
    found = shared_neighbours(student, teacher, ks)
    return {k: int(shared.sum()) / (k * len(student)) for k, shared in found.items()}


@torch.inference_mode()
def shared_neighbours(student: Tensor, teacher: Tensor, ks: Sequence[int] = (3, 5, 10)) -> dict[int, Tensor]:
    """How many of an image's k nearest images both spaces agree on: (N,) int64 for every k; M_neigh is its mean / k."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(f"features must be of the same images, got {tuple(student.shape)} and {tuple(teacher.shape)}")
    _check_ks(ks, len(student) - 1, "other images")
    near = [_neighbours(_place(features), max(ks)) for features in (student, teacher)]
    return {k: _shared(near[0][:, :k], near[1][:, :k]) for k in ks}


@torch.inference_mode()
def language_coherence(
    student: Tensor, teacher: Tensor, text: Tensor, ks: Sequence[int] = (2, 3, 5)
) -> dict[int, float]:
    """M_vlalign(k): how often the student swaps two of the k texts nearest the teacher's feature (Eq. 7), for every k.

    The student's distances to those texts are listed in the teacher's order; inversions are counted and averaged over
    images, not divided by the k (k − 1) / 2 pairs there are. Lower is better. Equal distances are no inversion.

    Args:
        student: S (N, D).
        teacher: T (N, D).
        text: t (C, D).
        ks: each from 1 to C.

    Raises:
        ValueError: shapes do not fit, or a k does not fit.

    >>> texts = torch.tensor([[0.0], [1.0], [3.0]])
    >>> language_coherence(torch.tensor([[2.9]]), torch.tensor([[0.1]]), texts, ks=(2, 3))  # the order is reversed
    {2: 1.0, 3: 3.0}
    """
    found = inversions(student, teacher, text, ks)
    return {k: int(swapped.sum()) / len(student) for k, swapped in found.items()}


@torch.inference_mode()
def inversions(student: Tensor, teacher: Tensor, text: Tensor, ks: Sequence[int] = (2, 3, 5)) -> dict[int, Tensor]:
    """M_vlalign image by image: (N,) int64 for every k; arguments as in `language_coherence`."""
    _check_pairs(student, teacher)
    if text.ndim != 2 or text.shape[1] != student.shape[1]:
        raise ValueError(f"text features must be (C, {student.shape[1]}), got {tuple(text.shape)}")
    _check_ks(ks, len(text), "texts")
    student, teacher, text = _place(student), _place(teacher), _place(text)
    swapped = {k: torch.zeros(len(student), dtype=torch.int64, device=student.device) for k in ks}
    for rows, distances in _distances(teacher, text, "M_vlalign"):
        nearest = distances.topk(max(ks), largest=False).indices
        found = _to_keys(student[rows], text).gather(1, nearest)
        for k in ks:
            for first in range(k):
                swapped[k][rows] += (found[:, first, None] > found[:, first + 1 : k]).sum(1)
    return swapped


def _distances(queries: Tensor, keys: Tensor, what: str) -> Iterator[tuple[slice, Tensor]]:
    size = max(1, BLOCK_BYTES // (len(keys) * queries.element_size()))
    for start in track(range(0, len(queries), size), what):
        rows = slice(start, min(start + size, len(queries)))
        yield rows, _to_keys(queries[rows], keys)


def _to_keys(queries: Tensor, keys: Tensor) -> Tensor:
    """‖q − k‖² less ‖q‖², which does not change a query's order: (B, D) and (N, D) to (B, N)."""
    return torch.addmm(torch.linalg.vector_norm(keys, dim=1).square(), queries, keys.T, alpha=-2)


def _neighbours(features: Tensor, k: int) -> Tensor:
    """Each row's k nearest other rows (N, k), nearest first."""
    found = torch.empty(len(features), k, dtype=torch.int64, device=features.device)
    for rows, distances in _distances(features, features, "M_neigh"):
        distances[torch.arange(len(distances)), torch.arange(rows.start, rows.stop)] = torch.inf
        found[rows] = distances.topk(k, largest=False).indices
    return found


def _shared(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([(column[:, None] == second).sum(1) for column in first.T]).sum(0)


def _place(features: Tensor) -> Tensor:
    precise = features if features.dtype == torch.float64 else features.float()
    return precise.cuda() if torch.cuda.is_available() else precise


def _check_pairs(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape or student.ndim != 2 or not len(student):
        raise ValueError(f"features must both be (N, D), got {tuple(student.shape)} and {tuple(teacher.shape)}")


def _check_ks(ks: Sequence[int], most: int, what: str) -> None:
    wrong = [k for k in ks if not 1 <= k <= most]
    if wrong or not ks:
        found = ", ".join(map(str, wrong)) or "none"
        raise ValueError(f"k must be from 1 to {most}, the number of {what}; got {found}")
