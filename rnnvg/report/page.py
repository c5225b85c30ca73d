"""A page of sections, each a figure with its sentences and tables, as one HTML file that needs nothing else.

Any report is assembled from these pieces; what they say is decided elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rnnvg.files import Mark, write_set
from rnnvg.report.picture import Picture, inline, stacked

if TYPE_CHECKING:
    from markupsafe import Markup

SVG_ROOM = 500_000  # characters; a figure with more strokes than that is put in as PNG


@dataclass(frozen=True, eq=False)
class Table:
    """A table for readers: a frame, or its columns by name, and a caption; `folded` tables are opened by a click."""

    content: Any
    caption: str
    folded: bool = False

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table with every cell as text."""
        frame = pd.DataFrame(self.content).map(str)
        return frame.set_axis([str(column) for column in frame], axis=1)

    @property
    def columns(self) -> list[str]:
        return [str(column) for column in self.frame]

    @property
    def rows(self) -> list[list[str]]:
        return self.frame.to_numpy().tolist()


@dataclass(frozen=True)
class Section:
    """A heading with an anchor, a lead that says what is measured, a picture, what it shows, and tables; perhaps folded."""

    anchor: str
    title: str
    lead: str = ""
    picture: Picture | None = None
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: of the page.
        lead: what is measured and how to read it.
        sections: in the order of the page and its list of contents.
        chips: text of a table cell -> colour of the chip before it.
        names: what a paragraph may begin with to be found at a glance; set in bold there.
        footer: how the page was made.
        first: the first screen: its paragraphs are the finding, then its table and its figure, all above the lead.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    chips: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[str] = ()
    footer: str = ""
    first: Section | None = None


def render(page: Page) -> str:
    """The page as one HTML document: no network, one script of its own, nothing outside it."""

    def beginning(paragraph: str) -> str:
        return max((name for name in page.names if paragraph.startswith(name)), key=len, default="")

    return document("page.html", "page.js", page=page, drawn=drawn, beginning=beginning)


def document(template: str, script: str, **values: Any) -> str:
    """A template of this folder with the shared style and the only script that the page's policy lets run."""
    import jinja2
    from markupsafe import Markup

    folder = Path(__file__).parent
    code, style = ((folder / name).read_text(encoding="utf-8") for name in (script, "page.css"))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rnnvg.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return environment.get_template(template).render(script=Markup(code), style=Markup(style), digest=digest, **values)


def drawn(picture: Picture) -> Markup:
    """A picture as an element: whole, and in pieces for narrow screens."""
    from markupsafe import Markup

    if len(picture.svg) > SVG_ROOM:
        data = base64.b64encode(picture.png).decode()
        source = Markup("data:image/png;base64,") + Markup(data)
        return Markup('<img class="drawn" alt="{}" src="{}">').format(picture.alt, source)
    whole = Markup(inline(picture.svg, picture.name, picture.alt))
    if not picture.pieces:
        return whole
    pieces = Markup(stacked(picture.pieces, picture.name, picture.alt))
    return Markup('<div class="whole">{}</div>\n<div class="pieces">{}</div>').format(whole, pieces)


def save(
    page: Page, directory: str | Path, name: str, frames: Mapping[str, Any], marks: Mapping[str, Mark] | None = None
) -> Path:
    """Writes a page as `name`, its pictures as figures/*.svg and .png, and frames as CSV files, each in one move.

    Args:
        frames, marks: by path in the directory; marks are of tables whose columns do not tell whose they are.

    Returns:
        The path of the page.

    Raises:
        InputError: the directory cannot be written, or a file that rnnvg did not write stands where one of these belongs:
            nothing is then written.
    """
    contents: dict[str, str | bytes] = {}
    every = [*([page.first] if page.first else []), *page.sections]
    for picture in [section.picture for section in every if section.picture is not None]:
        contents[f"figures/{picture.name}.svg"] = picture.svg
        contents[f"figures/{picture.name}.png"] = picture.png
    for path, frame in frames.items():
        contents[path] = frame.to_csv(index=False, lineterminator="\n")
    write_set(directory, contents | {name: render(page)}, marks=marks)
    return Path(directory) / name
