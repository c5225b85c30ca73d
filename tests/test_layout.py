"""The house's rules that a machine can hold: how long a file may be, and its name. lint-imports holds the layers."""

from pathlib import Path

import pytest

import rnnvg

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rnnvg"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 350


def test_no_module_shadows_the_standard_library():
    assert not [
        path
        for path in FILES
        if path.stem in {"copy", "types", "random", "statistics", "token", "profile"} and path.parent == PACKAGE
    ]


def test_the_citation_is_of_this_version():
    assert f"\nversion: {rnnvg.__version__}\n" in (ROOT / "CITATION.cff").read_text()
