"""Every figure: it is a Figure, it says what it must, it saves without a warning, it leaves matplotlib as it was."""

from __future__ import annotations

import io

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from dadlab import pictures, plots, style
from dadlab.estimates import Estimate
from dadlab.examples import Made
from dadlab.methods import METHODS
from dadlab.profile import Attack

CLASSES = ("coat", "bag")
SPLITS = ("studio", "sketch", "rendition")


@pytest.fixture(autouse=True)
def _headless() -> None:
    matplotlib.use("agg")


@pytest.fixture
def made() -> Made:
    """Three samples: kept, lost by Q, fooled."""
    images = torch.rand(4, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    clean, reconstructed, perturbed, final = images
    return Made(clean, reconstructed, perturbed, final, None, torch.zeros(3, 2), torch.tensor([0, 2, 3]), torch.ones(3))


LABELS = torch.tensor([0, 1, 0])
PROBABILITIES = [torch.tensor([[share, 1 - share]] * 3) for share in (0.91, 0.82, 0.13, 0.74)]
ESTIMATES = {split: Estimate(mean, mean - 2, mean + 2) for split, mean in zip(SPLITS, (0.5, 9.0, 4.0), strict=True)}
DROP = {"studio": 0.0, "sketch": 60.0, "rendition": 40.0}


def texts(figure: Figure) -> list[str]:
    """Everything that is written on a figure, ticks included."""
    figure.draw_without_rendering()
    return [artist.get_text() for artist in figure.findobj(matplotlib.text.Text) if artist.get_text()]


def saved(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def check(figure: Figure, axes: int, *said: str) -> None:
    """The common part: type, number of axes, words, a PNG, and nothing left open in pyplot."""
    assert isinstance(figure, Figure)
    assert len(figure.axes) == axes
    written = texts(figure)
    assert not [word for word in said if word not in written], written
    assert saved(figure).startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_colours_cover_every_method_and_differ() -> None:
    assert set(METHODS) <= set(style.COLOURS)
    assert set(style.MARKERS) == set(style.COLOURS)
    assert len(set(style.COLOURS.values())) == len(style.COLOURS)
    assert style.title_of("kd") == "KD"
    assert style.title_of("teacher") == "teacher"


def test_style_stays_inside() -> None:
    before = matplotlib.rcParams.copy()
    plots.gains({"dad": ESTIMATES}, drop=DROP)
    assert matplotlib.rcParams == before


def test_image_grid() -> None:
    rows = [torch.rand(4, 3, 8, 8)] * 2
    figure = pictures.image_grid(rows, titles=["studio", "sketch"], captions=list("abcd"))
    check(figure, 1, "studio", "sketch", "a", "d")
    assert len(figure.axes[0].images) == 8
    assert {image.get_interpolation() for image in figure.axes[0].images} == {"none"}


def test_image_grid_wants_a_title_a_row() -> None:
    with pytest.raises(ValueError, match="zip"):
        pictures.image_grid([torch.rand(1, 3, 8, 8)], titles=["studio", "sketch"])


def test_stages_say_probability_verdict_and_factor(made: Made) -> None:
    figure = pictures.stages(made, CLASSES, LABELS, PROBABILITIES, amplify=4)
    check(figure, 1, "0.91", "0.82", "0.13", "0.74", "0.09", "✓ kept", "✗ lost by Q", "✗ fooled by the attack")
    assert "4·(x′−Q(x))" in texts(figure)
    assert len(figure.axes[0].images) == 3 * 5


def test_stages_of_one_sample(made: Made) -> None:
    one = Made(*(None if part is None else part[:1] for part in vars(made).values()))
    check(pictures.stages(one, CLASSES, LABELS[:1], PROBABILITIES), 1, "Q(x′)", "✓ kept")


@pytest.mark.parametrize(("size", "factor"), [(0.15, 1), (0.03, 5), (0.0, 150), (0.9, 1)])
def test_small_differences_are_made_plain_to_see(size: float, factor: float) -> None:
    assert pictures.plain_to_see(torch.full((2, 3, 8, 8), size)) == factor


def test_gains_are_sorted_by_drop() -> None:
    figure = plots.gains({"dad": ESTIMATES, "dad_q": ESTIMATES}, drop=DROP)
    label = (
        "gain over KD in top-1 points, 95 % interval\nin brackets: points that plain loses there, from its top-1 on "
    )
    check(figure, 1, label + "studio", "DAD", METHODS["dad_q"].title)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["studio", "rendition  (−40)", "sketch  (−60)"]
    low, high = figure.axes[0].get_ylim()
    assert low > high, "the smallest drop must be on top"


def test_gains_of_every_method_can_be_drawn() -> None:
    titles = [METHODS[name].title for name in METHODS if name != "kd"]
    check(plots.gains({name: ESTIMATES for name in METHODS if name != "kd"}, drop=DROP), 1, *titles)


def test_gains_of_one_method_need_no_legend() -> None:
    assert plots.gains({"dad": ESTIMATES}, drop=DROP).axes[0].get_legend() is None


def test_distance_gain_labels_every_point_of_every_panel() -> None:
    near = [plots.Point(split, 0.1 * k, gain) for k, (split, gain) in enumerate(ESTIMATES.items())]
    far = [plots.Point(split, 0.3 * k + 0.2, gain) for k, (split, gain) in enumerate(ESTIMATES.items())]
    figure = plots.distance_gain({"narrow": far, "broad": near}, distance="distance of features")
    check(figure, 2, "narrow", "broad", "distance of features", *SPLITS)
    assert all(sorted(text.get_text() for text in ax.texts) == sorted(SPLITS) for ax in figure.axes)


def test_names_keep_off_each_other_error_bars_and_the_reference() -> None:
    """As the shifts of the committed figure lie: three close together, one on the line of the reference."""
    places = {"studio": (0.3, 0, 1), "v2": (0.55, 0.2, 2), "context": (3.4, 12, 2), "rendition": (3.45, 10, 9)}
    points = [plots.Point(name, x, Estimate(y, y - wide, y + wide)) for name, (x, y, wide) in places.items()]
    figure = plots.distance_gain({"one": points, "two": points})
    figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the line to its point
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        zero = ax.transData.transform((0, 0))[1]
        assert not any(box.y0 < zero < box.y1 for box in boxes)
        bars = [ax.transData.transform((p.distance, y)) for p in points for y in p.gain_range]
        assert not any(box.contains(*bar) for box in boxes for bar in bars)


@pytest.mark.parametrize(("norm", "rms", "largest"), [("l2", "0.46", 8.0), ("linf", "26", 1.0)])
def test_epsilon_curve_shows_rms(norm: str, rms: str, largest: float) -> None:
    curve = [Estimate(50 + k, 49 + k, 51 + k) for k in range(3)]
    curves, kept = {"val": curve, "val_context": curve}, [0.9, 0.8, 0.3]
    figure = plots.epsilon_curve([0.0, 0.1, largest], curves, kept, attack=Attack(norm=norm), chosen=largest)
    check(figure, 3, "RMS change a pixel (1/255)", "0.1", rms, "val", "val_context", "kept (%)")


LOPSIDED = Estimate(3.0, 2.0, 7.0)


def reached(ax: Axes, axis: int) -> list[list[float]]:
    """From where to where every error bar of the first series reaches, along an axis."""
    _, _, (bars,) = ax.containers[0].lines
    return [segment[:, axis].tolist() for segment in bars.get_segments()]


def test_error_bars_reach_from_the_low_end_to_the_high_one() -> None:
    gains = plots.gains({"dad": {"studio": LOPSIDED}}, drop={"studio": 0.0})
    far = plots.distance_gain({"narrow": [plots.Point("studio", 1.0, LOPSIDED)]})
    assert reached(gains.axes[0], 0) == reached(far.axes[0], 1) == [[2.0, 7.0]]


def test_bands_are_the_intervals_and_shares_are_in_per_cent() -> None:
    curve = plots.attack_curves({"PGD": {"kd": {0.1: LOPSIDED, 0.2: LOPSIDED}}}, clean={"kd": 84.0}).axes[0]
    above, below, *_ = plots.epsilon_curve([0.1, 8.0], {"val": [LOPSIDED] * 2}, [0.9, 0.3], attack=Attack()).axes
    for ax in (curve, above):
        (band,) = ax.collections
        assert band.get_paths()[0].get_extents().intervaly.tolist() == [2.0, 7.0]
    assert curve.lines[1].get_ydata() == [84.0]  # without attack, at the left edge
    assert below.lines[0].get_ydata().tolist() == pytest.approx([90, 30])


def test_attack_curves_show_every_attack_method_and_radius():
    points = {1 / 255: Estimate(60.0, 55.0, 65.0), 4 / 255: Estimate(20.0, 15.0, 25.0)}
    curves = {"FGSM": {"kd": points, "dad": points}, "PGD": {"kd": points, "dad": points}}
    figure = plots.attack_curves(curves, clean={"kd": 84.0, "dad": 85.0})
    assert [ax.get_title() for ax in figure.axes] == ["FGSM", "PGD"]
    (line, *_) = figure.axes[0].get_lines()
    assert line.get_xdata() == pytest.approx([1, 4])
    assert line.get_ydata() == pytest.approx([60, 20])
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["KD", "DAD"]
