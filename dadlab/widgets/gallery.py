"""A page of pictures, each a button: reached by Tab, opened by Enter, read out by its words."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import ipywidgets as widgets
from torch import Tensor

from dadlab.widgets.frame import button
from dadlab.widgets.samples import data_url

_serial = itertools.count()


class Entry(NamedTuple):
    """A picture (3, H, W) in [0, 1], the words below it, those of its tooltip, and its frame's colour."""

    image: Tensor
    words: str
    tip: str
    colour: str


class Gallery(widgets.VBox):
    """Up to `size` pictures.

    Args:
        size: places.
        chosen: told the place of a picture that is clicked.
    """

    def __init__(self, size: int, chosen: Callable[[int], None]):
        self.name = f"dadlab-gallery-{next(_serial)}"
        self.looks = widgets.HTML()
        self.cells = [button("", "", functools.partial(chosen, place)) for place in range(size)]
        for place, cell in enumerate(self.cells):
            cell.layout = widgets.Layout(width="116px", height="142px", margin="3px", padding="104px 2px 0 2px")
            cell.add_class(f"{self.name}-{place}")
        eight = widgets.Layout(flex_flow="row wrap", max_width="984px")  # in a row, where there is room
        super().__init__([self.looks, widgets.HBox(self.cells, layout=eight)])
        self.add_class(self.name)
        self.add_class("dadlab-gallery")

    def show(self, entries: list[Entry]) -> None:
        """Put these pictures in place of those before."""
        rules = [_CSS.replace("NAME", self.name)]
        for place, cell in enumerate(self.cells):
            cell.layout.display = None if place < len(entries) else "none"
        for place, (cell, entry) in enumerate(zip(self.cells, entries, strict=False)):
            look = f"background-image: url({data_url(entry.image)}); border-color: {entry.colour};"
            rules.append(f".{self.name} .{self.name}-{place} {{ {look} }}")
            cell.description, cell.tooltip = entry.words, entry.tip
        self.looks.value = f"<style>{''.join(rules)}</style>"


_CSS = """
.NAME button { border: 3px solid transparent; background-size: 102px 102px; background-repeat: no-repeat;
  background-position: top center; image-rendering: pixelated; font-size: 11px; line-height: 14px;
  white-space: normal; overflow: hidden; background-color: transparent;
  color: var(--jp-content-font-color1, currentColor); }
.NAME button:focus-visible { outline: 3px solid var(--jp-brand-color1, #2196f3); outline-offset: 1px; }
"""
