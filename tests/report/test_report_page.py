"""The page as a browser reads it: whole, self-contained, and safe whatever the names are."""

import base64
import re
from html.parser import HTMLParser

import pytest
from synthetic_results import in_memory

from rnnvg.report import page, picture
from rnnvg.report.page import Page, Picture, Section, Table, render
from rnnvg.report.write import page as page_of

pytestmark = pytest.mark.xdist_group("report page")  # one process draws it

VOID = {"meta", "br", "img", "link", "hr", "input"}
SVG = '<?xml version="1.0"?>\n<svg width="72pt" height="36pt" viewBox="0 0 72 36"><path id="p" d="M 0.123456 1"/></svg>'
PNG = b"\x89PNG"


class Reader(HTMLParser):
    """Checks that tags close in order; collects ids, references, images and text."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.targets, self.images, self.outside, self.text = [], [], [], [], [], []
        self.scripts = 0

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        for name in ("href", "xlink:href", "src"):
            value = found.get(name) or ""
            if value.startswith("#"):
                self.targets.append(value[1:])
            elif value and not value.startswith("data:"):
                self.outside.append(value)
        self.targets += re.findall(r"url\(#([^)]+)\)", found.get("clip-path") or "")
        if tag == "img" or found.get("role") == "img":
            self.images.append(found.get("alt") or found.get("aria-label"))
        self.scripts += tag == "script" and "src" not in found
        assert tag != "script" or "src" not in found

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(document):
    reader = Reader()
    reader.feed(document)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def document(comparison):
    return render(page_of(comparison))


def test_the_page_needs_nothing_outside_itself(document):
    reader = read(document)
    assert reader.outside == []
    assert reader.scripts == 1
    assert "script-src 'sha256-" in document  # no other script runs
    assert "@import" not in document
    assert re.findall(r"url\((?!#)", document) == []
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"' <]+", document)) <= names
    assert len(document.encode()) < 3_000_000


def test_ids_are_unique_and_every_reference_is_met(document):
    reader = read(document)
    assert len(reader.ids) == len(set(reader.ids))
    assert set(reader.targets) <= set(reader.ids)


def test_every_figure_says_what_it_shows(document):
    images = read(document).images
    assert len(images) == 16  # each once whole, once in pieces for a narrow screen
    assert all("RNN (tanh), LSTM and GRU on copy memory, adding problem and next word" in alt for alt in images)


def test_contents_tables_and_words_are_there(document):
    text = " ".join("".join(read(document).text).split())
    for title in (
        "Gradient against distance",
        "Memory horizons",
        "When the horizon opens",
        "Why it vanishes",
        "Theory at initialisation",
    ):
        assert text.count(title) >= 2  # in the contents and as a heading
    assert document.count("<table>") == 14
    assert "the worker process died 3 times while running it" in text
    assert "Three seeds cannot settle" in text


def test_the_finding_stands_before_everything_else(document):
    text = " ".join("".join(read(document).text).split())
    assert text.index("After training the gradient reaches more than twice as far") < text.index("horizon before")
    assert text.index("horizon before") < text.index("A recurrent network learns from") < text.index("What was learned")


def test_what_few_readers_need_is_folded(document):
    folded = re.findall(r'<details class="section">\s*<summary><h2>([^<]+)</h2>', document)
    assert folded == [
        "From every source",
        "Lyapunov exponents through training",
        "Theory at initialisation",
        "Settings and versions",
    ]


def test_figures_take_the_inks_of_the_page(document):
    assert "var(--ink)" in document
    drawn = "".join(re.findall(r"<svg.*?</svg>", document, flags=re.DOTALL))
    assert "#22262b" not in drawn


def test_names_cannot_break_out_of_the_page():
    nasty = '<script>alert(1)</script>"&'
    whole = Page(
        title=nasty,
        lead=nasty,
        sections=[
            Section(
                "one",
                nasty,
                nasty,
                Picture("one", nasty, nasty, SVG, PNG),
                [nasty],
                [Table({nasty: [nasty]}, nasty), Table({nasty: [nasty]}, nasty, folded=True)],
            )
        ],
        first=Section("first", "", "", None, [nasty]),
        chips={nasty: "#ffffff"},
        names=[nasty],
        footer=nasty,
    )
    reader = read(render(whole))
    assert reader.images == [nasty]
    assert "".join(reader.text).count(nasty) == 17


def test_a_paragraph_begins_in_bold_where_it_names_a_task():
    whole = Page(
        "t",
        "l",
        [Section("one", "", "", None, ["Adding problem: 3", "Adding problem, length 50: 4"])],
        names=["Adding problem", "Adding problem, length 50"],
    )
    document = render(whole)
    assert "<p><b>Adding problem</b>: 3</p>" in document
    assert "<p><b>Adding problem, length 50</b>: 4</p>" in document


def test_two_figures_with_the_same_ids_do_not_meet():
    pictures = [
        Picture(name, "alt", "", '<svg width="7pt"><path id="a"/><use href="#a"/></svg>', PNG) for name in ("x", "y")
    ]
    document = render(Page("t", "l", [Section(each.name + "s", "", "", each) for each in pictures]))
    assert read(document).ids == ["xs", "x-a", "ys", "y-a"]


def test_a_figure_of_too_many_strokes_is_put_in_as_png(monkeypatch):
    monkeypatch.setattr(page, "SVG_ROOM", 10)
    document = render(Page("t", "l", [Section("s", "", "", Picture("x", "a & b", "", SVG, PNG))]))
    assert "<svg" not in document
    assert (
        f'<img class="drawn" alt="a &amp; b" src="data:image/png;base64,{base64.b64encode(PNG).decode()}">' in document
    )


def test_inline_svg_keeps_scales_whole_and_drops_unused_ids():
    source = '<svg width="72pt" height="9pt"><g id="gone"><path d="M 1.23456 2" transform="scale(0.015625)"/></g></svg>'
    element = picture.inline(source, "name", "what")
    assert 'id="' not in element
    assert 'd="M 1.23 2"' in element
    assert "scale(0.015625)" in element
    assert 'role="img" aria-label="what"' in element
    assert "max-width:104px" in element


def test_a_page_of_runs_that_all_failed_can_be_read():
    reader = read(render(page_of(in_memory({"status": "failed", "reason": "ValueError: <no>"}))))
    assert "ValueError: <no>" in "".join(reader.text)
