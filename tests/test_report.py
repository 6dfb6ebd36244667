import pytest

from dadlab.report import beside, markdown_differences, markdown_table, update_readme

RESULTS = {
    "rows": [{"method": "kd", "split": "sketch", "n": 2000, "top1": {"mean": 50.0, "low": 48.0, "high": 52.0}}],
    "differences": [{"first": "dad", "second": "kd", "split": "sketch", "mean": 3.0, "low": 1.0, "high": 5.0}],
    "mce": {"kd": {"0": 80.0, "1": 90.0}},
}


def test_table_shows_mean_half_interval_and_mce():
    assert "| KD | 50.0 ± 2.0 | 85.0 |" in markdown_table(RESULTS)


def test_an_ablation_stands_beside_the_main_result():
    rows = [{**RESULTS["rows"][0], "method": method} for method in ("kd", "dad")]
    ablation = {**RESULTS, "rows": rows, "mce": {"kd": {"0": 1.0}, "dad": {"0": 70.0}}}
    found = beside(RESULTS, ablation, "dad", "DAD, broad")
    assert "| KD | 50.0 ± 2.0 | 85.0 |\n| DAD, broad | 50.0 ± 2.0 | 70.0 |" in markdown_table(found)
    assert "| DAD, broad − KD | +3.0 [+1.0, +5.0] |" in markdown_differences(found, ["sketch"])


def test_readme_keeps_what_stands_around_the_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n")
    update_readme(readme, RESULTS, ["sketch"])
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| DAD − KD | +3.0 [+1.0, +5.0] |" in text


def test_missing_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing here")
    with pytest.raises(ValueError, match="results:begin"):
        update_readme(readme, RESULTS, ["sketch"])
