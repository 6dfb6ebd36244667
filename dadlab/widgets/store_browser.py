"""The store browser: filter, sort, page through a store of any size, look closer, mark samples, export the marks."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure

from dadlab.dataset import Dataset
from dadlab.discretizer import Discretizer, load_discretizer
from dadlab.fingerprints import module_fingerprint
from dadlab.store import REASONS
from dadlab.students import WEIGHTS, load_student
from dadlab.style import KEPT, REJECTED
from dadlab.widgets import samples
from dadlab.widgets.frame import Pager, View, button, control, said, themed
from dadlab.widgets.gallery import Entry, Gallery
from dadlab.widgets.latest import Job, Tick
from dadlab.widgets.live_attack import DISCRETIZERS
from dadlab.widgets.store_index import SORTS, Query, StoreIndex, find_stores, told

PAGE = 24
_ALL = -1  # a menu cannot hold None


class StoreBrowser(View):
    """A view of the stores below a folder.

    Args:
        runs_dir: where stores and runs live; or a store's own folder.
        sources: data that stores may have been made from, to show x beside Q(x′) and to name the classes.
        discretizers: names or files that may have made the stores; the embedded ones unless told.
    """

    def __init__(self, runs_dir: Path, *, sources: Sequence[Dataset] = (), discretizers: Sequence[str] = ()):
        self.runs_dir, self.sources = Path(runs_dir), sources
        self.discretizers = tuple(discretizers) or DISCRETIZERS
        self._index: StoreIndex | None = None
        self._found, self._rows = np.arange(0), list[dict[str, Any]]()
        self._images = torch.zeros(0, 3, 1, 1)
        self._chosen: dict[str, Any] | None = None
        self._marks: dict[tuple[str, int], dict[str, Any]] = {}
        self._controls()
        self._outputs()
        super().__init__(
            [
                widgets.HBox([self.filters, self.orders], layout=widgets.Layout(flex_flow="row wrap")),
                widgets.HBox([self.pager, self.count]),
                self.gallery, self.detail,
                widgets.HBox([self.mark, self.mark_page, self.clear, self.file, self.save, self.saved],
                             layout=widgets.Layout(flex_flow="row wrap")),
            ]
        )  # fmt: skip
        self.on(self._open, self.store)
        self.on(self._search, self.label, self.reason, self.confidence, self.distance, self.differing, self.sort,
                self.descending)  # fmt: skip
        self.on(self._turn, self.pager.page)
        self.on(self._set_mark, self.mark)
        with self.telling():
            self._open()

    def _controls(self) -> None:
        stores = find_stores(self.runs_dir)
        names = [(told(p, self.runs_dir), p) for p in stores]
        students = sorted(self.runs_dir.rglob(WEIGHTS))
        self.store = control(widgets.Dropdown, "store", options=names)
        self.label = control(widgets.Dropdown, "class", options=[("all", _ALL)])
        verdicts = [("all", ""), ("kept", REASONS[0]), ("rejected", "rejected"), *((r, r) for r in REASONS[1:])]
        self.reason = control(widgets.Dropdown, "verdict", tip="accepted, or why not", options=verdicts)
        self.confidence = control(widgets.FloatRangeSlider, "confidence", tip="the teacher's largest probability",
                                  value=(0.0, 1.0), max=1.0, step=0.01, continuous_update=False)  # fmt: skip
        self.distance = control(widgets.FloatRangeSlider, "distance", tip="‖Q(x′)−x‖₂", value=(0.0, 1.0), max=1.0,
                                step=0.01, continuous_update=False)  # fmt: skip
        self.student = control(
            widgets.Dropdown, "student", options=[("choose …", ""), *((p.parent.name, p) for p in students)]
        )
        self.ask = button("ask", "let this student answer every sample of the store", self._ask)
        self.differing = control(
            widgets.Checkbox, "student differs", tip="only where student and teacher name different classes"
        )
        self.sort = control(widgets.Dropdown, "sort by", options=SORTS)
        self.descending = control(widgets.Checkbox, "largest first", value=False)
        self.filters = widgets.VBox([self.store, self.label, self.reason, self.confidence, self.distance])
        self.orders = widgets.VBox([self.sort, self.descending, widgets.HBox([self.student, self.ask]), self.differing])

    def _outputs(self) -> None:
        self.pager = Pager(PAGE)
        self.count = widgets.HTML()
        self.gallery = Gallery(PAGE, self._choose)
        self.detail = widgets.HTML()
        self.mark = widgets.ToggleButton(description="mark", tooltip="mark the open sample",
                                         disabled=True, layout=widgets.Layout(width="auto"))  # fmt: skip
        self.mark_page = button("mark page", "mark every sample of this page", self._mark_page)
        self.clear = button("clear marks", "forget all marks", self._clear)
        home = self.runs_dir.resolve()
        home = home.relative_to(Path.cwd()) if home.is_relative_to(Path.cwd()) else home
        marks = str(home / "marks.csv")
        self.file = control(widgets.Text, "file", value=marks, tip="ends in .csv or .json", width="260px")
        self.save = button("export", "write the marked samples", self._export)
        self.saved = widgets.HTML()

    def query(self) -> Query:
        """What the filters say."""
        low, high = self.distance.value
        distance = (low if low > self.distance.min else 0.0, high if high < self.distance.max else float("inf"))
        return Query(
            label=None if self.label.value == _ALL else self.label.value,
            reason=self.reason.value or None,
            confidence=self.confidence.value,
            distance=distance,
            differing=self.differing.value,
            sort=self.sort.value,
            descending=self.descending.value,
        )

    @property
    def marks(self) -> list[dict[str, Any]]:
        """The marked samples, each with its store and its classes by name."""
        return [row for _, row in sorted(self._marks.items())]

    def figure(self) -> Figure:
        self.wait()
        if self._index is None:
            raise ValueError("nothing to draw yet: see the message in the view")
        name = told(self._index.folder, self.runs_dir)
        title = f"{name}: {len(self._found):,} samples match, page {self.pager.page.value} of {self.pager.page.max}"
        return samples.draw_page(self._images, self._rows, self._classes(), title)

    def _open(self) -> None:
        if self.store.value is None:
            raise ValueError(f"no store below {self.runs_dir}: run a notebook that makes one, or `make demo`")
        folder = self.store.value
        self.start(lambda tick: self._load(folder, tick))

    def _load(self, folder: Path, tick: Tick) -> None:
        self._empty()  # first, so that nothing of the store before stands under another's name
        self._index = StoreIndex(folder, tick)
        names = self._classes()
        self.label.options = [("all", _ALL), *((name, k) for k, name in enumerate(names))]
        self.distance.max = float(np.ceil(100 * self._index.furthest) / 100)
        self.distance.value = (0.0, self.distance.max)
        parts = [f"{name} {count:,}" for name, count in self._index.tally().items()]
        if self._discretizer() is None:
            parts.append("no discretizer at hand made this store: name its file in <code>discretizers</code>")
        self.status.value = said(" · ".join(parts))
        self._look_up(self.query(), 1, tick)

    def _empty(self) -> None:
        self._index, self._found, self._rows, self._images = None, np.arange(0), [], torch.zeros(0, 3, 1, 1)
        self._chosen, self.mark.value, self.mark.disabled = None, False, True
        self.detail.value = self.count.value = self.status.value = ""
        self._dress()

    def _search(self) -> None:
        query = self.query()
        self._within(lambda tick: self._look_up(query, 1, tick))

    def _turn(self) -> None:
        page = self.pager.page.value
        self._within(lambda tick: self._show(page, tick))

    def _within(self, job: Job) -> None:
        """Start a job on the chosen store; open that instead where it is not open yet, or could not be read."""
        if self._index is None or self._index.folder != self.store.value:
            self._open()
        else:
            self.start(job)

    def _look_up(self, query: Query, page: int, tick: Tick) -> None:
        assert self._index is not None
        self._found = self._index.find(query)
        self.pager.fit(len(self._found))
        self.pager.page.value = page
        found = f"{len(self._found):,} of {len(self._index):,} samples match"
        self.count.value = said(f"of {self.pager.page.max:,} · {found}")
        self._show(page, tick)

    def _show(self, page: int, tick: Tick) -> None:
        assert self._index is not None
        rows = self._index.rows(self._found[self.pager.rows(page)])
        content, parts = self._index.content(rows), []
        for k in range(0, len(content), 8):
            tick(k / len(content))
            parts.append(samples.images_of(content[k : k + 8], self._discretizer()))
        self._images = torch.cat(parts) if parts else torch.zeros(0, 3, 1, 1)
        here = {"store": str(self._index.folder)}
        self._rows = [{**here, **row, "logits": part["logits"]} for row, part in zip(rows, content, strict=True)]
        self._dress()

    def _dress(self) -> None:
        """Put the page's pictures into the gallery, marked ones with a star."""
        names, entries = self._classes(), []
        for row, image in zip(self._rows, self._images, strict=True):
            star = "★ " if _key(row) in self._marks else ""
            colour = KEPT if row["reason"] == REASONS[0] else REJECTED
            words, tip = star + samples.caption(row, names), samples.describe(row, names)
            entries.append(Entry(image, words, tip, colour))
        self.gallery.show(entries)

    def _choose(self, place: int) -> None:
        with self.telling():
            row, image = self._rows[place], self._images[place]
            self._chosen, names = row, self._classes()
            self.mark.disabled = False
            self.mark.value = _key(row) in self._marks
            line, source = samples.describe(row, names), self._source()
            clean = None
            if source is not None:
                clean = source.images(torch.tensor([row["index"]]), row["variant"] - 1)[0]
            drawn = samples.draw_sample(image, row, row["logits"], names, clean)
            self.detail.value = themed(drawn, line) + said(line)

    def _set_mark(self) -> None:
        if self._chosen is not None:
            self._put_mark(self._chosen, self.mark.value)
            self._dress()

    def _mark_page(self) -> None:
        for row in self._rows:
            self._put_mark(row, True)
        self._dress()

    def _put_mark(self, row: dict[str, Any], on: bool) -> None:
        names = self._classes()
        self._marks.pop(_key(row), None)
        if on:
            kept = {name: value for name, value in row.items() if name != "logits"}
            self._marks[_key(row)] = {**kept, "class": names[row["label"]], "says": names[row["guess"]]}
        self.saved.value = said(f"{len(self._marks)} marked")

    def _clear(self) -> None:
        self._marks.clear()
        self.mark.value = False
        self.saved.value = said("0 marked")
        self._dress()

    def _export(self) -> None:
        with self.telling():
            path = Path(self.file.value)
            text = samples.export(self.marks, path)
            content = f"data:text/plain,{urllib.parse.quote(text)}"
            look = "color: inherit; text-decoration: underline"
            link = f'<a style="{look}" download="{path.name}" href="{content}">download</a>'
            self.saved.value = said(f"{len(self._marks)} marked · written to {path.resolve()} · {link}")

    def _ask(self) -> None:
        path = self.student.value
        with self.telling():
            if not path:
                raise ValueError("choose a student to ask first")
            self._within(lambda tick: self._answer(path, tick))

    def _answer(self, path: Path, tick: Tick) -> None:
        assert self._index is not None
        student, discretizer = load_student(path), self._discretizer()
        if discretizer is None:
            raise ValueError("the images cannot be drawn without the discretizer that made the store")
        self._index.answer(
            module_fingerprint(student), lambda batch: samples.answers(batch, student, discretizer), tick
        )
        self._look_up(self.query(), 1, tick)

    def _source(self) -> Dataset | None:
        made_from = self._index.manifest.get("data") if self._index else None
        return next((source for source in self.sources if source.fingerprint == made_from), None)

    def _classes(self) -> tuple[str, ...]:
        """Names of the labels: of the data that made the store, else of others with as many classes, else numbers."""
        source, count = self._source(), self._index.classes if self._index else 0
        if source is not None:
            return source.classes
        named = next((other.classes for other in self.sources if len(other.classes) == count), ())
        return named or tuple(map(str, range(count)))

    def _discretizer(self) -> Discretizer | None:
        assert self._index is not None
        return _made_by(self._index.manifest.get("discretizer", ""), self.discretizers, self._classes())


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["store"], row["position"]


@functools.lru_cache(maxsize=4)
def _made_by(stamp: str, names: tuple[str, ...], classes: tuple[str, ...]) -> Discretizer | None:
    """The discretizer with this fingerprint, or None."""
    found = (load_discretizer(name, classes) for name in names)
    return next((q for q in found if module_fingerprint(q) == stamp), None)
