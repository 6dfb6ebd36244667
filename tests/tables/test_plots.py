"""Charts of tables show what they are given."""

from __future__ import annotations

import pandas as pd

from dadlab.tables.plots import published_measured_each


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
