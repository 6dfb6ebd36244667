"""The picture of an audit shows what it is given."""

from __future__ import annotations

import pandas as pd
import pytest

from dadlab.tables.plots_audit import robustness_and_trust

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
