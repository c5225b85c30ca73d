"""Every kind of page in a real browser, wide and narrow: nothing clipped, no page that scrolls sideways, no barrier.

The results page is the one that is kept in the repository.
"""

import json
import sys
from pathlib import Path

import pytest
import torch
from browser import CHROMIUM, WIDTHS, browser, resize
from hand_made_advice import made
from shared_pages import PAGES

from rnnvg import models, tasks
from rnnvg.functional import context_loss, influence
from rnnvg.report import advise_page
from rnnvg.report.influence_page import ReadText, write_influence
from rnnvg.report.page import render

ROOT = Path(__file__).parents[2]
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium"),
    PAGES,
]


def comparison(request):
    return request.getfixturevalue("comparison_page")


def depth(request):
    return request.getfixturevalue("depth_run").folder / "depth.html"


def advice(request):
    path = request.getfixturevalue("folder") / "advice.html"
    path.write_text(render(advise_page.page(made())), encoding="utf-8")
    return path


def words(request):
    task = tasks.make("next-word", distance=4, n_words=6000, bptt=10)
    ids = task.corpus.valid[:60]
    torch.manual_seed(3)
    model = models.build(task, "gru", hidden=12)
    found = influence(model, ids)
    seen = task.vocabulary.decode(ids.tolist())
    text = ReadText(
        seen, [True] * len(seen), task.vocabulary.decode(found.first_choice.tolist()), "GRU x-h12-s0", "text"
    )
    return write_influence(request.getfixturevalue("folder"), text, found, context_loss(model, ids))["influence.html"]


def published(request):
    return ROOT / "results" / "index.html"


FIRST = "header > section > *, header > .finding, header > h1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module", params=(comparison, depth, advice, words, published), ids=lambda make: make.__name__)
def page(request):
    return request.param(request)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def tab(page, window):
    window.open(page)
    return window


OUTSIDE = """JSON.stringify([...document.querySelectorAll(
    'h1, h2, p, figure, figcaption, nav, .scroll, .copy, #text, #curve, .whole > svg, .pieces > svg')]
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
    assert tab.ask("[...document.querySelectorAll('table')].length") > 0


def test_no_window_on_a_legend_cuts_a_letter(tab):
    resize(tab, 1200)
    cut = """[...document.querySelectorAll('.pieces > svg')].flatMap(window => {
      const [x, y, width, height] = window.getAttribute('viewBox').split(' ').map(Number);
      const use = window.querySelector(':scope > use');
      if (!use || height > 24) return [];
      const figure = document.getElementById(use.getAttribute('href').slice(1));
      const to = figure.ownerSVGElement.getScreenCTM();
      const [right, top, bottom] = [to.a * (x + width) + to.e, to.d * y + to.f, to.d * (y + height) + to.f];
      return [...figure.querySelectorAll('use')].map(each => each.getBoundingClientRect()).filter(box =>
        box.height < 30 && box.top > top && box.bottom < bottom && box.left < right - 0.2 && box.right > right + 0.2);
    }).length"""
    assert tab.ask(cut) == 0


def test_pieces_show_what_the_whole_figure_shows(tab):
    """The windows point at a group that is there and holds lines; nothing that clips them is hidden."""
    resize(tab, 420)
    missing = """[...document.querySelectorAll('.pieces use')].filter(each => {
      const found = document.getElementById(each.getAttribute('href').slice(1));
      return !found || getComputedStyle(found).visibility !== 'visible' || !found.querySelector('path');
    }).length"""
    assert tab.ask(missing) == 0
    assert tab.ask("document.querySelectorAll('.pieces').length") > 0


def test_the_first_screen_begins_with_one_sentence(tab):
    resize(tab, 1200)
    tab.ask("scrollTo(0, 0)")
    assert tab.ask("document.querySelectorAll('.finding').length") == 1
    sentence = tab.ask("document.querySelector('.finding').textContent").strip()
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
    assert tab.ask("document.querySelector('.finding').getBoundingClientRect().bottom") < WIDTHS[1200] / 3


def test_the_first_screen_has_one_table_and_one_figure(tab, page):
    if page.name == "influence.html":
        pytest.skip("its first screen is the text")
    resize(tab, 1200)
    assert tab.ask("document.querySelectorAll('header > section > figure.table').length") == 1
    figure = "document.querySelectorAll('header > section > figure:not(.table)')"
    assert tab.ask(f"{figure}.length") == (0 if page.name == "index.html" else 1)
    if page.name != "index.html":
        assert (
            tab.ask(f"scrollTo(0, 0); {figure}[0].querySelector('svg').getBoundingClientRect().bottom") <= WIDTHS[1200]
        )


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core: npm install --prefix tests/report")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (420, False)])
def test_axe_finds_no_barrier(tab, width, dark):
    resize(tab, width, dark)
    tab.send("Runtime.evaluate", expression=AXE.read_text())
    found = json.loads(tab.ask("axe.run(document, {resultTypes: ['violations']}).then(JSON.stringify)"))
    barriers = [f"{each['id']}: {[node['target'] for node in each['nodes'][:3]]}" for each in found["violations"]]
    assert barriers == []


def test_no_sentence_lists_more_than_four_numbers(page):
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from count_numbers import MOST, numbers, sentences
    finally:
        sys.path.pop(0)
    every = list(sentences(page.read_text(encoding="utf-8")))
    assert len(every) > 5
    assert [each for each in every if len(numbers(each)) > MOST] == []
    assert len(numbers("1 to 2, 3 and 4.5 of 5")) == 5  # it does count


def test_the_page_complains_of_nothing_and_asks_for_nothing(tab, page):
    requested = [url for url in tab.requested() if not url.startswith("data:")]
    assert requested[-1] == page.as_uri()
    assert all(url.startswith("file:") for url in requested)
    assert tab.complaints() == []
