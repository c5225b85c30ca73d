"""Figures as bytes that are the same on every run, and as SVG that lives inside a page."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

from rnnvg.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is drawn in these inks takes the page's own, so that it can be read on dark paper too.
_PAGE_INKS = {
    style.INK: "var(--ink)",
    style.MUTED: "var(--muted)",
    style.GRID: "var(--grid)",
    style.PAPER: "var(--paper)",
}

_PIXELS_A_POINT = 1.45  # the widest a point of a figure gets on the page, letters then being as large as the text's


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text. Call it inside `style.applied()`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes. Call it inside `style.applied()`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def inline(document: str, name: str, alt: str) -> str:
    """An SVG document as an element for a page: no prologue, ids that cannot meet those of another figure, alt text.

    Args:
        document: what `to_svg` gave.
        name: of the figure, a word; put before every id that is used.
        alt: what the figure shows, for readers who cannot see it.
    """
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', element))
    used = {one or other for one, other in used}
    element = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", element)
    element = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', element)
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", element)
    # Hundredths of a point are seen by nobody and take a third of the room; only scales need every digit.
    element = re.sub(r' (d|x|y)="[^"]+"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), element)
    for ink, own in _PAGE_INKS.items():
        element = element.replace(ink, own)
    opening, rest = element.split(">", 1)
    width = float(re.findall(r'\swidth="([\d.]+)pt"', opening)[0])
    opening = re.sub(r'\s(width|height)="[^"]*pt"', "", opening)
    widest = f"max-width:{width * _PIXELS_A_POINT:.0f}px"  # a small figure is not blown up
    return f'{opening} style="{widest}" role="img" aria-label="{html.escape(alt, quote=True)}">{rest}'.strip()
