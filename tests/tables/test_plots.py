"""Charts of tables and distances show what they are given."""

from __future__ import annotations

import pandas as pd

from dadlab.estimates import Estimate
from dadlab.plots import Point
from dadlab.tables.plots import published_measured_each
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


def test_every_table_has_a_panel_and_a_column_one_look_in_all():
    lines = [(f"Table {n}", "b", "r", c, 1.0, n, n - 1, n + 1) for n in range(1, 5) for c in ("C", "A")[: n % 2 + 1]]
    names = ["table", "block", "row", "column", "published", "measured", "low", "high"]
    figure = published_measured_each(pd.DataFrame(lines, columns=names))
    drawn = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in drawn] == ["Table 1", "Table 2", "Table 3", "Table 4"]
    assert [len(ax.containers) for ax in drawn] == [2, 1, 2, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["C", "A"]
    assert len({ax.containers[0].lines[0].get_color() for ax in drawn}) == 1
    assert published_measured_each(pd.DataFrame(columns=names)).axes
