"""Every link of the README, the documentation and written pages leads somewhere; no network is needed to say so."""

import importlib.util
from pathlib import Path

import pytest

from rnnvg.report.page import Page, Section, render

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("check_links", ROOT / "scripts" / "check_links.py")
check_links = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_links)


@pytest.mark.parametrize(
    "path", [*check_links.pages(), ROOT / "results" / "index.html"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_link_leads_somewhere(path):
    assert list(check_links.broken(path)) == []


def test_the_pages_are_all_there():
    names = {str(path.relative_to(ROOT)) for path in check_links.pages()}
    assert {"README.md", "docs/questions.md", "docs/tutorials/problem.md", "docs/api/index.md"} <= names


def test_the_list_of_contents_of_a_page_leads_to_its_sections(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render(Page("A", "b", [Section("here", "Here"), Section("there", "There", folded=True)])))
    assert list(check_links.links(path)) == ["#here", "#there"]
    assert list(check_links.broken(path)) == []


def test_what_leads_nowhere_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# A heading, with `code`\n\n(named)=\n## Next\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-heading-with-code) [b](other.md#named) [c](other.md#nowhere) [d](gone.md) ![e](gone.png)\n"
        "[f](https://example.org) `[g](code.md)`\n```md\n[h](block.md)\n```\n"
    )
    assert [fault.removeprefix(f"{page}: ") for fault in check_links.broken(page)] == [
        "other.md#nowhere: there is no such place",
        "gone.md: there is no such file",
        "gone.png: there is no such file",
    ]
    assert check_links.external([page]) == ["https://example.org"]
