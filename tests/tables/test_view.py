"""Tables for the eye, of made-up runs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dadlab.tables.rows import NOT_YET
from dadlab.tables.view import beside, best_cells, styled
from tables.made_up import made_up


def test_styled_table_has_the_best_bold_and_no_teacher_among_them(monkeypatch, tmp_path):
    measured = made_up(monkeypatch, tmp_path)
    html = styled(measured).to_html()
    bold = html[: html.index("</style>")].split("font-weight: bold")[0].rsplit("}", 1)[-1]
    frame = beside(measured)
    assert frame["", "remark"].tolist() == ["", "seeds 0, 1 alone", "seeds 0, 1 alone", NOT_YET]
    assert "#T_t_row1_col0" in bold  # published ImageNet: a with 70
    assert "#T_t_row1_col1" in bold  # published C: 40 is less than 60
    assert "#T_t_row1_col4" in bold  # measured C
    assert "row0" not in bold
    assert "80.0 ± " in html
    assert "—" in html


def test_one_seed_has_no_interval_but_the_teacher_has(monkeypatch, tmp_path):
    cells = styled(made_up(monkeypatch, tmp_path, seeds=[0])).data["measured", "ImageNet"].tolist()
    assert cells[1:3] == ["80.0", "20.0"]
    assert cells[0].startswith("90.0 ± ")


def test_every_block_has_its_best_and_a_row_without_rivals_none():
    index = pd.MultiIndex.from_tuples([("T", "t"), ("A", "a"), ("A", "b"), ("B", "c"), ("B", "d"), ("B", "e")])
    values = {("measured", "up"): [9.0, 1, 2, 4, 3, np.nan], ("measured", "down"): [0.0, 1, 2, 4, 3, np.nan]}
    best = best_cells(pd.DataFrame(values, index=index), lower=["down"])
    assert best.index[best["measured", "up"]].tolist() == [("A", "b"), ("B", "c")]
    assert best.index[best["measured", "down"]].tolist() == [("A", "a"), ("B", "d")]
