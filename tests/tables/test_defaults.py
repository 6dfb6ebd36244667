"""What figures are drawn from on each profile, and what is missing."""

from __future__ import annotations

import pytest

from dadlab.evaluate import SHIFTS
from dadlab.profile import PROFILES, make_profile
from dadlab.run import Run
from dadlab.tables.defaults import DEFAULTS, defaults_of, missing_runs, profile_of
from dadlab.tables.rows import read_rows


def test_every_profile_has_defaults_of_splits_that_exist():
    assert DEFAULTS.keys() == PROFILES.keys()
    assert set(defaults_of("fashion").splits) < set(SHIFTS)
    assert defaults_of("imagenet").batches == 1000
    with pytest.raises(ValueError, match="did you mean 'imagenet'"):
        defaults_of("imagnet")


@pytest.mark.parametrize("profile", list(PROFILES))
def test_figures_share_the_tables_runs(profile):
    rows = {row.key: row for row in read_rows(1, profile)}
    row = rows["ResNet50 · DAD (Ours)"]
    assert row.student == defaults_of(profile).student
    assert profile_of(profile, row.student, {}) == row.profile
    assert profile_of(profile, row.student, {}, "dat") == rows["ResNet50 · DAT"].profile
    assert profile_of(profile, row.student, {"epochs": 3}).epochs == 3


def test_what_is_missing_is_told_unless_it_may_be_trained(tmp_path):
    there, absent = (Run(make_profile(), "plain", seed=seed) for seed in (0, 1))
    there.folder(tmp_path).mkdir()
    (there.folder(tmp_path) / "student.safetensors").touch()
    found = missing_runs([there, absent, absent], tmp_path, train=False, files=[tmp_path / "t.safetensors"])
    assert found["method"].tolist() == ["teacher", "plain"]
    assert found["name"].tolist() == ["t.safetensors", absent.folder(tmp_path).name]
    assert found["seed"].tolist() == ["", 1]
    assert missing_runs([absent], tmp_path, train=True, files=[tmp_path / "t.safetensors"]).empty
    assert missing_runs([there], tmp_path, train=False).empty
