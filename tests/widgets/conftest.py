"""Runs to look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dadlab.students import Student
from widgets.toy_runs import keep


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_student: Student) -> Path:
    """KD's and DAD's run, both tested, and a broken one."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(1)
    keep(folder / "kd-0", "kd", tiny_student)
    keep(folder / "dad-0", "dad", Student("vit_s", 10).eval())
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    return folder
