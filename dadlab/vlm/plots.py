"""Charts of the second paper's tables: what each claim says, and where the measured difference lies."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dadlab.style import KEPT, PAGE, REJECTED, styled
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN, Claim, Verdict

LOOKS = {HOLDS: (KEPT, "o"), FAILS: (REJECTED, "X"), OPEN: ("#777777", "s")}


@styled
def claims_chart(claims: Sequence[Claim], verdicts: Sequence[Verdict | None]) -> Figure:
    """A line a claim: the difference with its corrected interval, coloured by the verdict, on the claimed range's band.

    Args:
        claims: all of the same scale, that of the axis.
        verdicts: one a claim; None, for what was not measured, leaves the band alone.
    """
    figure, ax = plt.subplots(figsize=(PAGE, 0.7 + 0.36 * len(claims)))
    plt.close(figure)
    ends = [e for v in verdicts if v for e in (v.effect.low, v.effect.mean, v.effect.high) if math.isfinite(e)]
    ends = ends or [-1.0, 1.0]
    edges = [edge for claim in claims for edge in (claim.above, claim.below) if abs(edge) < float("inf")]
    low, high = min([*ends, *edges]), max([*ends, *edges])
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    for place, (claim, found) in enumerate(zip(claims, verdicts, strict=True)):
        left, right = max(low, claim.above), min(high, claim.below)
        ax.barh(place, right - left, left=left, height=0.8, color=KEPT, alpha=0.12, linewidth=0)
        if found is not None:
            colour, marker = LOOKS[found.verdict]
            effect = found.effect
            spread = [[effect.mean - effect.low], [effect.high - effect.mean]]
            ax.errorbar(effect.mean, place, xerr=spread, fmt=marker, color=colour, elinewidth=1.3)
    ax.axvline(0, color="#444444", linewidth=0.7)
    ax.set_yticks(range(len(claims)), [textwrap.fill(claim.text, 48) for claim in claims], fontsize=7)
    ax.set_ylim(len(claims) - 0.5, -0.5)
    ax.set_xlim(low, high)
    ax.set_xlabel("difference, points" if claims[0].scale == 100 else "difference")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    shown = [Line2D([], [], color=c, marker=m, label=name) for name, (c, m) in LOOKS.items()]
    figure.legend(handles=shown, loc="outside upper right", ncols=3)
    return figure
