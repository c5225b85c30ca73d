"""A page of sections, each a figure with its words and tables, as one HTML file that needs nothing else.

Any report is assembled from these parts; what they say is decided elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SVG_ROOM = 500_000  # characters; a figure with more strokes than that is put in as PNG


@dataclass(frozen=True)
class Picture:
    """A figure: its file's stem, alt text for readers who cannot see it, a caption, and itself as SVG and PNG."""

    name: str
    alt: str
    caption: str
    svg: str = field(repr=False)
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Table:
    """A table of text: caption, column names, rows; `folded` tables are opened by a click."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False

    @classmethod
    def of(cls, frame: Any, caption: str, folded: bool = False) -> Table:
        """A table of a frame's columns, every cell as text."""
        rows = [[str(cell) for cell in row] for row in frame.itertuples(index=False)]
        return cls(caption, [str(column) for column in frame], rows, folded)


@dataclass(frozen=True)
class Section:
    """A heading with an anchor, a lead that says what is measured, a picture, what it shows, and tables."""

    anchor: str
    title: str
    lead: str = ""
    picture: Picture | None = None
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: of the page.
        lead: what is measured and how to read it.
        paragraphs: what came out, at a glance.
        sections: in the order of the page and its list of contents.
        chips: text of a table cell -> colour of the chip before it.
        names: what a paragraph may begin with to be found at a glance; set in bold there.
        footer: how the page was made.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    paragraphs: Sequence[str] = ()
    chips: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[str] = ()
    footer: str = ""


def render(page: Page) -> str:
    """The page as one HTML document: no network, no script, nothing outside it."""
    import jinja2
    from markupsafe import Markup

    from rnnvg.report.svg import inline

    def drawn(picture: Picture) -> Markup:
        if len(picture.svg) <= SVG_ROOM:
            return Markup(inline(picture.svg, picture.name, picture.alt))
        data = base64.b64encode(picture.png).decode()
        return Markup('<img class="drawn" alt="{}" src="data:image/png;base64,{}">').format(picture.alt, Markup(data))

    def beginning(paragraph: str) -> str:
        return max((name for name in page.names if paragraph.startswith(name)), key=len, default="")

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rnnvg.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page, drawn=drawn, beginning=beginning)
