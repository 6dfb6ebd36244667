"""Rows that are about label texts alone, without any student: how far apart unseen labels lie (Table 6, Fig. 4).

A row's entry in the file of experiments says which `text`, as `AlignRun` does or `caption`, and which `naming`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dadlab.profile import strict
from dadlab.vlm.benchmarks import rows_of
from dadlab.vlm.label_texts import prompted
from dadlab.vlm.language import text_features
from dadlab.vlm.material import captions_of, labels_for, teacher_of
from dadlab.vlm.openvocab import CAPTIONS, caption_texts
from dadlab.vlm.run import AlignRun, Unfit
from dadlab.vlm.spectrum import class_means, rank_by_label


def tried(source: Mapping[str, Any], shared: Mapping[str, Any]) -> AlignRun:
    """The data, teacher and texts that a row is about, as a run that is never trained; the data are known to have them.

    Args:
        source: the row's entry.
        shared: fields of `AlignRun` that all runs are given.

    Raises:
        Unfit: the data have no such texts of their unseen labels.
    """
    asked = {"losses": "cap"} if source["text"] == "caption" else {"text": source["text"]}
    run = strict(AlignRun, {**asked, **({"naming": source["naming"]} if "naming" in source else {}), **shared})
    if run.on_disk and run.losses == "cap":
        try:
            captions_of(run, "ood")
        except ValueError as error:
            raise Unfit(str(error)) from None
    return run


def of_texts(source: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Values (N,) of unseen labels: `cosine`, the mean with all others, and `rank`, whose mean is the effective rank.

    For the latter see `dadlab.vlm.spectrum.rank_by_label`. A label's feature is that of its text, or the mean over its
    captions. Arguments and errors are those of `tried`.
    """
    run = tried(source, shared)
    labels, teacher = labels_for(run, "ood"), teacher_of(run)
    if source["text"] != "caption":
        features = text_features(teacher.clip, teacher.tokenizer, prompted(run, labels))
    else:
        if run.on_disk:
            texts, owners = captions_of(run, "ood"), rows_of(run.data, "ood", limit=run.limit)[1]
        else:
            texts, owners = caption_texts(labels, CAPTIONS)
        told = text_features(teacher.clip, teacher.tokenizer, texts)
        features = class_means(told, owners.to(told.device), len(labels))
    unit = features / features.norm(dim=1, keepdim=True)
    cosines = ((unit @ unit.T).sum(1) - 1).div(len(labels) - 1)
    return {"cosine": cosines.cpu().numpy(), "rank": rank_by_label(features).cpu().numpy()}
