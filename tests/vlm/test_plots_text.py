import matplotlib
import pytest
import torch
from test_plots import check, texts

from dadlab.vlm.plots_text import BINS, accuracies, cosines, published_spectra, spectra
from dadlab.vlm.spectrum import singular_values

FEATURES = {
    title: torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(k)), dim=1)
    for k, title in enumerate(("plain", "description"))
}


@pytest.fixture(autouse=True)
def _headless() -> None:
    matplotlib.use("agg")


def test_spectra_show_both_sigma_and_its_square() -> None:
    figure = spectra(FEATURES, top=3)
    check(figure, 2, "σ", "σ²", "effective rank of σ", "effective rank of σ²")
    expected = singular_values(FEATURES["description"])[:3]
    for ax, values in zip(figure.axes, (expected, expected.square()), strict=True):
        assert ax.lines[1].get_ydata().tolist() == pytest.approx(values.tolist())
        assert ax.get_ylim()[0] == 0


def test_spectra_of_few_labels_end_early() -> None:
    figure = spectra({"plain": FEATURES["plain"][:3]}, top=10)
    assert len(figure.axes[0].lines[0].get_xdata()) == 3


def test_cosines_are_shares_of_all_pairs() -> None:
    figure = cosines(FEATURES)
    check(figure, 1, "cosine of two labels", "pairs (%)")
    shares = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == BINS]
    assert [share.sum() for share in shares] == pytest.approx([100, 100])


@pytest.mark.parametrize("chart", [spectra, cosines])
def test_every_kind_of_text_is_drawn_or_too_many_are_refused(chart) -> None:
    kinds = {f"kind {k}": FEATURES["plain"] for k in range(10)}
    assert set(kinds) <= {text.split(",")[0] for text in texts(chart(kinds))}
    with pytest.raises(ValueError, match="11 kinds of text: 10 at most"):
        chart({**kinds, "one more": FEATURES["plain"]})


def test_published_spectra_have_ten_values_each() -> None:
    figure = published_spectra()
    check(figure, 1, "plain", "ChatGPT", "caption")
    assert [len(line.get_ydata()) for line in figure.axes[0].lines] == [10, 10, 10]


def test_accuracies_have_a_panel_a_split() -> None:
    span = {"mean": 40.0, "low": 38.0, "high": 43.0}
    rows = [
        {"split": s, "naming": n, "text": t, "accuracy": span}
        for s in ("id", "ood")
        for n in ("plain", "product")
        for t in ("plain", "description")
    ]
    figure = accuracies(rows, chance=1.8)
    check(figure, 2, "ood: unseen labels", "plain names", "product names", "chance", "description")
    assert texts(figure).count("chance") == 1
