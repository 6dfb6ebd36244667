"""Text features by hand: pick labels, edit a description, see the spectrum move."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dadlab.language import JOIN, PLAIN, enriched, prompts
from dadlab.plots_text import spectra
from dadlab.spectrum import effective_rank, nearest_pairs, pairwise_cosines, singular_values
from dadlab.text_encoders import TextEncoder


class Spectrum(widgets.VBox):
    """A view of the spectra of plain and enriched labels that follows what is picked and written.

    Every text is encoded once, so that a change costs one text. The descriptions given stay as they are: `descriptions`
    holds the edited ones.

    Args:
        encode: texts to features (N, D).
        descriptions: what each label looks like, by name.
        template, join: see `dadlab.language`.
        top: values to draw.
    """

    def __init__(
        self,
        encode: TextEncoder,
        descriptions: Mapping[str, str],
        *,
        template: str = PLAIN,
        join: str = JOIN,
        top: int = 10,
    ):
        self.encode, self.descriptions = encode, dict(descriptions)
        self.template, self.join, self.top = template, join, top
        self._given, self._known = dict(descriptions), dict[str, Tensor]()
        labels = list(descriptions)
        wide = widgets.Layout(width="300px")
        self.labels = widgets.SelectMultiple(
            options=labels, value=labels, rows=10, description="labels", tooltip="labels that count", layout=wide
        )
        self.label = widgets.Dropdown(options=labels, description="edit", tooltip="label to describe", layout=wide)
        self.text = widgets.Textarea(
            value=descriptions[labels[0]],
            description="looks like",
            tooltip="its description",
            continuous_update=False,
            layout=widgets.Layout(width="300px", height="90px"),
        )
        self.restore = widgets.Button(description="as given", tooltip="the description as it was given")
        self.picture, self.status, self.problem = widgets.HTML(), widgets.HTML(), widgets.HTML()
        controls = widgets.VBox([self.labels, self.label, self.text, self.restore])
        shown = widgets.VBox([self.picture, self.status, self.problem], layout=widgets.Layout(flex="1 1 480px"))
        super().__init__([widgets.HBox([controls, shown], layout=widgets.Layout(flex_flow="row wrap"))])
        self.labels.observe(lambda _: self.refresh(), "value")
        self.label.observe(lambda _: self._turn(), "value")
        self.text.observe(lambda _: self._edit(), "value")
        self.restore.on_click(lambda _: setattr(self.text, "value", self._given[self.label.value]))
        self.refresh()

    def features(self) -> dict[str, Tensor]:
        """Features (N, D) of the picked labels, plain and enriched.

        Raises:
            ValueError: fewer than two labels are picked.
        """
        picked = list(self.labels.value)
        if len(picked) < 2:
            raise ValueError("pick at least two labels (with Ctrl or Shift)")
        plain = prompts(picked, self.template)
        described = prompts(enriched(picked, self.descriptions, join=self.join), self.template)
        return {"plain": self._encoded(plain), "description": self._encoded(described)}

    def figure(self) -> Figure:
        """The static picture of what the view shows now."""
        return spectra(self.features(), top=self.top)

    def refresh(self) -> None:
        """Compute and draw what the controls say, or say what is wrong."""
        try:
            features = self.features()
            picture = _svg(spectra(features, top=self.top))
            lines = [_line(title, found, self.labels.value) for title, found in features.items()]
        except ValueError as error:
            self.problem.value = f'<div role="alert">✗ {html.escape(str(error))}</div>'
            return
        self.picture.value, self.problem.value = picture, ""
        self.status.value = f'<div role="status">{"<br>".join(lines)}</div>'

    def _encoded(self, texts: list[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.encode(new), strict=True))
        return torch.stack([self._known[text] for text in texts])

    def _turn(self) -> None:
        self.text.value = self.descriptions[self.label.value]

    def _edit(self) -> None:
        self.descriptions[self.label.value] = " ".join(self.text.value.split())
        self.refresh()


def _line(title: str, features: Tensor, names: Sequence[str]) -> str:
    """Rank, mean cosine and the pair most easily confused, in one line of HTML."""
    rank = effective_rank(singular_values(features).square())
    pair = nearest_pairs(features, names, 1)[0]
    closest = html.escape(f"{pair.first} / {pair.second}")
    return (
        f"{title}: effective rank of σ² {rank:.1f}, mean cosine {float(pairwise_cosines(features).mean()):.3f}, "
        f"nearest {closest} ({pair.cosine:.3f})"
    )


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    style = 'role="img" aria-label="eigenvalue spectra" style="max-width: 100%; height: auto"'
    return svg[svg.index("<svg") :].replace("<svg ", f"<svg {style} ", 1)
