import math

from matplotlib.colors import to_hex

from dadlab.estimates import Estimate
from dadlab.tables.verdicts import FAILS, HOLDS, OPEN, Claim, Verdict
from dadlab.vlm.plots import LOOKS, claims_chart

CLAIMS = [
    Claim("first beats second", "first", "second", "ood"),
    Claim("no worse by a point", "first", "second", "ood", above=-1),
    Claim("lower is better", "first", "second", "ood", above=-math.inf, below=0),
    Claim("not measured", "first", "third", "ood"),
]
FOUND = [
    Verdict(HOLDS, Estimate(2.0, 1.0, 3.0), 0.99, 5, 100, ""),
    Verdict(FAILS, Estimate(-3.0, -4.0, -2.0), 0.99, 5, 100, ""),
    Verdict(OPEN, Estimate(0.0, -1.0, 1.0), 0.99, 5, 100, "9 seeds"),
    None,
]


def test_intervals_lie_before_their_claimed_ranges():
    (ax,) = claims_chart(CLAIMS, FOUND).axes
    low, high = ax.get_xlim()
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert spans == [(0, high), (-1, high), (low, 0), (0, high)]
    assert len(ax.containers) == 4 + 3, "a range each, and an interval where there is one"
    marks = [line for line in ax.lines if line.get_marker() in ("o", "X", "s")]
    assert [to_hex(mark.get_color()).upper() for mark in marks] == [LOOKS[v.verdict][0] for v in FOUND[:3]]
    assert low < -4
    assert high > 3


def test_a_table_without_results_still_has_a_chart():
    assert claims_chart(CLAIMS, [None] * 4).axes[0].get_xlim() == (-1.12, 1.12)
