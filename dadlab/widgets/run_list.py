"""Training and runs: the runs below a folder, their curves while they train, and the comparison of those picked."""

from __future__ import annotations

import threading
from pathlib import Path

import ipywidgets as widgets
from matplotlib.figure import Figure

from dadlab.widgets import run_table
from dadlab.widgets.frame import View, button, control, said, themed
from dadlab.widgets.kept import Kept, find_runs
from dadlab.widgets.latest import Tick

_SECONDS = 2.0  # between looks at the logs
_following: dict[Path, RunList] = {}  # who follows the runs below a folder: the newest view of it


class RunList(View):
    """A view of runs.

    A cell that is run again makes a second view, and nothing tells the first that nobody sees it any more: the newest
    view of a folder follows the logs, older ones have `follow` unticked.

    Args:
        runs_dir: runs anywhere below it are listed.
    """

    def __init__(self, runs_dir: Path):
        self.runs_dir = Path(runs_dir)
        self._stamp: object = None
        self._enough = threading.Event()
        self._all: list[Kept] = []
        self.words = control(widgets.Text, "filter", tip="show runs whose name has all these words",
                             placeholder="dad seed 0", continuous_update=True)  # fmt: skip
        self.chosen = control(
            widgets.SelectMultiple, "runs", tip="pick several with Shift or Ctrl to compare them", rows=9, width="520px"
        )
        self.follow = control(widgets.Checkbox, "follow", tip="look at the logs every two seconds", value=True)
        again = button("look again", "read all runs again", lambda: self.refresh(force=True))
        again.layout.margin, again.layout.align_self = "2px 2px 2px 94px", "flex-start"
        self.picture, self.table, self.gaps = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.table.layout.overflow = self.gaps.layout.overflow = "auto"
        super().__init__(
            [
                widgets.HBox([self.chosen, widgets.VBox([self.words, self.follow, again])],
                             layout=widgets.Layout(flex_flow="row wrap")),
                self.picture, self.table, self.gaps,
            ]
        )  # fmt: skip
        self.on(self._draw, self.chosen)
        self.on(self._list, self.words)
        self.on(self._watch, self.follow)
        with self.telling():
            self._stamp, self._all = run_table.stamp(self.runs_dir), find_runs(self.runs_dir)
            if not self._all:
                raise ValueError(f"no run below {runs_dir}: run a notebook that trains, or `make demo`")
            self._list()
        self._watch()

    def refresh(self, *, force: bool = False) -> None:
        """Look at the logs, and draw again if one has changed, or, with `force`, in any case."""
        stamp = run_table.stamp(self.runs_dir)
        if force or stamp != self._stamp:
            self._stamp, self._all = stamp, find_runs(self.runs_dir)
            self._list()

    def figure(self) -> Figure:
        self.wait()
        return run_table.draw(list(self.chosen.value))

    def close(self) -> None:
        self._enough.set()
        super().close()

    def _list(self) -> None:
        words = self.words.value.casefold().split()
        shown = [run for run in self._all if all(word in run.title.casefold() for word in words)]
        kept = [run for run in shown if run in self.chosen.value] or shown[:4]
        options = [(run.title, run) for run in shown]
        if list(self.chosen.options) != options:
            self.chosen.options = options
        self.chosen.value = kept
        self._draw()

    def _draw(self) -> None:
        chosen = list(self.chosen.value)
        self.start(lambda tick: self._show(chosen, tick))

    def _show(self, chosen: list[Kept], tick: Tick) -> None:
        tick(0.0)
        now = {run.folder: run_table.state(run) for run in self._all}
        going = sum(not each.done for each in now.values())
        hours = sum(each.seconds for each in now.values()) / 3600
        self.status.value = said(
            f"{len(self._all)} runs, {going} not finished, {hours:.1f} hours of training; {len(chosen)} picked"
        )
        names = ", ".join(run.title for run in chosen)
        self.picture.value = themed(run_table.draw(chosen), f"loss curves and top-1 of {names}") if chosen else ""
        self.table.value = run_table.as_html(run_table.table(chosen)) if chosen else ""
        gaps = run_table.differences(chosen, tick) if len(chosen) > 1 else None
        self.gaps.value = "" if gaps is None else said(f"minus {chosen[0].title}, points") + run_table.as_html(gaps)

    def _watch(self) -> None:
        """Look at the logs for as long as `follow` is ticked."""
        self._enough.set()
        if not self.follow.value:
            return
        before = _following.get(self.runs_dir.absolute())
        if before is not None and before is not self:
            before.follow.value = False
        _following[self.runs_dir.absolute()] = self
        self._enough = threading.Event()
        threading.Thread(
            target=self._look_now_and_then, args=(self._enough,), name="dadlab-follow", daemon=True
        ).start()

    def _look_now_and_then(self, enough: threading.Event) -> None:
        while not enough.wait(_SECONDS):
            try:
                self.refresh()
            except Exception as error:  # what was told before stays, for nobody has acted since
                self.tell(error)
