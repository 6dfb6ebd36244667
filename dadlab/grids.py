"""Grids: methods and seeds measured side by side, and tabulated with paired differences.

The same test images, the same seeds: what `dadlab.report` prints and `dadlab.plots` draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dadlab.data import has_corruptions, held_out, home_split
from dadlab.disk.check import check
from dadlab.estimates import accuracy, difference, rounded
from dadlab.evaluate import corruption_score, mce_baseline
from dadlab.profile import Profile, nearest
from dadlab.provenance import by_whom, commit, machine, trained_by
from dadlab.results import Correct, Errors, measure, measure_corrupted, published_splits, stack
from dadlab.run import Run


def compare(
    profile: Profile,
    methods: Sequence[str],
    seeds: Sequence[int],
    splits: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    runs_dir: Path,
    *,
    student: str = "resnet_s",
    corruptions: bool = False,
) -> dict[str, Any]:
    """Run a grid of methods and seeds and tabulate it.

    Args:
        profile: what all runs share.
        methods, seeds: the grid; runs that exist are loaded.
        splits: what to test on; `a+b` averages two splits photograph by photograph.
        pairs: (first, second) methods whose paired difference is wanted.
        runs_dir: where runs live.
        student: student name.
        corruptions: also measure errors under corruption.

    Returns:
        JSON-ready: `rows` (method, split, top-1 with interval, every seed's value, n), `differences` (first, second,
        split, mean, low, high, and `corrected`: the ends of an interval for all pairs of a split at once),
        `corruption_error` (method: mean error in percent with interval, every seed's value, n), `mce` (likewise, where
        there is a named baseline), `corruption_differences` (as `differences`, of that error in points), `trained`
        (method: commit and machine of its runs), profile and machine.

    Raises:
        ValueError: splits or images that cannot be read, a pair of methods outside the grid, or a seed or method named
            twice; before any training.
    """
    plain_splits = sorted({name for split in splits for name in split.split("+")})
    _check_pairs(pairs, methods)
    for what, named in (("seeds", seeds), ("methods", methods)):
        if len(set(named)) < len(named):
            raise ValueError(f"{what} {list(named)}: one is named twice")
    _check_images(profile, plain_splits, corruptions)
    _check_joined(profile, splits)
    runs = {method: {seed: Run(profile, method, student, seed) for seed in seeds} for method in methods}
    measured: dict[str, dict[int, Correct]] = {method: {} for method in methods}
    errors: dict[str, dict[int, Errors]] = {method: {} for method in (methods if corruptions else ())}
    for seed, method in itertools.product(seeds, methods):
        measured[method][seed] = measure(runs[method][seed], runs_dir, plain_splits)
        if corruptions:
            errors[method][seed] = measure_corrupted(runs[method][seed], runs_dir)
    trained = {m: by_whom({seed: trained_by(run.folder(runs_dir)) for seed, run in runs[m].items()}) for m in methods}
    return {
        **_about(profile, student, seeds),
        "rows": [_row(method, split, stack(measured[method], split), seeds) for method in methods for split in splits],
        "differences": [
            {"first": a, "second": b, "split": s, **_apart(stack(measured[a], s), stack(measured[b], s), len(pairs))}
            for a, b in pairs
            for s in splits
        ],
        **_under_corruption(errors, pairs, seeds, mce_baseline(profile.data)),
        "trained": trained,
    }


def _under_corruption(
    errors: dict[str, dict[int, Errors]],
    pairs: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    baseline: dict[str, float] | None,
) -> dict[str, Any]:
    """What `compare` says of errors under corruption; everything is empty where none were measured."""
    plain = {method: _scores(found) for method, found in errors.items()}
    relative = {method: _scores(found, baseline) for method, found in errors.items()} if baseline else {}
    return {
        "corruption_error": {method: _cell(found, seeds) for method, found in plain.items()},
        "mce": {method: _cell(found, seeds) for method, found in relative.items()},
        "corruption_differences": [
            {"first": a, "second": b, **_apart(plain[a], plain[b], len(pairs))} for a, b in (pairs if plain else ())
        ],
    }


def _apart(first: np.ndarray, second: np.ndarray, pairs: int) -> dict[str, Any]:
    widened = rounded(difference(first, second, level=1 - 0.05 / pairs))  # Bonferroni
    return {**rounded(difference(first, second)), "corrected": [widened.get("low"), widened.get("high")]}


def _scores(errors: dict[int, Errors], baseline: dict[str, float] | None = None) -> np.ndarray:
    """(S, N) what each image adds to the mean error, or with a baseline to mCE, over seeds in order."""
    return np.stack([corruption_score(errors[seed], baseline) for seed in sorted(errors)])


def _check_pairs(pairs: Sequence[tuple[str, str]], methods: Sequence[str]) -> None:
    """Raise a `ValueError` unless all methods to be compared are in the grid."""
    for method in itertools.chain.from_iterable(pairs):
        nearest(method, dict.fromkeys(methods), "method of a pair")


def _about(profile: Profile, student: str, seeds: Sequence[int]) -> dict[str, Any]:
    """What all numbers of a grid share, and what they were measured with."""
    about = {"profile": asdict(profile), "student": student, "seeds": list(seeds)}
    return {**about, "machine": machine(), "commit": commit()}


def _check_images(profile: Profile, splits: Sequence[str], corruptions: bool) -> None:
    published = published_splits() if corruptions and has_corruptions(profile.data) else []
    check(profile.data, [profile.train, *splits, *published])
    if corruptions and not published:
        home_split(profile.data)  # which is what is corrupted


def _check_joined(profile: Profile, splits: Sequence[str]) -> None:
    """Raise a `ValueError` unless splits that are joined by `+` show the same number of photographs."""
    for split in splits:
        counts = {name: len(held_out(profile, name)) for name in split.split("+")} if "+" in split else {}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{name} {count:,}" for name, count in counts.items())
            raise ValueError(f"{split!r}: splits joined by + must show the same photographs, not {found}")


def _row(method: str, split: str, found: np.ndarray, seeds: Sequence[int]) -> dict[str, Any]:
    cell = _cell(found, seeds)
    return {"method": method, "split": split, "n": cell.pop("n"), "seeds": cell.pop("seeds"), "top1": cell}


def _cell(found: np.ndarray, seeds: Sequence[int]) -> dict[str, Any]:
    """Mean and interval of values (S, N) in percent, every seed's mean, and how many images."""
    each = {str(seed): round(100 * float(values.mean()), 2) for seed, values in zip(sorted(seeds), found, strict=True)}
    return {**rounded(accuracy(found)), "seeds": each, "n": found.shape[1]}
