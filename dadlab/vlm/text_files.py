"""Files of texts: descriptions and captions keyed by label name, captions keyed by image; never by row.

Two formats: `.json`, one object of key and text, or `.csv` whose first line names both columns. All that is wrong with
a file is said in one line.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAMED = 5  # images that an error message lists of each kind, of perhaps a hundred thousand; of labels, all


def read_descriptions(path: Path, labels: Sequence[str]) -> dict[str, str]:
    """Descriptions of all labels, in their order.

    Args:
        path: an object of label: description, or a table with the columns label and description.
        labels: every label the file must describe, and no other; take a subset afterwards.

    Raises:
        ValueError: unreadable file, or labels that are missing, there twice, unknown or described by nothing.
    """
    texts = _checked(Path(path), "label", "description", wanted=labels, known=labels)
    return {label: texts[label] for label in labels}


def read_image_captions(path: Path, wanted: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Captions of images.

    Args:
        path: an object of image: caption, or a table with the columns image and caption.
        wanted: images that need one, as their paths below the data set's folder, with `/`.
        known: all images of the data set; others than those wanted may have a caption.

    Raises:
        ValueError: unreadable file, or images that are missing, there twice, unknown or captioned by nothing.
    """
    return _checked(Path(path), "image", "caption", wanted=wanted, known=known)


def labels_in(path: Path) -> list[str]:
    """The labels that a file of descriptions describes, in its order, for `read_descriptions` to check."""
    return list(dict(_pairs(Path(path), "label", "description")))


def read_captions(path: Path, labels: Sequence[str]) -> tuple[list[str], Tensor]:
    """All captions of labels and the position (N,) of the label of each, from a JSON object of label: list of captions.

    Raises:
        ValueError: unreadable file, or labels without captions; names them.
    """
    given = dict(_pairs(Path(path), "label", "list of captions"))
    lists = {label: given.get(label) for label in labels}
    empty = [label for label, texts in lists.items() if not isinstance(texts, list) or not texts]
    if empty:
        raise ValueError(f"{path}: no list of captions for {', '.join(map(repr, empty))}")
    pairs = [(text, k) for k, label in enumerate(labels) for text in given[label]]
    return [text for text, _ in pairs], torch.tensor([k for _, k in pairs])


def _checked(path: Path, key: str, value: str, *, wanted: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Texts by key, white space made plain, once they fit."""
    pairs = _pairs(path, key, value)
    counts, asked, of_data = Counter(name for name, _ in pairs), Counter(wanted), set(known)
    problems = {
        "missing": [name for name in asked if name not in counts],
        "there twice": [name for name, count in counts.items() if count > 1],
        "unknown": [name for name in counts if name not in of_data],
        "without text": [name for name, text in pairs if not isinstance(text, str) or not text.strip()],
        f"twice in the {key} list": [name for name, count in asked.items() if count > 1],
    }
    most = NAMED if key == "image" else len(pairs) + len(asked)
    if found := [f"{problem}: {_listed(names, most)}" for problem, names in problems.items() if names]:
        raise ValueError(f"{path}: {value}s do not fit the {len(asked):,} {key}s; {'; '.join(found)}")
    return {name: " ".join(text.split()) for name, text in pairs}


def _pairs(path: Path, key: str, value: str) -> list[tuple[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: {value}s not found")
    try:
        if path.suffix == ".json":
            pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
            if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
                raise ValueError(f"not an object of {key}: {value}")
            return pairs
        if path.suffix != ".csv":
            raise ValueError("give a .json or a .csv file")
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            if not {key, value} <= set(rows.fieldnames or ()):
                raise ValueError(f"the first line must name the columns {key} and {value}")
            return [(row[key], row[value]) for row in rows]
    except ValueError as error:  # JSON and Unicode errors are ValueErrors too
        raise ValueError(f"{path}: {error}") from None


def _listed(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
