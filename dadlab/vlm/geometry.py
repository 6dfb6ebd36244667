"""How well a student's feature space keeps the geometry of its teacher's.

The metrics of *Distilling Large Vision-Language Model with Out-of-Distribution Generalizability* (Li et al., ICCV
2023), whose code was never released: Table 2's distance and Eqs. 4, 5 and 7, over features of the same N images. What
the paper prints is a mean over images, the functions give its terms, image by image.
Exact, up to rounding in the precision given (half precision is raised to single): every distance is computed, in
blocks of at most `BLOCK_BYTES`, never an N × N matrix, on a GPU where there is one, where the result stays. The three
metrics take features as they are: pass unit-length ones for the paper's numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dadlab.progress import track

BLOCK_BYTES = 2**27


@torch.inference_mode()
def squared_distances(student: Tensor, teacher: Tensor) -> Tensor:
    """‖S − T‖² of every image's unit-length features (N,); Table 2 prints their mean d and the angle arccos(1 − d / 2).

    Args:
        student: S (N, D), normalised here.
        teacher: T (N, D), normalised here.

    Raises:
        ValueError: shapes differ, or there are no images.

    >>> squared_distances(torch.eye(2), torch.tensor([[3.0, 0.0], [5.0, 0.0]])).tolist()  # the second at a right angle
    [0.0, 2.0]
    """
    _check_pairs(student, teacher)
    student, teacher = (F.normalize(_place(features), dim=1) for features in (student, teacher))
    return (student - teacher).square().sum(1)


@torch.inference_mode()
def relative_hits(student: Tensor, teacher: Tensor) -> Tensor:
    """Whether an image's own teacher feature is the one nearest to its student feature: (N,) bool (Eq. 4).

    M_rel = |{i : i = argmin_j ‖T(x_j) − S(x_i)‖²}| / N is their mean, higher is better. An image that shares its
    teacher feature with another is no miss.

    Args:
        student: S (N, D).
        teacher: T (N, D).

    Raises:
        ValueError: shapes differ, or there are no images.

    >>> relative_hits(torch.tensor([[0.0], [0.9], [0.8]]), torch.tensor([[0.0], [1.0], [2.0]])).tolist()
    [True, True, False]
    """
    _check_pairs(student, teacher)
    student, teacher = _place(student), _place(teacher)
    hits = torch.empty(len(student), dtype=torch.bool, device=student.device)
    for rows, distances in _distances(student, teacher, "M_rel"):
        own = distances[torch.arange(len(distances)), torch.arange(rows.start, rows.stop)]
        hits[rows] = own <= distances.amin(1)
    return hits


@torch.inference_mode()
def shared_neighbours(student: Tensor, teacher: Tensor, ks: Sequence[int] = (3, 5, 10)) -> dict[int, Tensor]:
    """How many of an image's k nearest images both spaces agree on: (N,) int64 for every k (Eq. 5).

    M_neigh(k) = Σ_i |KNN_S(i, k) ∩ KNN_T(i, k)| / (k N) is their mean / k, higher is better. Neighbours are sought in
    each space by itself, the image itself excluded.

    Args:
        student: S (N, D).
        teacher: T (N, D'), its dimension may differ.
        ks: each from 1 to N − 1.

    Raises:
        ValueError: numbers of images differ, or a k does not fit.

    >>> points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    >>> shared_neighbours(points, -points, ks=(2,))[2].tolist()
    [2, 2, 2, 2]
    """
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(f"features must be of the same images, got {tuple(student.shape)} and {tuple(teacher.shape)}")
    _check_ks(ks, len(student) - 1, "other images")
    near = [_neighbours(_place(features), max(ks)) for features in (student, teacher)]
    return {k: _shared(near[0][:, :k], near[1][:, :k]) for k in ks}


@torch.inference_mode()
def inversions(student: Tensor, teacher: Tensor, text: Tensor, ks: Sequence[int] = (2, 3, 5)) -> dict[int, Tensor]:
    """How many pairs of the k texts nearest the teacher's feature the student swaps: (N,) int64 for every k (Eq. 7).

    The student's distances to those texts are listed in the teacher's order, and inversions are counted; equal
    distances are none. M_vlalign(k) is their mean, not divided by the k (k − 1) / 2 pairs there are; lower is better.

    Args:
        student: S (N, D).
        teacher: T (N, D).
        text: t (C, D).
        ks: each from 1 to C.

    Raises:
        ValueError: shapes do not fit, there are no images, or a k does not fit.

    >>> texts = torch.tensor([[0.0], [1.0], [3.0]])
    >>> inversions(torch.tensor([[2.9]]), torch.tensor([[0.1]]), texts, ks=(3,))[3].tolist()  # the order is reversed
    [3]
    """
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
