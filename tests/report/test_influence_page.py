"""The page that shows where a prediction leans: its numbers, its figure, and what a reader does with it in a browser."""

import json
import math
import re
import time

import numpy as np
import pytest
import torch
from browser import CHROMIUM, browser

from rnnvg import models, tasks
from rnnvg.errors import InputError
from rnnvg.functional import context_loss, influence
from rnnvg.report import influence_page, style
from rnnvg.report.influence_page import ReadText, write_influence

WORDS = [
    "to",
    "<script>alert(1)</script>",
    "</script><b>or",
    "not",
    "</button>",
    'qu"ote',
    "&amp;",
    "漢字",
    "\u2028",
    "be",
]
TASK = tasks.make("next-word", distance=4, n_words=6000, bptt=10)
IDS = TASK.corpus.valid[: len(WORDS)]


@pytest.fixture(scope="module")
def read():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = models.build(TASK, "gru", hidden=12)
    found, context = influence(model, IDS), context_loss(model, IDS, [1, 2])
    guesses = TASK.vocabulary.decode(found.first_choice.tolist())
    text = ReadText(WORDS, [word != "漢字" for word in WORDS], guesses, "GRU <i>mine</i>", "a & b.txt")
    return text, found, context


@pytest.fixture(scope="module")
def files(read, tmp_path_factory):
    return write_influence(tmp_path_factory.mktemp("influence") / "new", *read)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_everything_is_written_once_and_the_same_again(read, files, tmp_path):
    assert set(files) == {f"influence.{end}" for end in ("html", "csv", "svg", "png")} | {"context.csv"}
    again = write_influence(tmp_path, *read)
    for name, path in files.items():
        assert path.read_bytes() == again[name].read_bytes()


def test_words_are_text_and_the_only_scripts_are_the_pages_own(files):
    page = files["influence.html"].read_text(encoding="utf-8")
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "<b>or" not in page
    assert "<i>mine" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</button>" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "http" not in re.sub(r"http://www\.w3\.org/\S+|http-equiv", "", page)
    assert data_of(page)["words"] == WORDS


def test_numbers_of_the_page_are_hundredths_of_a_decade_below_the_strongest(read, files):
    _, found, _ = read
    data = data_of(files["influence.html"].read_text(encoding="utf-8"))
    assert data["influence"][0] == []
    for s, row in enumerate(found.log_norm):
        nearest_first = row[: s + 1][::-1] / math.log(10)
        np.testing.assert_allclose(
            data["influence"][s + 1], np.round(100 * (nearest_first - nearest_first.max())), atol=0.51
        )
    assert data["loss"][3] == f"{found.loss[2]:.2f}"
    np.testing.assert_allclose(data["mean"], 100 * found.curve()["log10_gain"], atol=0.51)


def test_an_exact_zero_is_no_number(read):
    text, _, context = read
    with torch.random.fork_rng(devices=[]):
        model = models.build(TASK, "rnn", hidden=4)
    with torch.no_grad():
        model.core.weight_hh_l0.zero_()
    found = influence(model, IDS)
    page = influence_page.render(text, found, context, influence_page.picture(found, context))
    assert data_of(page)["influence"][3] == [0, None, None]


def test_the_figure_draws_the_curve_and_the_losses(read):
    _, found, context = read
    with style.applied():
        figure = influence_page.draw(found, context)
    curve, loss = figure.axes
    np.testing.assert_allclose(curve.lines[-1].get_ydata(), found.curve()["log10_gain"])
    table = context.to_frame()
    np.testing.assert_allclose(loss.lines[0].get_ydata(), table[table["how"] == "dropped"]["increase"])
    np.testing.assert_allclose(loss.lines[1].get_ydata(), table[table["how"] == "shuffled"]["increase"])


