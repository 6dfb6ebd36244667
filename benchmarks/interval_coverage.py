"""How often an interval of few seeds covers the truth: that of `dadlab.estimates`, and a two-way percentile bootstrap.

Values (seeds, images) are drawn with known variances around 0, again and again; a 95 % interval should cover 0 in 95 %.

python -m benchmarks.interval_coverage --out papers/dad/results/interval_coverage.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dadlab.estimates import accuracy
from dadlab.files import write_json
from dadlab.progress import track
from dadlab.provenance import made_by

# σ of seeds, of images and of what is left, in points of top-1
SPREADS = {
    "seeds alone differ": (3.0, 0.0, 0.0),
    "seeds differ more": (3.0, 10.0, 30.0),
    "both differ": (1.2, 25.0, 30.0),
    "images differ more": (0.2, 35.0, 30.0),
}
SEEDS = (2, 3, 5, 10)
RESAMPLES = 1000


def bootstrap(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % percentile interval of the mean of values (S, N), seeds and images resampled together."""
    seeds, images = values.shape
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    columns = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES) / images
    low, high = np.quantile(((rows @ values) * columns).sum(1), (0.025, 0.975))
    return float(low), float(high)


def coverage(spread: Sequence[float], seeds: int, images: int, draws: int) -> dict[str, float]:
    """Share of draws, in percent, whose interval covers the truth, by either kind of interval."""
    rng, hits = np.random.default_rng(seeds), np.zeros(2)
    shapes = [(seeds, 1), (1, images), (seeds, images)]
    for _ in range(draws):
        values = sum(rng.normal(0, sigma, shape) for sigma, shape in zip(spread, shapes, strict=True))
        found = accuracy(values, scale=1)
        low, high = bootstrap(values, rng)
        hits += (found.low <= 0 <= found.high), (low <= 0 <= high)
    shares = (100 * hits / draws).round(1).tolist()
    return dict(zip(("Student's t", "percentile bootstrap"), shares, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, count and print, and write where told to."""
    parser = argparse.ArgumentParser("python -m benchmarks.interval_coverage", description="coverage of 95 % intervals")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    cases = [(name, seeds) for name in SPREADS for seeds in SEEDS]
    found = {
        f"{name}, {seeds} seeds": coverage(SPREADS[name], seeds, given.images, given.draws)
        for name, seeds in track(cases, "cases")
    }
    about = {"σ of seeds, images, the rest": SPREADS, "images": given.images, "draws": given.draws}
    result = {**made_by("benchmarks.interval_coverage", arguments), **about, "covered, %": found}
    print(json.dumps(result["covered, %"], indent=1))
    if given.out:
        write_json(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
