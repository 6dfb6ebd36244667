"""What diffusion models are called in a profile; known without `diffusers`, which loading one needs."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?P<kind>diffusion|diffusers(?=.*:))(?P<text>-text)?(?P<names>-class)?(?::(?P<place>.+))?")
_MEANT = re.compile(r"diffus(?:ion|ers)(?:-\w+)*(?::.*)?")


@dataclass(frozen=True)
class DiffusionName:
    """A name's parts.

    Attributes:
        hub: a pipeline of `diffusers`, and not the embedded model.
        text: text-to-image.
        names: prompts name an image's class.
        place: model, folder or file after the colon, or empty.
    """

    hub: bool
    text: bool
    names: bool
    place: str


def names_diffusion(name: str) -> bool:
    """Whether a diffusion model is meant, perhaps misspelt: `diffusion_mine.safetensors` is a file like any other."""
    return _MEANT.fullmatch(name) is not None


def parse_diffusion(name: str) -> DiffusionName:
    """The parts of a name that `dadlab.diffusion.load_diffusion` takes.

    Raises:
        ValueError: it is none.

    >>> parse_diffusion("diffusers-text:a/model")
    DiffusionName(hub=True, text=True, names=False, place='a/model')
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name}: say diffusion, diffusion:FILE or diffusers:MODEL; -text and -class before the colon")
    hub, place = found["kind"] == "diffusers", found["place"] or ""
    return DiffusionName(hub, bool(found["text"]), bool(found["names"]), place)


def check_unlabelled(name: str) -> None:
    """Raise a `ValueError` if this discretizer must be told the classes of its images."""
    if names_diffusion(name) and parse_diffusion(name).names:
        raise ValueError(f"{name}: its prompts name classes, and here they are not known; take it without -class")


def check_online(name: str) -> None:
    """Raise a `ValueError` unless Q(x) keeps x's label without a filter and without being told it, as DAT needs."""
    check_unlabelled(name)  # mixed labels have no name
    if names_diffusion(name) and parse_diffusion(name).text:
        raise ValueError(f"{name}: shows nothing of x, whose label DAT gives it unfiltered; take it without -text")