def test_a_page_has_room_for_so_many_words(read, tmp_path):
    _, found, context = read
    many = ReadText(["a"] * 501, [True] * 501, ["a"] * 500, "m", "s")
    with pytest.raises(InputError, match=r"^A page shows at most 500 words; got 501\. Pass fewer\.$"):
        write_influence(tmp_path / "none", many, found, context)
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def tab(files, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        tab.open(files["influence.html"])
        yield tab


def chosen(tab):
    return tab.ask("document.querySelector('#text [aria-current]').textContent")


def shades(tab):
    return tab.ask(
        "[...document.querySelectorAll('#text button')].map(b => Number(b.style.getPropertyValue('--part')))"
    )


def test_the_browser_shows_the_words_and_runs_none_of_them(tab, files):
    assert tab.ask("[...document.querySelectorAll('#text button')].map(b => b.textContent)") == WORDS
    assert tab.requested() == [files["influence.html"].as_uri()]
    assert tab.complaints() == []
    assert tab.ask("document.querySelectorAll('script').length") == 2
    assert tab.ask("document.querySelectorAll('#text b, header i').length") == 0
    # A script that got into the page all the same would not run.
    tab.ask("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert tab.ask("typeof window.ran") == "undefined"


def test_hovering_shades_earlier_words_by_their_influence(tab, read):
    _, found, _ = read
    tab.point("#text button:nth-of-type(6)")
    assert chosen(tab) == WORDS[5]
    row = found.log_norm[4][:5] / math.log(10)
    expected = np.maximum(0, 1 + (row - row.max()) / 4)
    np.testing.assert_allclose(shades(tab)[:5], expected, atol=0.003)
    assert shades(tab)[5:] == [0] * 5
    strongest = WORDS[int(np.argmax(row))]
    assert tab.ask("document.querySelector('#strongest td').textContent") == strongest
    assert f"Loss {found.loss[4]:.2f} nats." in tab.ask("document.getElementById('facts').textContent")
    assert tab.ask("document.getElementById('own').getAttribute('d').split('L').length") == 5


def test_a_click_holds_a_word_until_the_next(tab):
    tab.point("#text button:nth-of-type(4)", click=True)
    tab.point("#text button:nth-of-type(8)")
    assert chosen(tab) == WORDS[3]
    tab.point("#text button:nth-of-type(4)", click=True)
    tab.point("#text button:nth-of-type(8)")
    assert chosen(tab) == WORDS[7]


def test_keys_move_from_word_to_word(tab):
    tab.ask("document.activeElement.blur(); document.body.focus()")
    tab.ask("getSelection().removeAllRanges()")
    tab.press("Tab")
    assert tab.ask("document.activeElement.closest('#text') !== null")
    tab.press("Home")
    assert chosen(tab) == WORDS[0]
    tab.press("ArrowLeft")
    assert chosen(tab) == WORDS[0]
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert chosen(tab) == WORDS[2]
    assert tab.ask("document.activeElement.textContent") == WORDS[2]
    tab.press("End")
    assert chosen(tab) == WORDS[-1]
    # One stop for Tab among all words, on the one that is chosen.
    assert tab.ask("[...document.querySelectorAll('#text [tabindex=\"0\"]')].map(b => b.textContent)") == [WORDS[-1]]
    tab.press("Tab")
    assert tab.ask("document.activeElement.closest('#text') === null")


def test_a_screen_reader_finds_buttons_and_is_told_of_the_choice(tab):
    tab.send("Accessibility.enable")
    nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
    names = [each["name"]["value"] for each in nodes if each["role"]["value"] == "button"]
    assert names[:2] == WORDS[:2]
    assert len(names) == len(WORDS)
    group = [each["name"]["value"] for each in nodes if each["role"]["value"] == "group"]
    assert "The text, word by word" in group
    # Focus may have scrolled the text out of the window, where no pointer goes.
    tab.ask("document.getElementById('text').scrollIntoView({block: 'center', behavior: 'instant'})")
    until = time.monotonic() + 30
    while chosen(tab) != WORDS[6]:
        assert time.monotonic() < until, f"{chosen(tab)} is chosen, held: {tab.ask('document.activeElement.outerHTML')}"
        tab.point("#text button:nth-of-type(1)")
        tab.point("#text button:nth-of-type(7)")
        time.sleep(0.2)
    while not (said := tab.ask("document.getElementById('said').textContent")).startswith(WORDS[6]):
        assert time.monotonic() < until, said
        time.sleep(0.1)
    assert said.startswith("&amp;. Loss ")
    assert tab.ask("document.getElementById('said').getAttribute('aria-live')") == "polite"
