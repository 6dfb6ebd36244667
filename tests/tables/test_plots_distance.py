"""Charts against distance show what they are given."""

from __future__ import annotations

from dadlab.estimates import Estimate
from dadlab.plots import Point
from dadlab.tables.plots_distance import wasserstein_panels


def test_panels_join_augmentations_in_order_of_distance_and_name_shifts_once():
    near, far = (Point(n, d, Estimate(v, v - 1, v + 1)) for n, d, v in (("near", 1.0, 40.0), ("far", 2.0, 50.0)))
    figure = wasserstein_panels({"dad": [far, near]}, {"kd": [near, far], "dad": [near, far]}, on="val", reference="kd")
    left, right = figure.axes
    assert [1.0, 2.0] in [list(line.get_xdata()) for line in left.lines]
    for ax in (left, right):
        (names,) = ax.child_axes
        assert dict(zip(names.get_xticks(), [text.get_text() for text in names.get_xticklabels()], strict=True)) == {
            1.0: "near",
            2.0: "far",
        }
    assert left.get_ylabel() == "top-1 on val (%)"
    assert right.get_ylabel() == "gain over KD (points)"
    absolute, relative = (list(ax.containers[0].lines[0].get_xdata()) for ax in (left, right))
    assert (len(left.containers), len(right.containers)) == (1, 2)
    assert absolute == relative == [1.0, 2.0]
