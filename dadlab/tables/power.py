"""Power: how many seeds or test images would tell what a table's could not."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from scipy.stats import t as student_t

from dadlab.estimates import Components, Estimate, components, unseen

POWER = 0.8  # chance that the number named would tell, if the effect is as measured
MOST = 10_000_000  # seeds or images; more are not worth naming
_STEP = 1.05  # between the numbers that are tried


def would_tell(
    values: np.ndarray, effect: Estimate, *, above: float, below: float, level: float, turns: str = "seeds"
) -> str:
    """How many seeds, or else images, or else of both, would tell, were the effect and its variances as measured.

    At the number named, a verdict comes out in `POWER` of all cases. It is the first that does: many more of one kind
    alone may tell less again, as the degrees of freedom fall to those of the other.

    Args:
        values: differences (S, N), as reported.
        effect: their estimate at this level.
        above, below: the claimed range.
        level: of the interval.
        turns: what S counts, in words.
    """
    seeds, images = values.shape
    if seeds < 2:
        return f"at least 2 {turns}"
    distance = min(abs(effect.mean - edge) for edge in (above, below) if math.isfinite(edge))
    if distance == 0:
        return "nothing: the effect lies on the edge"
    if np.ptp(values) == 0:
        needed = _fewest(images + 1, lambda n: _farthest(effect, images, n, level) < distance)
        return f"{needed:,} images" if needed else "values that are not all alike"
    parts = components(values)

    def tells(seeds: int, images: int) -> bool:
        return _reach(parts, seeds, images, level) <= distance

    if needed := _fewest(seeds + 1, lambda n: tells(n, images)):
        return f"{needed:,} {turns}"
    if needed := _fewest(images + 1, lambda n: tells(seeds, n)):
        return f"{needed:,} images"
    if needed := _fewest(seeds + 1, lambda n: tells(n, -(-n * images // seeds))):
        return f"{needed:,} {turns} and {-(-needed * images // seeds):,} images"
    return "nothing: the effect lies on the edge, or all but on it"


def _farthest(effect: Estimate, images: int, more: int, level: float) -> float:
    """How far the interval of values that are all alike on so many images reaches, were they so on more."""
    reach = max(effect.high - effect.mean, effect.mean - effect.low)
    return reach * unseen(more, level) / unseen(images, level)


def _reach(parts: Components, seeds: int, images: int, level: float) -> float:
    """How far from an edge an effect must lie to be told in `POWER` of all cases."""
    error, freedom = parts.spread(seeds, images)
    return error * (float(student_t.ppf((1 + level) / 2, freedom)) + NormalDist().inv_cdf(POWER))


def _fewest(least: int, enough: Callable[[int], bool]) -> int:
    """Smallest n, `least` or more, that is enough, though more may not be; 0 where there is none worth naming."""
    before, tried = least - 1, least
    while tried <= MOST:
        if enough(tried):
            between = range(before + 1, tried + 1)
            return between[bisect_left(between, True, key=enough)]
        before, tried = tried, max(tried + 1, int(tried * _STEP))
    return 0
