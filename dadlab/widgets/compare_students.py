"""Compare students: two runs side by side on any shift."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
from matplotlib.figure import Figure
from torch import Tensor

from dadlab.data import load_split
from dadlab.dataset import Dataset
from dadlab.students import WEIGHTS, Student, load_student
from dadlab.style import title_of
from dadlab.widgets import pairs
from dadlab.widgets.frame import Pager, View, control, said, themed
from dadlab.widgets.kept import Kept, find_runs
from dadlab.widgets.latest import Tick
from dadlab.widgets.pairs import GROUPS, Pair

PAGE = 8


class CompareStudents(View):
    """A view of what one of two runs gets right and the other wrong.

    Args:
        runs_dir: runs anywhere below it, with weights and per-sample correctness, are offered.
    """

    def __init__(self, runs_dir: Path):
        self.runs_dir = Path(runs_dir)
        self._shown: Callable[[], Figure] | None = None
        runs = [r for r in find_runs(runs_dir) if r.splits() and r.trained]
        options = [(run.title, run) for run in runs]
        self.first = control(widgets.Dropdown, "first", options=options, width="420px")
        self.second = control(widgets.Dropdown, "second", options=options, width="420px")
        self.split = control(widgets.Dropdown, "shift", tip="a split that both were tested on")
        self.group = control(widgets.Dropdown, "show", options=GROUPS)
        self.pager = Pager(PAGE)
        self.picture = widgets.HTML()
        super().__init__(
            [
                widgets.HBox([widgets.VBox([self.first, self.second]), widgets.VBox([self.split, self.group])],
                             layout=widgets.Layout(flex_flow="row wrap")),
                self.pager,
                self.picture,
            ]
        )  # fmt: skip
        if len(runs) > 1:
            self.first.value, self.second.value = two_to_compare(runs)
        self.on(self._offer, self.first, self.second)
        self.on(self._restart, self.split, self.group)
        self.on(self.refresh, self.pager.page)
        with self.telling():
            if len(runs) < 2:
                raise ValueError(
                    f"fewer than two tested runs below {runs_dir}: run a notebook that trains, or `make demo`"
                )
            self._offer()

    def refresh(self) -> None:
        """Compute and draw what the controls say."""
        first, second, split = self.first.value, self.second.value, self.split.value
        if split is None:
            raise ValueError("the two runs were tested on no common shift of the same data")
        group, page = self.group.value, self.pager.page.value
        self.start(lambda tick: self._show(first, second, split, group, page, tick))

    def figure(self) -> Figure:
        self.wait()
        if self._shown is None:
            raise ValueError("nothing to draw yet: see the message in the view")
        return self._shown()

    def _offer(self) -> None:
        first, second = self.first.value, self.second.value
        common = [split for split in first.splits() if split in second.splits()] if first.sees_what(second) else []
        if list(self.split.options) != common:
            kept = self.split.value
            self.split.options = common
            self.split.value = kept if kept in common else next(iter(common), None)
        self._restart()

    def _restart(self) -> None:
        self.pager.page.value = 1
        self.refresh()

    def _show(self, first: Kept, second: Kept, split: str, group: str, page: int, tick: Tick) -> None:
        tick(0.0)
        dataset = _dataset(second, split)
        found = [_guesses(run, split, tick) for run in (first, second)]
        pair = Pair(first.correct(split), second.correct(split), (found[0], found[1]), dataset.labels)
        if len(pair.first) != len(dataset) or len(pair.second) != len(dataset):
            raise ValueError(
                f"{split}: the runs were tested on another number of images than the {len(dataset):,} here"
            )
        positions = pair.group(group)
        self.pager.fit(len(positions))
        rows = positions[self.pager.rows(page)]
        students = _student(first.folder, _written(first.folder)), _student(second.folder, _written(second.folder))
        draw = functools.partial(pairs.draw_pair, pair, rows, dataset, students, short(first, second), group)
        drawn = draw()
        line = f"{split}: {pair.summary()}"
        stale = max(float(((found[k] == pair.labels).numpy() != kept).mean())
                    for k, kept in enumerate((pair.first, pair.second)))  # fmt: skip
        if stale > 0.005:
            line += f" · the weights now answer {100 * stale:.1f} % of the images otherwise than when they were tested"
        self._shown, self.picture.value = draw, themed(drawn, line)
        self.status.value = said(line)


def two_to_compare(runs: list[Kept]) -> tuple[Kept, Kept]:
    """KD and DAD of one student and seed where they are there, else the first two."""
    for second in (run for run in runs if run.method == "dad"):
        for first in runs:
            alike = (first.student, first.seed, first.folder.parent) == (
                second.student,
                second.seed,
                second.folder.parent,
            )
            if first.method == "kd" and alike and first.splits() == second.splits():
                return first, second
    return runs[0], runs[1]


def short(first: Kept, second: Kept) -> tuple[str, str]:
    """Names that tell the two apart: the method, or else all there is."""
    if first.method != second.method:
        return title_of(first.method).replace(", ", ",\n"), title_of(second.method).replace(", ", ",\n")
    return first.title.replace(", ", "\n", 1), second.title.replace(", ", "\n", 1)


def _written(folder: Path) -> int:
    """When a run's weights were written: one that was trained anew is another student."""
    return (folder / WEIGHTS).stat().st_mtime_ns


@functools.lru_cache(maxsize=4)
def _student(folder: Path, written: int) -> Student:
    return load_student(folder / WEIGHTS)


def _dataset(run: Kept, split: str) -> Dataset:
    return load_split(run.profile["data"], split, image_size=run.profile["image_size"])


_known: dict[tuple[Path, int, str, str], Tensor] = {}


def _guesses(run: Kept, split: str, tick: Tick) -> Tensor:
    """A student's answers on a split, asked for once as long as neither its weights nor the images change."""
    dataset = _dataset(run, split)
    key = run.folder, _written(run.folder), split, dataset.fingerprint
    if key not in _known:
        _known[key] = pairs.guesses(_student(*key[:2]), dataset, tick)
    return _known[key]
