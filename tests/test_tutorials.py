"""Every cell of the tutorials in docs/tutorials, run in its order in one namespace; `make docs` runs them as notebooks."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

TUTORIALS = Path(__file__).parent.parent / "docs" / "tutorials"
PAGES = sorted(path.name for path in TUTORIALS.glob("*.md") if path.name != "index.md")
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def test_there_are_five():
    assert len(PAGES) == 5


@pytest.mark.parametrize("page", PAGES)
def test_cells_run(page, monkeypatch, tmp_path, one_figure, worker_here):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    cells = CELL.findall((TUTORIALS / page).read_text(encoding="utf-8"))
    assert len(cells) >= 5
    for number, cell in enumerate(cells):
        exec(compile(cell, f"{page}, cell {number}", "exec"), namespace)
    plt.close("all")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = CELL.sub("", (TUTORIALS / page).read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (TUTORIALS / link).exists(), link
