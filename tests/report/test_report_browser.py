"""The report in a real browser: nothing clipped, no page that scrolls sideways, tables that sort and copy, and no barrier."""

import json
import sys
from pathlib import Path

import pytest
from browser import CHROMIUM, browser
from synthetic_results import write_results

from rnnvg import report

ROOT = Path(__file__).parents[2]
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
WIDTHS = {1200: 900, 420: 800}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    where = write_results(tmp_path_factory.mktemp("shown"), tasks=("copy", "adding"), cells=("rnn", "lstm"), seeds=2)
    return report.write(where)


@pytest.fixture(scope="module")
def tab(page, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        tab.open(page)
        yield tab


def resize(tab, width, dark=False):
    tab.send("Emulation.setDeviceMetricsOverride", width=width, height=WIDTHS[width], deviceScaleFactor=1, mobile=False)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    tab.send("Emulation.setEmulatedMedia", features=scheme)
    tab.ask("for (const each of document.querySelectorAll('details')) each.open = true")


OUTSIDE = """JSON.stringify([...document.querySelectorAll(
    'h1, h2, p, figure, figcaption, nav, .scroll, .copy, .whole > svg, .pieces > svg')]
  .filter(each => each.checkVisibility())
  .map(each => [each.tagName + ' ' + each.textContent.trim().slice(0, 40), each.getBoundingClientRect()])
  .filter(([, box]) => box.width > 0 && (box.left < -0.5 || box.right > document.documentElement.clientWidth + 0.5))
  .map(([name]) => name))"""


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out_and_the_page_does_not_scroll_sideways(tab, width):
    resize(tab, width)
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert json.loads(tab.ask(OUTSIDE)) == []


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


def test_pieces_show_what_the_whole_figure_shows(tab):
    """The windows point at a group that is there and holds lines; nothing that clips them is hidden."""
    resize(tab, 420)
    missing = """[...document.querySelectorAll('.pieces use')].filter(each => {
      const found = document.getElementById(each.getAttribute('href').slice(1));
      return !found || getComputedStyle(found).visibility !== 'visible' || !found.querySelector('path');
    }).length"""
    assert tab.ask(missing) == 0


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


def test_the_page_complains_of_nothing_and_asks_for_nothing(tab, page):
    assert [url for url in tab.requested() if not url.startswith("data:")] == [page.as_uri()]
    assert tab.complaints() == []


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core: npm install --prefix tests/report")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (420, False)])
def test_axe_finds_no_barrier(tab, width, dark):
    resize(tab, width, dark)
    tab.send("Runtime.evaluate", expression=AXE.read_text())
    found = json.loads(tab.ask("axe.run(document, {resultTypes: ['violations']}).then(JSON.stringify)"))
    told = [f"{each['id']}: {[node['target'] for node in each['nodes'][:3]]}" for each in found["violations"]]
    assert told == []


def test_no_sentence_lists_more_than_four_numbers(page):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from count_numbers import MOST, numbers, sentences
    finally:
        sys.path.pop(0)
    every = list(sentences(page.read_text(encoding="utf-8")))
    assert len(every) > 40
    assert [each for each in every if len(numbers(each)) > MOST] == []
    assert len(numbers("1 to 2, 3 and 4.5 of 5")) == 5  # it does count
