"""Figures as bytes that are the same on every run, and as SVG that lives inside a page."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rnnvg.report import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

# What is drawn in these inks takes the page's own, so that it can be read on dark paper too.
_PAGE_INKS = {
    style.INK: "var(--ink)",
    style.MUTED: "var(--muted)",
    style.GRID: "var(--grid)",
    style.PAPER: "var(--paper)",
}

_WHOLE = "figure_1"  # matplotlib's name of the group that holds everything
_PIXELS_A_PIECE = 1.62  # and in a piece of it
_LINE = 24.0  # points; what is lower is a line of a legend
_PIXELS_A_POINT = 1.45  # the widest a point of a figure gets on the page, letters then being as large as the text's


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text. Call it inside `style.applied()`."""
    return to_bytes(figure, ".svg").decode()


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes. Call it inside `style.applied()`."""
    return to_bytes(figure, ".png", dpi)


def to_bytes(figure: Figure, suffix: str, dpi: int = 160) -> bytes:
    """The figure as a file of the ending .svg, .png or .pdf, with the mark by which `rnnvg.files` knows it again."""
    metadata = {
        ".svg": {"Date": None, "Creator": "rnnvg"},
        ".png": {"Software": "rnnvg"},
        ".pdf": {"Creator": "rnnvg", "Producer": None, "CreationDate": None},
    }[suffix]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix.removeprefix("."), dpi=dpi, metadata=metadata)
    return buffer.getvalue()


Box = tuple[float, float, float, float]  # x, y, width, height in points, y downwards: an SVG's viewBox


def boxes(figure: Figure, artists: Sequence[Artist]) -> list[Box]:
    """The place of some artists in the figure's SVG, a little room around included; of a legend the place of each entry."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.legend import Legend
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()
    found = []
    for each in artists:
        if isinstance(each, Legend):
            # The sign before a text and the gap between the two, in units of the letters' size.
            for text in each.get_texts():
                left = (each.handlelength + each.handletextpad + 0.2) * float(text.get_fontsize()) * figure.dpi / 72
                extent = text.get_window_extent(renderer)
                found.append(Bbox.from_extents(extent.x0 - left, extent.y0, extent.x1, extent.y1).padded(2))
    whole = [each.get_tightbbox(renderer) for each in artists if not isinstance(each, Legend)]
    if whole:
        found.append(Bbox.union([each for each in whole if each is not None]).padded(2))
    points, height = 72 / figure.dpi, 72 * figure.get_figheight()
    return [
        (
            round(each.x0 * points, 1),
            round(height - each.y1 * points, 1),
            round(each.width * points, 1),
            round(each.height * points, 1),
        )
        for each in found
    ]


def stacked(pieces: Sequence[Box], name: str, alt: str) -> str:
    """The pieces of a figure below each other, as windows on the one that `inline` put on the page.

    Args:
        pieces: what `boxes` gave, in reading order.
        name, alt: as for `inline`.
    """
    windows = []
    for place, (x, y, width, height) in enumerate(pieces):
        label = f'role="img" aria-label="{html.escape(alt, quote=True)}"' if place == 0 else 'aria-hidden="true"'
        widest = f"width:{width * (_PIXELS_A_POINT if height < _LINE else _PIXELS_A_PIECE):.0f}px;max-width:100%"
        windows.append(f'<svg viewBox="{x} {y} {width} {height}" style="{widest}" {label}>{_use(name)}</svg>')
    return "\n".join(windows)


def _use(name: str) -> str:
    return f'<use href="#{name}-{_WHOLE}"/>'


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
    used = {one or other for one, other in used} | {_WHOLE}
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
