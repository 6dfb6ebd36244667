"""pyproject.toml, requirements.lock and environment.yml say the same, and none names a place on a network or a disk."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in (*PROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["app"])]


def pinned(lines: list[str]) -> dict[str, set[str]]:
    """Versions by package; a package has several where the lock differs between Python versions or platforms."""
    pins: dict[str, set[str]] = {}
    for requirement in map(Requirement, lines):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{requirement} is not pinned"
        pins.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return pins


def read_lock() -> dict[str, set[str]]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines())
    return pinned([line for line in lines if line])


def read_environment() -> tuple[list[str], list[str]]:
    """Conda's own dependencies, and those that pip installs for it."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [entry for entry in dependencies if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return conda, pip


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_lock_satisfies_pyproject(requirement: Requirement) -> None:
    versions = read_lock().get(canonicalize_name(requirement.name), set())
    assert versions, f"{requirement.name} is not in requirements.lock: run `make lock`"
    assert all(requirement.specifier.contains(version) for version in versions), (requirement, versions)


def test_environment_has_the_direct_dependencies_at_the_locks_versions() -> None:
    _, pip = read_environment()
    assert pip[-1] == "-e ."
    assert len(pip) == len(set(pip))
    lock = read_lock()
    assert pinned(pip[:-1]) == {name: lock[name] for name in (canonicalize_name(direct.name) for direct in DIRECT)}


def test_environment_python_is_supported() -> None:
    conda, _ = read_environment()
    (python,) = [entry.partition("=")[2] for entry in conda if entry.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)


@pytest.mark.parametrize("name", ["requirements.lock", "environment.yml", ".ci/run"])
def test_names_no_place(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    places = [line for line in lines if re.search(r"""://|\bfile:|--(extra-)?index|(^|[\s="'@])[/~]\w""", line)]
    assert not places, places


def test_the_map_in_readme_names_every_module():
    named = set(re.findall(r"\w+\.py", (ROOT / "README.md").read_text()))
    assert {path.name for path in (ROOT / "dadlab").glob("*.py")} - named == {"__init__.py"}
