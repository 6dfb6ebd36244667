"""Rows: which training stands for each row of a published table.

That is data (`papers/dad/rows.json`), controls included. A row that cannot be had in this version says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dadlab.methods import METHODS
from dadlab.profile import PROFILES, Profile, make_profile, nearest
from dadlab.recipes import recipe_of
from dadlab.run import Run
from dadlab.students import VITS, check_start, check_student
from dadlab.tables.published import PAPERS

ROWS = PAPERS / "dad" / "rows.json"
SEPARATOR = " · "  # between the parts of a row's name
NOT_YET = "not in this version"
DISCRETE_VIT = "discrete_vit"  # stands for the method of a teacher that is no run
_TOLD = ("augreg", "teacher", "discretizer", "start")  # what tables say of a row's profile, where it is its own


@dataclass(frozen=True)
class Row:
    """A row of a table; one without a method is the teacher's own, or an average of changes.

    Attributes:
        name: the parts that name it in the published table.
        profile: what its runs share; the teacher's too.
        method, student: of its runs; empty where there are none.
        missing: why there is nothing to run, or empty.
        detail: in which fields the profile is not the preset's.
        teacher: the row of a student that takes the teacher's place, trained first (`dadlab.tables.measured`).
        over: the row that gains are over; the first of its block where empty.
        change: the block whose rows' changes, each over its own `over`, the row is the mean of.
    """

    name: tuple[str, ...]
    profile: Profile
    method: str = ""
    student: str = ""
    missing: str = ""
    detail: str = ""
    teacher: Row | None = None
    over: str = ""
    change: str = ""

    @property
    def key(self) -> str:
        return SEPARATOR.join(self.name)

    @property
    def what(self) -> str:
        """Method, student and what is its own in the profile; or the teacher, or what is averaged."""
        if self.change:
            return f"mean change, rows of {self.change}"
        if not self.method:
            return "" if self.missing else "teacher"
        return ", ".join(part for part in (self.method, self.student, self.own) if part)

    @property
    def own(self) -> str:
        """What is its own in the profile, and the teacher that it trains first."""
        taught = f"teacher: {self.teacher.what}" if self.teacher else ""
        return ", ".join(part for part in (self.detail, taught) if part)

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
            by its own recipe if it has one; the others have the profile's stand-ins.
        shared: fields of the profile for all rows.
        path: where the rows are written down.

    Raises:
        ValueError: unknown table, student or field of the profile.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    table = nearest(str(number), data["tables"], "table")
    nearest(profile, PROFILES, "profile")
    scale = data["profiles"][profile]
    stand_ins = scale["students"] | table.get("students", {}).get(profile, {})
    for name, student in (students or {}).items():
        nearest(name, stand_ins, "published student")
        check_student(student)
    stand_ins |= students or {}
    base = _Base(profile, dict(shared or {}), data["aliases"], stand_ins, scale)
    rows = [base.row(tuple(entry[:-1]), {**table.get("shared", {}), **entry[-1]}) for entry in table["rows"]]
    first: dict[tuple[Any, ...], Row] = {}
    return [_unless_twice(row, first) for row in rows]


def _unless_twice(row: Row, first: dict[tuple[Any, ...], Row]) -> Row:
    """A row, marked as missing if an earlier one is the very same training.

    With and without AugReg are the same where the student has no such recipe.
    """
    if row.missing or not row.method:
        return row
    earlier = first.setdefault((row.method, row.student, row.profile, row.teacher), row)
    return row if earlier is row else replace(row, missing=f"the same training here as {earlier.key}")


@dataclass(frozen=True)
class _Base:
    """What the rows of a table are made from."""

    preset: str
    shared: dict[str, Any]
    aliases: dict[str, str]
    stand_ins: dict[str, str]
    scale: dict[str, Any]

    def row(self, name: tuple[str, ...], spec: dict[str, Any]) -> Row:
        common = make_profile(self.preset, **self.shared)
        if "change" in spec:
            return Row(name, common, change=spec["change"])
        if spec.get("teacher") is True or "missing" in spec:
            return Row(name, common, missing=spec.get("missing", ""))
        published = spec.get("student") or name[0]
        student = nearest(self.aliases.get(published, published), self.stand_ins, "published student")
        start = spec.get("start", "")
        student = student if start else student.partition(".")[0]  # from scratch published weights do not matter
        given = {"augreg": "none", **recipe_of(self.preset, student, spec["method"], start), **self.shared}
        if not spec.get("augreg"):
            given["augreg"] = "none"
        if spec["method"] == DISCRETE_VIT:
            there = common.data == "fashion" and student in VITS
            missing = "" if there else f"no Discrete ViT of the size of {student} is trained here"
            return Row(name, make_profile(self.preset, **given), DISCRETE_VIT, student, missing)
        other = self.scale["other"]
        trained = spec["teacher"] if isinstance(spec.get("teacher"), dict) else None
        for key, value in spec.items():
            if key not in ("student", "method", "augreg", "over") and value is not trained:
                given[key] = other.get(key) if value == "other" else other.get(value, value)
        if absent := [key for key, value in given.items() if value is None]:
            return Row(name, common, missing=f"the profile has no second {absent[0]}")
        unknown = set(given) - {entry.name for entry in fields(Profile)} - set(self.shared)
        if spec["method"] not in METHODS or unknown:
            return Row(name, common, missing=NOT_YET)
        profile = make_profile(self.preset, **given)
        told = {key: getattr(profile, key) for key in _TOLD if getattr(profile, key) != getattr(common, key)}
        detail = ", ".join(f"{key} {value}" for key, value in told.items())
        teacher = self.row((), trained) if trained else None
        if teacher and teacher.missing:
            return Row(name, common, missing=f"its teacher: {teacher.missing}")
        row = Row(name, profile, spec["method"], student, detail=detail, teacher=teacher, over=spec.get("over", ""))
        try:
            check_start(row.student, row.run(0).profile.start)
        except ValueError as error:  # such as AdvProp for a student without batch norm
            return Row(name, common, missing=str(error))
        return row
