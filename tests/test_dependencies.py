"""Version ranges of dependencies, and the tested bounds."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    found: dict[str, Requirement] = {}
    for requirement in (Requirement(line) for of in lists for line in of):
        name = canonicalize_name(requirement.name)
        if name != "nanoemox":
            assert found.setdefault(name, requirement).specifier == requirement.specifier, f"{name} has two ranges"
    return found


def pinned(file: str) -> dict[str, Version]:
    pins = [line.split("==") for line in (ROOT / file).read_text("utf-8").splitlines()]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def bounds(requirement: Requirement) -> dict[str, Version]:
    return {bound.operator: Version(bound.version) for bound in requirement.specifier}


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    assert {name for name, of in declared().items() if bounds(of).keys() != {">=", "<"}} == set()


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    assert pinned("constraints-oldest.txt") == {name: bounds(of)[">="] for name, of in declared().items()}


def test_the_newest_versions_are_one_step_below_the_upper_bounds() -> None:
    newest, ranges = pinned("constraints.txt"), declared()
    del ranges["pip"]  # the one that comes with Python
    assert newest.keys() >= ranges.keys()
    for name, requirement in ranges.items():
        at, upper = newest[name], bounds(requirement)["<"]
        assert at in requirement.specifier, name
        assert upper in (Version(f"{at.major}.{at.minor + 1}"), Version(f"{at.major + 1}")), name
