"""One look for every figure, one colour for every method.

Colours are Okabe and Ito's, then Tol's muted ones, which the common kinds of colour blindness keep apart; markers
differ as well, so that print in grey is read too. Most are as wide as a page or a column. Every figure
function takes data and returns a `Figure` that pyplot has already let go: a notebook shows it once, a script saves it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dadlab.methods import METHODS

PAGE, COLUMN = 7.0, 3.3  # inches
_P = ParamSpec("_P")
COLOURS = {
    "teacher": "#000000",
    "plain": "#8A8A8A",
    "kd": "#E69F00",
    "kd_two_views": "#CC79A7",
    "dad_q": "#56B4E9",
    "dad_q_matched": "#009E73",
    "dad": "#0072B2",
    "at": "#332288",
    "advprop": "#882255",
    "fast_advprop": "#CC6677",
    "pyramid_at": "#999933",
    "dat": "#44AA99",
    "dat_dad": "#117733",
    "dad_augmentation": "#88CCEE",
    "augmix": "#DDCC77",
    "kd_augmix": "#C98B4A",
    "dad_augmix": "#B79F00",
    "debiased": "#AA4499",
    "dist": "#661100",
    "ard": "#6699CC",
    "rslad": "#A6761D",
}
MARKERS = {"teacher": "*", "plain": "v", "kd": "s", "kd_two_views": "D", "dad_q": "^", "dad_q_matched": "<", "dad": "o"}
MARKERS |= {"at": "X", "advprop": "P", "fast_advprop": "p", "pyramid_at": "8", "dat": ">", "dat_dad": "h"}
MARKERS |= {
    "dad_augmentation": ".",
    "augmix": "H",
    "kd_augmix": "$×$",
    "dad_augmix": "$+$",
    "debiased": "d",
    "dist": "$D$",
    "ard": "$A$",
    "rslad": "$R$",
}
KEPT, REJECTED = "#009E73", "#D55E00"
STYLE: Any = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "image.interpolation": "nearest",
}
# Marker and colour of what is no method, in the order in which it is drawn.
LOOKS = (
    ("o", "#0072B2"), ("s", "#E69F00"), ("^", "#009E73"), ("D", "#CC79A7"), ("v", "#D55E00"), ("P", "#56B4E9"),
    ("X", "#8A8A8A"), ("<", "#000000"), ("h", "#332288"), ("p", "#999933"), (">", "#882255"), ("*", "#44AA99"),
)  # fmt: skip


def styled(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    """Draw in the house style and leave matplotlib's own as it was."""

    @functools.wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def title_of(method: str) -> str:
    """A method's name as figures and tables print it."""
    return METHODS[method].title if method in METHODS else method
