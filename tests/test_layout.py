"""The house's rules that a machine can hold: how long a file may be, and its name. lint-imports holds the layers."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import rnnvg

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rnnvg"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 350


def test_no_module_shadows_another_one_but_those_that_the_documentation_names():
    """A folder is searched first only where a file in it is run as a script, which none of the package is for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    imported = [
        each
        for name, extra in project["optional-dependencies"].items()
        if name not in {"dev", "docs"}
        for each in extra
    ]
    required = {re.split(r"[^\w-]", each)[0].replace("-", "_") for each in project["dependencies"] + imported}
    others = sys.stdlib_module_names | required
    assert {"statistics", "torch", "lazy_loader", "lightning"} <= others
    names = {path: path.parent.name if path.name == "__init__.py" else path.stem for path in FILES}
    shadowing = {path.relative_to(PACKAGE).as_posix() for path, name in names.items() if name in others}
    assert shadowing == {"bptt/profile.py", "bptt/lightning.py", "text/statistics.py"}


def test_the_oldest_environment_has_the_lowest_versions_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = [
        *project["dependencies"],
        *(each for name in ("digits", "lightning", "parquet", "tensorboard") for each in extras[name]),
    ]
    lowest = {line.name: line.specifier for line in map(Requirement, [*required, *extras["dev"]])}
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints-oldest.txt").read_text().splitlines() if "==" in line
    )
    assert {
        Requirement(each).name for each in required
    } <= pinned.keys()  # tools of `dev` that no test imports are as they come
    for name, version in pinned.items():
        floors = [Version(each.version) for each in lowest[name] if each.operator == ">="]
        assert floors == [Version(version)], name


def test_the_citation_is_of_this_version():
    assert f"\nversion: {rnnvg.__version__}\n" in (ROOT / "CITATION.cff").read_text()
