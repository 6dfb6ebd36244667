"""The computable quantities of the paper's theory (Zhou et al., 2023, §3.4), on finite samples.

Risks are zero-one, so they have no unit and lie in [0, 1]. w is Wasserstein-1 over Euclidean distance and has that
distance's unit. Lemma 3.1 adds the two as if they were alike: it drops the constants of Assumption 2, without which
the sum bounds nothing in a given unit. What is tabulated here is the inequality as printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import ot
import pandas as pd


def w1(first: np.ndarray, second: np.ndarray) -> float:
    """Exact Wasserstein-1 distance between two samples (N, D) and (M, D), by POT.

    >>> w1(np.array([[0.0], [1.0]]), np.array([[2.0], [1.0]]))
    1.0
    """
    return float(ot.emd2([], [], ot.dist(first, second, metric="euclidean"), numItermax=1_000_000))


def set_distance(test: str, distributions: Sequence[str], w: Mapping[tuple[str, str], float]) -> float:
    """w(P', **P**): the mean distance to the distributions of a set."""
    return float(np.mean([w[test, name] for name in distributions]))


def within(anchor: str, epsilon: float, w: Mapping[tuple[str, str], float]) -> list[str]:
    """The distributions no farther than ε from an anchor; itself included, though two samples of it lie apart."""
    return [other for (one, other), far in w.items() if one == anchor and (other == anchor or far <= epsilon)]


def expected_risk(risks: Mapping[str, float], inside: Sequence[str]) -> float:
    """r(P, ε), Eq. 2: the mean risk over the distributions within ε."""
    return float(np.mean([risks[name] for name in inside]))


def worst_risk(risks: Mapping[str, float], inside: Sequence[str]) -> float:
    """r_worst(P, ε), Eq. 1: the largest risk over the distributions within ε; only those at hand, so a lower bound."""
    return max(risks[name] for name in inside)


def risks_within(
    risks: Mapping[str, Mapping[str, float]], anchor: str, w: Mapping[tuple[str, str], float]
) -> pd.DataFrame:
    """r(P, ε) and r_worst(P, ε) of every method, ε growing from 0 over the nearest distribution to the farthest.

    Columns: `method`, `ε`, `distributions` (how many lie within ε of P), `r(P, ε)`, `r_worst(P, ε)`.

    Args:
        risks: method → distribution → r(P').
        anchor: P, the training distribution.
        w: (P, P') → distance.
    """
    lines = []
    for method, own in risks.items():
        for epsilon in sorted({0.0, *(w[anchor, name] for name in own if name != anchor)}):
            inside = within(anchor, epsilon, w)
            line = {"method": method, "ε": epsilon, "distributions": len(inside)}
            lines.append({**line, "r(P, ε)": expected_risk(own, inside), "r_worst(P, ε)": worst_risk(own, inside)})
    return pd.DataFrame(lines)


def xi(hypotheses: int, samples: int, *, probability: float = 0.05) -> float:
    """ξ of Lemma 3.2 for a finite hypothesis set and zero-one loss: √((log |Θ| + log 1/β) / 2n), Assumption 3.

    Args:
        hypotheses: |Θ|; of a set of trained networks, how many there are, if the set was fixed before seeing the data.
        samples: n.
        probability: β, that the bound does not hold.

    Raises:
        ValueError: not a number that makes sense.

    >>> round(xi(1, 50, probability=math.exp(-1)), 3)
    0.1
    """
    if hypotheses < 1 or samples < 1 or not 0 < probability < 1:
        raise ValueError(f"ξ wants |Θ| ≥ 1, n ≥ 1, 0 < β < 1; got {hypotheses}, {samples}, {probability}")
    return math.sqrt((math.log(hypotheses) + math.log(1 / probability)) / (2 * samples))


def risk_bounds(
    risks: Mapping[str, float],
    anchor: str,
    w: Mapping[tuple[str, str], float],
    *,
    empirical: float,
    slack: float,
) -> pd.DataFrame:
    """Lemmas 3.1 and 3.2 for every test distribution: both sides, whether each holds and says anything (is below 1).

    Args:
        risks: distribution → r(P').
        anchor: P, the training distribution.
        w: (P, P') → distance.
        empirical: r((X, Y)_P), the risk on the training samples.
        slack: ξ.
    """
    lines = []
    for test in (name for name in risks if name != anchor):
        line = {"P'": test, "r(P')": risks[test], "w(P', P)": w[anchor, test]}
        bounds = {"3.1": ("r(P) + w", risks[anchor]), "3.2": ("r̂(P) + w + ξ", empirical + slack)}
        for lemma, (formula, rest) in bounds.items():
            bound = rest + w[anchor, test]
            line |= {f"{lemma}: {formula}": bound, f"{lemma} holds": risks[test] <= bound}
            line |= {f"{lemma} informative": bound < 1}
        lines.append(line)
    return pd.DataFrame(lines).set_index("P'")


def lemma_3(start: np.ndarray, end: np.ndarray, epsilon: float) -> dict[str, float | bool]:
    """w(P, P*) ≤ ε_B of Lemma 3.3 for samples (N, D) of P and what an attack of radius ε made of each.

    Moving every sample to its own example is one transport, so its mean length bounds w from above.
    """
    far, mean = w1(start, end), float(np.linalg.norm(start - end, axis=1).mean())
    return {"w(P, P*)": far, "mean ‖x − x*‖": mean, "ε": epsilon, "holds": far <= epsilon}


def lemma_4(
    made: tuple[str, str],
    sets: tuple[Sequence[str], Sequence[str]],
    tests: Sequence[str],
    w: Mapping[tuple[str, str], float],
) -> tuple[float, float]:
    """Both sides of Lemma 3.4, with the mean over test distributions for the expectation.

    Args:
        made: D(φ(**P**₁)) and D(φ(**P**₂)), the augmentations made with either model.
        sets: **P**₁ and **P**₂, what the models were trained on.
        tests: P'.
        w: (distribution, P') → distance.

    >>> w = {("d", "t"): 1.0, ("e", "t"): 3.0, ("p", "t"): 2.0, ("q", "t"): 4.0}
    >>> lemma_4(("d", "e"), (["p", "q"], ["p"]), ["t"], w)
    (2.0, 12.0)
    """
    left = np.mean([abs(w[made[0], test] - w[made[1], test]) for test in tests])
    right = np.mean([sum(max(w[name, test] for name in names) for names in sets) for test in tests])
    return float(left), 2 * float(right)
