"""Under attack: what Table 12 measures in its columns, and the same along ε.

The paper gives neither ε, nor steps, nor how many photographs; attacks are those of `dadlab.under_attack`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from dadlab.data import held_out, home_split
from dadlab.estimates import Estimate, accuracy
from dadlab.masking import masking
from dadlab.results import trained
from dadlab.tables.measured import Cells, Measured
from dadlab.tables.rows import Row
from dadlab.under_attack import TITLES, measure_under_attack

ATTACK_OF = {title: name for name, title in TITLES.items()}
CLEAN = TITLES["none"]


def attacked(epsilon: float, photographs: Mapping[str, int]) -> Cells:
    """Cells of `dadlab.tables.measured.measure_rows`: in-distribution top-1 under each column's attack.

    Args:
        epsilon: radius in [0, 1], L∞.
        photographs: column → how many test photographs, class by class; 0 is all.
    """

    def cells(row: Row, seed: int, runs_dir: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
        run, split = row.run(seed), home_split(row.profile.data)
        right = {
            name: measure_under_attack(
                run, Path(runs_dir), ATTACK_OF[name], epsilon, split=split, limit=photographs[name]
            )
            for name in columns
        }
        return {name: found.astype(float) for name, found in right.items()}

    return cells


def curves(
    measured: Measured, block: str, epsilons: Sequence[float], photographs: Mapping[str, int], runs_dir: Path
) -> tuple[dict[str, dict[str, dict[float, Estimate]]], dict[str, float]]:  # fmt: skip
    """What `dadlab.plots.attack_curves` draws: column → method → ε → top-1, and each method's top-1 without attack.

    Args:
        measured: Table 12; of it the rows of one block that could be measured, with the seeds that they have.
        block: the first part of their names.
        epsilons: radii, L∞, increasing and positive.
        photographs: column → how many, as in `attacked`.
        runs_dir: where runs live.
    """
    drawn: dict[str, dict[str, dict[float, Estimate]]] = {column: {} for column in photographs}
    clean = {}
    for row in (row for row in measured.rows if row.name[0] == block and row.key in measured.values):
        seeds = sorted(set.union(*(set(by_seed) for by_seed in measured.values[row.key].values())))
        for column, count in photographs.items():
            by_radius = {e: _stacked(row, seeds, column, e, count, runs_dir) for e in epsilons}
            drawn[column][row.method] = {epsilon: accuracy(right) for epsilon, right in by_radius.items()}
        unharmed = _stacked(row, seeds, CLEAN, 0.0, most(photographs), runs_dir)
        clean[row.method] = 100 * float(unharmed.mean())
    return drawn, clean


def most(photographs: Mapping[str, int]) -> int:
    """The largest of several counts of photographs, of which 0 is all.

    >>> most({"FGSM": 200, "PGD": 0}), most({"FGSM": 200, "PGD": 100})
    (0, 200)
    """
    return 0 if 0 in photographs.values() else max(photographs.values())


def signs_of_masking(measured: Measured, epsilon: float, photographs: int, runs_dir: Path) -> dict[str, str]:
    """Row → what `dadlab.masking` says of its first student.

    Examples are transferred from the first row of its block, trained with the next seed; with one seed alone from that
    very student, and then the first row's are its own.

    Args:
        measured: Table 12.
        epsilon: radius, L∞.
        photographs: about how many, class by class; 0 is all.
        runs_dir: where runs live.
    """
    found: dict[str, str] = {}
    surrogates: dict[str, nn.Module] = {}
    for row in (row for row in measured.rows if row.method and row.key in measured.values):
        seed, *others = sorted(set.union(*(set(by_seed) for by_seed in measured.values[row.key].values())))
        surrogates.setdefault(row.name[0], trained(row.run(others[0] if others else seed), runs_dir))
        data, surrogate = row.profile.data, surrogates[row.name[0]]
        few = held_out(row.profile, home_split(data), limit=photographs)
        found[row.key] = masking(trained(row.run(seed), runs_dir), few, epsilon, surrogate=surrogate)
    return found


def _stacked(row: Row, seeds: Sequence[int], column: str, epsilon: float, count: int, runs_dir: Path) -> np.ndarray:
    """(S, N) of one row."""
    cells = attacked(epsilon, {column: count})
    return np.stack([cells(row, seed, runs_dir, [column])[column] for seed in seeds])
