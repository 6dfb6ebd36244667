import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from dadlab.tables.verdicts import Claim
from dadlab.vlm.report import beside, claims, left_out, record, styled
from dadlab.vlm.rows import Measured, read_experiment


@pytest.fixture(scope="module")
def table() -> Measured:
    """Table 9 of which three rows were measured: the reference at 80 %, two others at 60 %."""
    rows, entry = read_experiment("9")
    ranks = np.stack([np.random.default_rng(seed).permutation(200) / 200 for seed in range(3)])
    shares = {"reference": 0.8, "no filter": 0.6, "k = 10": 0.6}
    values = {(label, on): (ranks < p).astype(float) for label, p in shares.items() for on in entry["quantities"]}
    seeds = {row.label: [0, 1, 2] if row.label in shares else [] for row in rows}
    missing = {row.label: "not run" for row in rows if row.label not in shares}
    told = [Claim(**claim) for claim in entry["claims"]]
    return Measured("9", rows, entry["quantities"], told, seeds, values, missing, "A remark.")


def test_published_is_the_mean_of_the_printed_data_sets(table):
    frame = beside(table)
    assert frame.loc["reference", ("published", "OOD")] == pytest.approx((17.6 + 23.5) / 2)
    assert frame.loc["reference", ("measured", "OOD")].mean == pytest.approx(80)
    assert frame.loc["k = 1", ("measured", "OOD")] is None
    assert list(frame.columns.get_level_values(0)) == ["published"] * 3 + ["measured"] * 3 + [""]


def test_shown_with_half_intervals_and_remarks(table):
    shown = styled(table)
    cell = shown.data.loc["no filter", ("measured", "ID")]
    assert cell.startswith("60.0 ± ")
    assert shown.data.loc["k = 1", ("measured", "ID")] == "—"
    assert shown.data.loc["k = 1", ("", "remark")] == "not run"
    assert "mean over 2 data sets. A remark." in shown.to_html()


def test_claims_say_what_was_found_or_that_nothing_was(table):
    html, frame = claims(table).to_html(), claims(table).data
    assert "99.17 % intervals: 95 % for all 6 claims together" in html
    assert list(frame["verdict"][:2]) == ["holds", "holds"]
    assert frame["effect"][0].startswith("+20.0 [+")
    assert list(frame["verdict"][2:4]) == ["not measured"] * 2


def test_what_a_filter_left_out_is_the_mean_over_epochs_and_seeds(table, tmp_path):
    for row in table.rows:
        for seed in table.seeds[row.label]:
            folder = dataclasses.replace(row.run, seed=seed).folder(tmp_path)
            folder.mkdir()
            shares = [0.0, 0.0] if row.label == "no filter" else [0.1 * seed, 0.3]
            (folder / "loss.jsonl").write_text("".join(f'{{"epoch": 0, "filtered": {share}}}\n' for share in shares))
    found = left_out(table, tmp_path)["left out (%)"]
    assert found.to_dict() == pytest.approx({"reference": 20.0, "no filter": 0.0, "k = 10": 20.0})


def test_the_record_has_every_cell_and_claim(table, tmp_path):
    found = record([table], seeds=[0, 1, 2])
    Path(tmp_path / "record.json").write_text(json.dumps(found, allow_nan=False))
    rows = {row["name"][-1]: row for row in found["tables"]["9"]["rows"]}
    assert rows["reference"]["run"]["text"] == "description"
    assert rows["reference"]["cells"]["OOD"]["each seed"] == [80.0, 80.0, 80.0]
    assert rows["k = 1"]["cells"]["OOD"].keys() == {"published"}
    assert rows["k = 1"]["missing"] == "not run"
    _, found_out, unmeasured, *_ = found["tables"]["9"]["claims"]
    assert [claim["verdict"] for claim in (found_out, unmeasured)] == ["holds", "not measured"]
    assert (unmeasured["above"], "below" in unmeasured) == (0.0, False), "its range all the same, as of any other claim"
