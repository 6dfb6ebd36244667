"""Both papers' printed tables as DataFrames, slips kept and noted beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from dadlab.files import ROOT

PAPERS = ROOT / "papers"
ALL_CLASSES = ("Rendition-1000", "A-1000")  # columns of ours, named as the splits of `dadlab.disk.imagenet`
TABLES, TABLES_VLM = PAPERS / "dad" / "tables.json", PAPERS / "vlm_ood" / "tables.json"


def load_table(number: int | str, path: Path = TABLES) -> pd.DataFrame:
    """One of Tables 1–12 of Zhou et al. (2023), or with `TABLES_VLM` a table of Li et al. (2023), values as printed.

    Columns have one name in all tables, in the order of each (`C` is mCE, lower is better; the others are top-1 in per
    cent unless `attrs` says otherwise). The index has what names a row: block and method, or student and teacher.

    `attrs` has the table's `title`, `where`, `unit`, `setting`, `lower_is_better`, `averages` (the columns that each
    average is over, a lower-is-better one as 100 − value), `groups` where columns are printed in groups, and `notes`:
    what is wrong or missing, with the value `recomputed` where arithmetic tells.

    Raises:
        ValueError: no such table; names those there are.

    >>> load_table(7)["Training Budget"].tolist()
    [1.0, 11.0, 7.0, 3.0, 3.5, 2.0]
    """
    tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
    if str(number) not in tables:
        raise ValueError(f"table {number}: not in {path.name}, which has {', '.join(tables)}")
    facts = tables[str(number)]
    index, columns = facts.pop("index"), facts.pop("columns")
    frame = pd.DataFrame(facts.pop("rows"), columns=[*index, *columns]).set_index(index).astype(float)
    frame.attrs = facts
    return frame


def with_all_classes(published: pd.DataFrame) -> pd.DataFrame:
    """A table with two columns that the paper has not: ImageNet-R and -A with all 1,000 classes to choose from.

    The paper's are among the 200 classes of each.
    """
    return published.assign(**dict.fromkeys(ALL_CLASSES, float("nan")))
