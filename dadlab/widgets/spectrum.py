"""Text features by hand: pick labels, edit a description, see spectrum, cosines and nearest pairs move."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dadlab.vlm.language import JOIN, PLAIN, enriched, prompts
from dadlab.vlm.plots_text import cosines, spectra
from dadlab.vlm.spectrum import effective_rank, nearest_pairs, pairwise_cosines, singular_values
from dadlab.vlm.text_encoders import TextEncoder
from dadlab.widgets.frame import View, button, control, said, themed

CONFUSED = 3  # pairs of labels named


class Spectrum(View):
    """A view of the spectra and cosines of plain and enriched labels that follows what is picked and written.

    Every text is encoded once, so that a change costs one text. The descriptions given stay as they are: `descriptions`
    holds the edited ones.

    Args:
        encode: texts to features (N, D).
        descriptions: what each label looks like, by name.
        template, join: see `dadlab.vlm.language`.
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
        self.labels = control(widgets.SelectMultiple, "labels", tip="labels that count: several with Shift or Ctrl",
                              options=labels, value=labels, rows=10)  # fmt: skip
        self.label = control(widgets.Dropdown, "edit", tip="label to describe", options=labels)
        self.text = control(widgets.Textarea, "looks like", tip="its description; leave the box to see what it does",
                            value=descriptions[labels[0]], continuous_update=False, rows=4)  # fmt: skip
        self.restore = button("as given", "the description as it was given", self._restore)
        self.restore.layout.margin = "2px 2px 2px 94px"  # below the boxes
        self.picture = widgets.HTML()
        controls = widgets.VBox([self.labels, self.label, self.text, self.restore])
        shown = widgets.VBox([self.picture], layout=widgets.Layout(flex="1 1 520px", min_width="320px"))
        super().__init__([widgets.HBox([controls, shown], layout=widgets.Layout(flex_flow="row wrap"))])
        self.on(self.refresh, self.labels)
        self.on(self._turn, self.label)
        self.on(self._edit, self.text)
        with self.telling():
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
        """The static picture of the spectra that the view shows now."""
        return spectra(self.features(), top=self.top)

    def refresh(self) -> None:
        """Compute and draw what the controls say."""
        features = self.features()
        lines = [_line(title, found, self.labels.value) for title, found in features.items()]
        drawn = themed(spectra(features, top=self.top), "eigenvalue spectra: " + "; ".join(lines))
        self.picture.value = drawn + themed(cosines(features), "cosines of all pairs of labels, as shares of pairs")
        self.status.value = said("<br>".join(map(html.escape, lines)))

    def _encoded(self, texts: list[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.encode(new), strict=True))
        return torch.stack([self._known[text] for text in texts])

    def _restore(self) -> None:
        self.text.value = self._given[self.label.value]

    def _turn(self) -> None:
        self.text.value = self.descriptions[self.label.value]

    def _edit(self) -> None:
        self.descriptions[self.label.value] = " ".join(self.text.value.split())
        self.refresh()


def _line(title: str, features: Tensor, names: Sequence[str]) -> str:
    """Rank, mean cosine and the pairs most easily confused, in one line."""
    rank = effective_rank(singular_values(features).square())
    pairs = [f"{pair.first} / {pair.second} ({pair.cosine:.3f})" for pair in nearest_pairs(features, names, CONFUSED)]
    return (
        f"{title}: effective rank of σ² {rank:.1f}, mean cosine {float(pairwise_cosines(features).mean()):.3f}, "
        f"nearest {', '.join(pairs)}"
    )
