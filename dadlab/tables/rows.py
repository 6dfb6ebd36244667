"""Rows: which training stands for each row of a published table.

That is data (`papers/dad/rows.json`), controls included. A row that cannot be had in this version says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dadlab.methods import METHODS
from dadlab.profile import PROFILES, Profile, make_profile, nearest
from dadlab.run import Run
from dadlab.students import check_start
from dadlab.tables.published import PAPERS

ROWS = PAPERS / "dad" / "rows.json"
SEPARATOR = " · "  # between the parts of a row's name
NOT_YET = "not in this version"


@dataclass(frozen=True)
class Row:
    """A row of a table: `run` has seed 0 and stands for all seeds; a row of the teacher itself has `teacher` set.

    Attributes:
        name: the parts that name it in the published table.
        profile: what its runs share; the teacher's too.
        method, student: of its runs; empty for the teacher.
        missing: why there is nothing to run, or empty.
    """

    name: tuple[str, ...]
    profile: Profile
    method: str = ""
    student: str = ""
    missing: str = ""

    @property
    def key(self) -> str:
        return SEPARATOR.join(self.name)

    @property
    def what(self) -> str:
        """Method and student, or the teacher."""
        return f"{self.method}, {self.student}" if self.method else "teacher"

    def run(self, seed: int) -> Run:
        return Run(self.profile, self.method, self.student, seed)


def read_rows(
    number: int | str,
    profile: str = "fashion",
    *,
    students: Mapping[str, str] | None = None,
    shared: Mapping[str, Any] | None = None,
    path: Path = ROWS,
) -> list[Row]:
    """The rows of a table, published ones and controls.

    Args:
        number: of the table.
        profile: a preset's name.
        students: the paper's student (`ViT-B`, `ViT-S`, `ResNet50`, `ResNet34`) → the one to train here in its place,
            without AugReg; the others have the profile's stand-ins.
        shared: fields of the profile for all rows.
        path: where the rows are written down.

    Raises:
        ValueError: unknown table, student or field of the profile.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    table = nearest(str(number), data["tables"], "table")
    nearest(profile, PROFILES, "profile")
    stand_ins = data["profiles"].get(profile, {}).get("students", {}) | table.get("students", {}).get(profile, {})
    for name, student in (students or {}).items():
        nearest(name, stand_ins, "published student")
        stand_ins = {**stand_ins, name: {"student": student}}
    base = _Base(profile, dict(shared or {}), data["aliases"], stand_ins, data["profiles"].get(profile, {})["other"])
    return [base.row(tuple(entry[:-1]), {**table.get("shared", {}), **entry[-1]}) for entry in table["rows"]]


@dataclass(frozen=True)
class _Base:
    """What the rows of a table are made from."""

    preset: str
    shared: dict[str, Any]
    aliases: dict[str, str]
    stand_ins: dict[str, dict[str, Any]]
    other: dict[str, str]

    def row(self, name: tuple[str, ...], spec: dict[str, Any]) -> Row:
        common = make_profile(self.preset, **self.shared)
        if spec.get("teacher") is True or "missing" in spec:
            return Row(name, common, missing=spec.get("missing", ""))
        published = spec.get("student", name[0])
        recipe = nearest(self.aliases.get(published, published), self.stand_ins, "published student").copy()
        student, augreg = recipe.pop("student"), recipe.pop("augreg", "none")
        given = {**recipe, **self.shared, "augreg": augreg if spec.get("augreg") else "none"}
        for key, value in spec.items():
            if key not in ("student", "method", "augreg"):
                given[key] = self.other[key] if value == "other" else value
        unknown = set(given) - {entry.name for entry in fields(Profile)} - set(self.shared)
        if spec["method"] not in METHODS or unknown:
            return Row(name, common, missing=NOT_YET)
        row = Row(name, make_profile(self.preset, **given), spec["method"], student)
        try:
            check_start(row.student, row.run(0).profile.start)
        except ValueError as error:  # such as AdvProp for a student without batch norm
            return Row(name, common, missing=str(error))
        return row
