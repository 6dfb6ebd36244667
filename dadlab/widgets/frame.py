"""What every view shares: pictures that follow the page's theme, errors shown where they happen, labelled controls."""

from __future__ import annotations

import contextlib
import html
import io
import re
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from dadlab.widgets.latest import Job, Latest, Tick

_TEXT = "var(--jp-content-font-color1, currentColor)"
_QUICK = 0.4  # seconds; what takes no longer shows no progress
_NARROW = {"description_width": "86px"}


def themed(figure: Figure, alt: str) -> str:
    """A figure as inline SVG that suits a light and a dark page alike.

    Backgrounds are left out, and what is black takes the page's text colour: matplotlib writes no fill for black, so
    that glyphs inherit it.

    Args:
        figure: what to draw.
        alt: what it shows, in words, for screen readers.
    """
    figure.suppressComposite = True  # images keep their own pixels
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("stroke: #000000", "stroke: currentColor")
    svg = re.sub("<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    style = f"color: {_TEXT}; fill: currentColor; max-width: 100%; height: auto"
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" style="{style}" ', 1)


def said(text: str, *, role: str = "status") -> str:
    """A line of text in the page's own colour, announced by screen readers when it changes."""
    return f'<div role="{role}" style="color: {_TEXT}; line-height: 1.5">{text}</div>'


def control(kind: type, name: str, *, tip: str = "", **options: Any) -> Any:
    """A control with a visible name, a tooltip, and a width that lines it up with the others."""
    layout = widgets.Layout(width=options.pop("width", "290px"))
    return kind(description=name, tooltip=tip or name, layout=layout,
                style=_NARROW, **options)  # fmt: skip


def button(name: str, tip: str, act: Callable[[], None], **options: Any) -> widgets.Button:
    """A button and what it does."""
    made = widgets.Button(description=name, tooltip=tip, layout=widgets.Layout(width="auto"), **options)
    made.on_click(lambda _: act())
    return made


class Pager(widgets.HBox):
    """The number of a page to turn to, and buttons to the one before and the one after.

    Args:
        size: how many things make a page.
    """

    def __init__(self, size: int):
        self.size = size
        self.back = button("previous", "previous page", lambda: self._step(-1))
        self.forth = button("next", "next page", lambda: self._step(1))
        self.page = control(widgets.BoundedIntText, "page", value=1, min=1, max=1, width="170px")
        super().__init__([self.back, self.forth, self.page])

    def fit(self, count: int) -> None:
        """Have as many pages as `count` things fill, one at least."""
        self.page.max = max(1, -(-count // self.size))

    def rows(self, page: int) -> slice:
        """Which of the things are on a page, of which the first is 1."""
        return slice((page - 1) * self.size, page * self.size)

    def _step(self, by: int) -> None:
        self.page.value = min(max(1, self.page.value + by), self.page.max)


class View(widgets.VBox):
    """A view: controls and pictures, a status line, a progress bar with a button to cancel, and a place for errors.

    Slow work goes through `start`, where only the newest job counts. Every view adds `figure`, the
    static picture of what it shows now.
    """

    def __init__(self, children: Sequence[widgets.Widget] = ()):
        self.status = widgets.HTML()
        self.problem = widgets.HTML()
        self.bar = widgets.FloatProgress(max=1, description="working", style={"description_width": "60px"},
                                         layout=widgets.Layout(width="160px"))  # fmt: skip
        stop = button("cancel", "stop the work that is under way", self.cancel)
        self.work = widgets.HBox([self.bar, stop], layout=widgets.Layout(visibility="hidden"))
        self.latest = Latest(self.tell, self._progress)
        super().__init__([*children, widgets.HBox([self.status, self.work]), self.problem])
        self.add_class("dadlab-view")

    def start(self, job: Job) -> None:
        """Run a job in the background; one that was asked for before and has not begun is forgotten."""

        def attempt(tick: Tick) -> None:
            slow = threading.Timer(_QUICK, lambda: setattr(self.work.layout, "visibility", "visible"))
            slow.start()
            try:
                job(tick)
                self.problem.value = ""
            finally:
                slow.cancel()

        self.latest.submit(attempt)

    def cancel(self) -> None:
        self.latest.cancel()
        self.status.value = said("cancelled")

    def wait(self, timeout: float = 60) -> bool:
        """Block until the picture is up to date; False if that takes longer than `timeout` seconds."""
        return self.latest.wait(timeout)

    def tell(self, error: Exception) -> None:
        """Show an error in the view; for one that is not a plain `ValueError`, also where it came from, in a fold."""
        if isinstance(error, ValueError):
            text = f"✗ {html.escape(str(error))}"
        else:
            trace = html.escape("".join(traceback.format_exception(error)))
            fold = f"<details><summary>where</summary><pre>{trace}</pre></details>"
            text = f"✗ {type(error).__name__}: {html.escape(str(error))}{fold}"
        self.problem.value = said(text, role="alert")

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Show in the view what goes wrong inside the block."""
        self.problem.value = ""  # first, since what the block sets off may have something to tell
        try:
            yield
        except Exception as error:
            self.tell(error)

    def on(self, act: Callable[[], None], *controls: widgets.Widget) -> None:
        """Act whenever the value of one of the controls changes, and show what goes wrong."""

        def changed(_: Any) -> None:
            with self.telling():
                act()

        for one in controls:
            one.observe(changed, "value")

    def _progress(self, share: float | None) -> None:
        self.bar.value = share or 0.0
        if share is None:
            self.work.layout.visibility = "hidden"
