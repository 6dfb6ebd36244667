"""Charts of tables and figures show what they are given."""

from __future__ import annotations

import pandas as pd
import pytest

from dadlab.estimates import Estimate
from dadlab.plots import Point
from dadlab.tables.plots import (
    published_measured,
    published_measured_each,
    robustness_and_trust,
    wasserstein_panels,
)


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


def test_a_point_is_the_published_gain_along_and_the_measured_one_up_with_its_interval():
    line = {"table": "Table 1", "block": "b", "row": "r", "column": "A", "published": 9.0, "measured": 3.0}
    gains = pd.DataFrame([{**line, "low": 2.0, "high": 7.0}])
    for figure in (published_measured(gains), published_measured_each(gains)):
        point, _, (bars,) = figure.axes[0].containers[0].lines
        assert point.get_xydata().tolist() == [[9.0, 3.0]]
        assert [segment.tolist() for segment in bars.get_segments()] == [[[9.0, 2.0], [9.0, 7.0]]]


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


NAMES = ["method", "seed", "split", "top-1"]


def test_a_column_a_split_with_the_line_of_plain_students():
    tested = [("dad", 0, "h", 85.0), ("dad", 0, "x", 60.0), ("dad", 0, "y", 20.0)]
    known = [("short", 0, "h", 70.0), ("short", 0, "x", 70.0), ("short", 0, "y", 100.0)]
    known += [("long", 0, "h", 80.0), ("long", 0, "x", 80.0), ("long", 0, "y", 100.0)]
    declined = [("dad", split, share, top1) for split in "xy" for share, top1 in ((1.0, 60.0), (0.5, 90.0))]
    curves = pd.DataFrame(declined, columns=["method", "split", "coverage", "top-1"])
    figure = robustness_and_trust(pd.DataFrame(tested, columns=NAMES), pd.DataFrame(known, columns=NAMES), curves, "h")
    x, y, below_x, _ = figure.axes
    assert (x.get_title(), y.get_title()) == ("x", "y")
    students, line, dad = x.lines
    assert [*zip(*students.get_data(), strict=True)] == [(80.0, 80.0), (70.0, 70.0)]
    assert line.get_ydata() == pytest.approx(line.get_xdata())  # through 70, 70 and 80, 80
    assert dad.get_xydata().tolist() == [[85.0, 60.0]]
    assert len(y.lines) == 2, "no line through students that are always right"
    assert below_x.lines[0].get_xydata().tolist() == [[50.0, 90.0], [100.0, 60.0]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain, other lengths", "DAD"]
