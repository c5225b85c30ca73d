"""The house's rules that a machine can hold: which folder may import from which, and how long a file may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rnnvg"
# Data flows down this list: a room imports only from rooms above it (and from itself).
ORDER = [
    "errors",
    "notebook",
    "horizon",
    "bptt",
    "text",
    "tasks",
    "models",
    "training",
    "functional",
    "depth",
    "bench",
    "advise",
    "report",
    "cli",
]
ALLOWED_IN_BPTT = {"errors", "notebook", "horizon", "bptt"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "rnnvg":
                found |= {alias.name for alias in node.names if not alias.name.startswith("_")}
            elif node.module and node.module.startswith("rnnvg."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("rnnvg.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_flow_one_way(path):
    here = room(path)
    assert here in ORDER, f"{here} has no place in the order of rooms"
    above = set(ORDER[: ORDER.index(here) + 1])
    assert imported_rooms(path) <= (ALLOWED_IN_BPTT if here == "bptt" else above)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 350


def test_no_module_shadows_the_standard_library():
    assert not [
        path
        for path in FILES
        if path.stem in {"copy", "types", "random", "statistics", "token", "profile"} and path.parent == PACKAGE
    ]
