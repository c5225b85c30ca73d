"""The report of a comparison in a real browser: its first screen, its panels, tables that sort and copy."""

import json

import pytest
from browser import CHROMIUM, WIDTHS, browser, resize
from shared_pages import PAGES

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
    PAGES,
]


@pytest.fixture(scope="module")
def tab(comparison_page, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        tab.open(comparison_page)
        yield tab


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_that_is_too_wide_scrolls_inside(tab, width):
    resize(tab, width)
    cut = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth + 1)"
    assert tab.ask(f"{cut}.every(each => getComputedStyle(each).overflowX === 'auto')")
    assert (tab.ask(f"{cut}.length") > 0) or width == 1200


def test_the_first_screen_has_finding_table_and_figure(tab):
    resize(tab, 1200)
    bottom = (
        "Math.max(...[...document.querySelectorAll('header > section > *')].map(e => e.getBoundingClientRect().bottom))"
    )
    assert tab.ask(f"scrollTo(0, 0); {bottom}") <= WIDTHS[1200]
    assert tab.ask("document.querySelector('.finding').textContent").startswith("After training the gradient reaches")


def test_on_a_narrow_screen_panels_stand_below_each_other(tab):
    resize(tab, 420)
    panels = """JSON.stringify([...document.querySelectorAll('#gradient-against-distance .pieces > svg')]
      .map(each => each.getBoundingClientRect()).filter(box => box.height > 60).map(box => [box.left, box.top, box.width]))"""
    boxes = json.loads(tab.ask(panels))
    assert len(boxes) == 2  # a problem each
    assert boxes[0][1] < boxes[1][1]
    assert all(width > 300 for _, _, width in boxes)
    assert tab.ask("document.querySelector('.whole').getBoundingClientRect().width") == 0
    resize(tab, 1200)
    assert tab.ask("getComputedStyle(document.querySelector('.pieces')).display") == "none"


def test_a_click_on_a_head_sorts_and_a_second_one_turns_it_round(tab):
    resize(tab, 1200)
    table = "document.querySelector('#memory-horizons table')"
    column = f"[...{table}.tBodies[0].rows].map(row => parseFloat(row.cells[3].innerText.replace('> ', '')))"
    for way in ("ascending", "descending"):
        tab.ask(f"{table}.tHead.rows[0].cells[3].querySelector('button').click()")
        assert tab.ask(f"{table}.tHead.rows[0].cells[3].getAttribute('aria-sort')") == way
        values = tab.ask(column)
        assert values == sorted(values, reverse=way == "descending")


@pytest.mark.parametrize(
    ("text", "value"),
    [("> 88 (> 88, 87)", 88), ("10⁻¹²", 1e-12), ("5.2·10⁻¹⁶", 5.2e-16), ("1,200", 1200), ("p = 0.25", 0.25)],
)
def test_what_cells_say_is_sorted_as_numbers(tab, text, value):
    assert tab.ask(f"number({text!r})") == pytest.approx(value)


def test_a_table_copies_as_tab_separated_text(tab):
    resize(tab, 1200)
    tab.ask("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    tab.ask("document.querySelector('#memory-horizons .copy').click()")
    lines = tab.ask("window.copied").split("\n")
    assert lines[0].split("\t") == ["task", "network", "horizon before", "after", "score", "baseline", "solved"]
    assert len(lines) == 1 + 4


def test_a_link_opens_the_folded_section_that_it_names(tab):
    tab.ask("for (const each of document.querySelectorAll('details')) each.open = false")
    tab.ask("location.hash = '#settings'")
    opened = "new Promise(done => setTimeout(() => done(document.querySelector('#settings details').open), 200))"
    assert tab.ask(opened)


def test_the_page_complains_of_nothing_and_asks_for_nothing(tab, comparison_page):
    assert [url for url in tab.requested() if not url.startswith("data:")] == [comparison_page.as_uri()]
    assert tab.complaints() == []
