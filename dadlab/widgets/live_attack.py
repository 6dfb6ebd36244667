"""Live attack: move ε and watch what becomes of a photograph, its codes and the teacher's answer."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dadlab.data import load_split, split_names
from dadlab.dataset import Dataset, to_tensor
from dadlab.discretizer import Discretizer, load_discretizer
from dadlab.disk.encoded import Framing, frame, load_picture
from dadlab.disk.folders import HOME
from dadlab.profile import Attack, Profile, nearest
from dadlab.teacher import TOWERS, load_teacher
from dadlab.widgets import live
from dadlab.widgets.frame import View, button, control, said, themed
from dadlab.widgets.latest import Tick
from dadlab.wrappers import Frozen

DISCRETIZERS = ("studio", "broad", "identity")  # the embedded ones
_RANGES = {"l2": (16.0, 0.1), "linf": (64.0, 0.5)}  # ε's maximum and step; L∞ in 1/255
_AS_TEACHER = "what the teacher says of x"
_UNTOLD = -1  # a menu cannot hold None


@dataclass(frozen=True)
class Setting:
    """Everything the picture depends on.

    Attributes:
        teacher, discretizer: as `load_teacher` and `load_discretizer` know them.
        split, index: the photograph; or `upload`, the bytes of a picture of one's own.
        label: y, or None for what the teacher says of x.
        attack, seed: what is done to it.
    """

    teacher: str
    discretizer: str
    split: str
    index: int
    upload: bytes | None
    label: int | None
    attack: Attack
    seed: int


class LiveAttack(View):
    """The live view of one photograph on its way through DAD.

    Args:
        data: `fashion` or a folder of images, see `dadlab.data`.
        split: where to begin; the validation or test split unless told.
        teachers, discretizers: names or files to choose from; the embedded ones unless told.
        image_size: side of folder images and uploads in pixels.
    """

    def __init__(
        self,
        data: str = "fashion",
        split: str = "",
        *,
        teachers: Sequence[str] = (),
        discretizers: Sequence[str] = (),
        image_size: int = 32,
    ):
        self.data, self.image_size = data, image_size
        self._look: live.Look | None = None
        self._classes: tuple[str, ...] = ()
        usual = Profile().attack
        self.split = control(widgets.Dropdown, "split", options=split_names(data), value=_begins(data, split))
        self.index = control(widgets.IntSlider, "photograph", max=0, tip="position in the split")
        self.label = control(widgets.Dropdown, "true class", options=[("as the split says", _UNTOLD)])
        self.upload = widgets.FileUpload(
            accept="image/*", description="own picture", tooltip="look at a picture of your own",
            layout=widgets.Layout(width="130px", margin="2px 2px 2px 94px"),
        )  # fmt: skip
        self.back = button("back", "back to the split's photographs", self._forget_upload, disabled=True)
        self.teacher = control(widgets.Dropdown, "teacher", options=teachers or TOWERS)
        self.discretizer = control(widgets.Dropdown, "discretizer", options=discretizers or DISCRETIZERS)
        self.norm = control(widgets.Dropdown, "norm", options=[("L2, all pixels", "l2"), ("L∞, 1/255", "linf")])
        self.epsilon = control(widgets.FloatSlider, "ε", tip="radius of the attack", value=usual.epsilon, max=16.0)
        self.steps = control(widgets.IntSlider, "steps", tip="gradient steps", value=usual.steps, max=20)
        self.step_size = control(
            widgets.FloatSlider, "step size", tip="length of a step, in ε's unit", value=usual.step_size, max=16.0
        )
        self.random = control(widgets.Checkbox, "random start", tip="start at a random point of norm ε", value=False)
        self.seed = control(widgets.IntSlider, "seed", tip="of the random start", max=99, disabled=True)
        self.picture = widgets.HTML()
        controls = widgets.VBox(
            [
                self.split, self.index, self.label, widgets.HBox([self.upload, self.back]), self.teacher,
                self.discretizer, self.norm, self.epsilon, self.steps, self.step_size, self.random, self.seed,
            ],
            layout=widgets.Layout(flex="0 0 auto"),
        )  # fmt: skip
        shown = widgets.VBox([self.picture], layout=widgets.Layout(flex="1 1 520px", min_width="320px"))
        super().__init__([widgets.HBox([controls, shown], layout=widgets.Layout(flex_flow="row wrap"))])
        self.on(self._use_norm, self.norm)
        self.on(self._use_upload, self.upload)
        self.on(lambda: setattr(self.seed, "disabled", not self.random.value), self.random)
        self.on(self.refresh, self.split, self.index, self.label, self.teacher, self.discretizer, self.epsilon,
                self.steps, self.step_size, self.random, self.seed)  # fmt: skip
        self.refresh()

    def setting(self) -> Setting:
        """What the controls say."""
        unit = 1.0 if self.norm.value == "l2" else 1 / 255
        attack = Attack(
            norm=self.norm.value,
            epsilon=unit * self.epsilon.value,
            step_size=unit * self.step_size.value,
            steps=self.steps.value,
            start=float(self.random.value),
        )
        content = bytes(self.upload.value[0]["content"]) if self.upload.value else None
        return Setting(
            teacher=self.teacher.value,
            discretizer=self.discretizer.value,
            split=self.split.value,
            index=self.index.value,
            upload=content,
            label=None if self.label.value == _UNTOLD else self.label.value,
            attack=attack,
            seed=self.seed.value,
        )

    def refresh(self) -> None:
        """Compute and draw what the controls say; whatever waited before is forgotten."""
        setting = self.setting()
        self.start(lambda tick: self._show(setting, tick))

    def figure(self) -> Figure:
        self.wait()
        if self._look is None:
            raise ValueError("nothing to draw yet: see the message in the view")
        return live.draw(self._look, self._classes)

    def _show(self, setting: Setting, tick: Tick) -> None:
        tick(0.0)
        dataset = load_split(self.data, setting.split, image_size=self.image_size)
        self._fit(dataset)
        self._classes = dataset.classes
        self._look = live.look(self._subject(setting, dataset), setting.attack, setting.seed, tick)
        line = live.describe(self._look, dataset.classes)
        self.picture.value = themed(live.draw(self._look, dataset.classes), f"stages of the attack: {line}")
        self.status.value = said(line)

    def _subject(self, setting: Setting, dataset: Dataset) -> live.Subject:
        index = min(setting.index, len(dataset) - 1)
        label = setting.label
        if setting.upload is None and label is None:
            label = int(dataset.labels[index])
        return _subject(
            self.data,
            dataset.fingerprint,
            setting.split,
            index,
            setting.upload,
            label,
            setting.teacher,
            setting.discretizer,
            self.image_size,
        )

    def _fit(self, dataset: Dataset) -> None:
        """Let the controls offer what the split has."""
        if self.index.max != len(dataset) - 1:
            self.index.max = len(dataset) - 1
        options = [(_AS_TEACHER if self.upload.value else "as the split says", _UNTOLD)]
        options += [(name, k) for k, name in enumerate(dataset.classes)]
        if list(self.label.options) != options:
            chosen = self.label.value
            self.label.options = options
            self.label.value = chosen if chosen in range(len(dataset.classes)) else _UNTOLD

    def _use_norm(self) -> None:
        top, step = _RANGES[self.norm.value]
        for slider in (self.epsilon, self.step_size):
            slider.step, slider.max = step, top
            slider.value = top / 2
        self.refresh()

    def _use_upload(self) -> None:
        self.back.disabled = not self.upload.value
        self.index.disabled = self.split.disabled = bool(self.upload.value)
        self.refresh()

    def _forget_upload(self) -> None:
        self.upload.value = ()


def read_picture(content: bytes, size: int) -> Tensor:
    """An uploaded picture as (1, 3, size, size) in [0, 1], upright, cropped to its middle.

    Raises:
        ValueError: not a picture.
    """
    try:
        picture = frame(load_picture(io.BytesIO(content), upright=True), Framing(size, cropped=True), None)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the uploaded file is no picture that can be read ({error})") from None
    return to_tensor(picture)[None]


def _begins(data: str, split: str) -> str:
    """The split that is shown first."""
    names = split_names(data)
    if split:
        return nearest(split, {name: name for name in names}, "split")
    return next((name for name in HOME if name in names), names[0])


@functools.lru_cache(maxsize=4)
def _teacher(name: str, classes: tuple[str, ...]) -> Frozen:
    return load_teacher(name, classes)


@functools.lru_cache(maxsize=4)
def _discretizer(name: str, classes: tuple[str, ...]) -> Discretizer:
    return load_discretizer(name, classes)


@functools.lru_cache(maxsize=16)
def _subject(
    data: str,
    now: str,
    split: str,
    index: int,
    upload: bytes | None,
    label: int | None,
    teacher: str,
    discretizer: str,
    image_size: int,
) -> live.Subject:
    """A photograph or an upload, and what the models say of it; `now` is the fingerprint of the split."""
    dataset = load_split(data, split, image_size=image_size)
    image = dataset.images(torch.tensor([index])) if upload is None else read_picture(upload, image_size)
    return live.subject(image, label, _teacher(teacher, dataset.classes), _discretizer(discretizer, dataset.classes))
