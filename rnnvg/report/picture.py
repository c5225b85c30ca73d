"""A figure as it stands on a page and in files: bytes that are the same on every run, and the pieces for a narrow screen."""

from __future__ import annotations

import html
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG, RendererSVG
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.transforms import Bbox

from rnnvg.report import style

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


Box = tuple[float, float, float, float]  # x, y, width, height in points, y downwards: an SVG's viewBox
Piece = tuple[Box, ...]  # boxes that keep their heights and stand side by side; the last is the highest


@dataclass(frozen=True)
class Picture:
    """A figure: its file's stem, alt text for readers who cannot see it, a caption, itself as SVG and PNG, and its pieces.

    `pieces` are the parts that stand below each other where the whole would be too small to read, in reading order.
    """

    name: str
    alt: str
    caption: str
    svg: str = field(repr=False)
    png: bytes = field(repr=False)
    pieces: tuple[Piece, ...] = ()

    @classmethod
    def of(
        cls,
        figure: Figure,
        name: str,
        caption: str = "",
        alt: str = "",
        groups: Sequence[Sequence[Artist]] | None = None,
        labels: Axes | None = None,
    ) -> Picture:
        """The picture of a finished figure, saved in the house style.

        Args:
            groups: artists (axes, legends) of each piece; None: every legend, and every column of panels.
            labels: the axes whose labels of rows are those of all panels.
        """
        if groups is None:
            columns: dict[int, list[Artist]] = {}
            for ax in figure.axes:
                place = ax.get_subplotspec()
                columns.setdefault(-1 if place is None else place.colspan.start, []).append(ax)
            groups = [*([each] for each in figure.legends), *columns.values()]
        with style.applied():
            lay_out(figure)
            pieces = pieces_of(figure, groups, labels) if len(groups) > 1 else []
            document = to_bytes(figure, ".svg").decode()
            return cls(name, alt, caption, document, to_bytes(figure, ".png"), tuple(pieces))


def lay_out(figure: Figure) -> None:
    """Finds the places of everything as an SVG has them, once for all that is made of the figure: each would find them anew.

    Call it inside `style.applied()`, before `pieces_of`.
    """
    FigureCanvasSVG(figure)  # whose renderer says how wide letters are
    figure.set_dpi(72)
    figure.draw_without_rendering()
    figure.set_layout_engine(None)


def to_bytes(figure: Figure, suffix: str, dpi: int = 160) -> bytes:
    """The figure as a file of the ending .svg, .png or .pdf, with the mark by which `rnnvg.files` knows it again.

    Call it inside `style.applied()`: the same figure then gives the same bytes.
    """
    metadata = {
        ".svg": {"Date": None, "Creator": "rnnvg"},
        ".png": {"Software": "rnnvg"},
        ".pdf": {"Creator": "rnnvg", "Producer": None, "CreationDate": None},
    }[suffix]
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix.removeprefix("."), dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def pieces_of(figure: Figure, groups: Sequence[Sequence[Artist]], labels: Axes | None = None) -> list[Piece]:
    """The places of the parts of a figure in its SVG, a little room around included; of a legend the place of each entry.

    Args:
        figure: finished and laid out.
        groups: artists (axes, legends) of each part.
        labels: the axes whose labels of rows belong to the other axes too: every part without them gets them beside it.
    """
    height = 72 * figure.get_figheight()
    # Letters are as wide as this renderer says; that of a bitmap puts them on whole pixels.
    renderer = RendererSVG(72 * figure.get_figwidth(), height, io.StringIO())
    boxes = [(group, box) for group in groups for box in _boxes(group, renderer)]
    rows = [] if labels is None else [each for each in labels.get_yticklabels() if each.get_text()]
    if labels is None or not rows:
        return [(_box(box, height),) for _, box in boxes]
    names = _box(Bbox.union([each.get_window_extent(renderer) for each in rows]).padded(4), height)
    placed: list[Piece] = []
    for group, box in boxes:
        panel = any(hasattr(each, "get_yticklabels") and each is not labels for each in group)
        placed.append((names, _box(box, height)) if panel else (_box(box, height),))
    return placed


def _boxes(artists: Sequence[Artist], renderer: Any) -> list[Bbox]:
    boxes = []
    for each in artists:
        if isinstance(each, Legend):
            # The sign before a text and the gap between the two, in units of the letters' size.
            for text in each.get_texts():
                left = (each.handlelength + each.handletextpad + 0.2) * float(text.get_fontsize())
                extent = text.get_window_extent(renderer)
                boxes.append(Bbox.from_extents(extent.x0 - left, extent.y0, extent.x1, extent.y1).padded(2))
    whole = [each.get_tightbbox(renderer) for each in artists if not isinstance(each, Legend)]
    if whole:
        boxes.append(Bbox.union([each for each in whole if each is not None]).padded(2))
    return boxes


def _box(box: Bbox, height: float) -> Box:
    return round(box.x0, 1), round(height - box.y1, 1), round(box.width, 1), round(box.height, 1)


def stacked(places: Sequence[Piece], name: str, alt: str) -> str:
    """The parts of a figure below each other, as windows on the one that `inline` put on the page.

    Args:
        places: what `pieces_of` gave, in reading order.
        name, alt: as for `inline`.
    """
    windows = []
    for place, boxes in enumerate(places):
        label = f'role="img" aria-label="{html.escape(alt, quote=True)}"' if place == 0 else 'aria-hidden="true"'
        width, (_, top, _, height) = sum(box[2] for box in boxes), boxes[-1]
        widest = f"width:{width * (_PIXELS_A_POINT if height < _LINE else _PIXELS_A_PIECE):.0f}px;max-width:100%"
        if len(boxes) == 1:
            inside, view = _use(name), _view(*boxes[0])
        else:
            lefts = itertools.accumulate((box[2] for box in boxes), initial=0.0)
            inside = "".join(
                f'<svg x="{left:.1f}" y="{y - top:.1f}" width="{w}" height="{h}" viewBox="{_view(x, y, w, h)}">'
                f"{_use(name)}</svg>"
                for left, (x, y, w, h) in zip(lefts, boxes, strict=False)
            )
            view = _view(0, 0, round(width, 1), height)
        windows.append(f'<svg viewBox="{view}" style="{widest}" {label}>{inside}</svg>')
    return "\n".join(windows)


def _view(*box: float) -> str:
    return " ".join(map(str, box))


def _use(name: str) -> str:
    return f'<use href="#{name}-{_WHOLE}"/>'


def inline(document: str, name: str, alt: str) -> str:
    """An SVG document as an element for a page: no prologue, ids that cannot meet those of another figure, alt text.

    Args:
        document: an SVG file of `to_bytes`.
        name: of the figure, a word; put before every id that is used.
        alt: what the figure shows, for readers who cannot see it.
    """
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', element))
    used = {one or other for one, other in used} | {_WHOLE}
    element = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", element)
    element = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', element)
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", element)
    # Hundredths of a point are seen by nobody and take a third of the room; only scales need every digit.
    element = re.sub(r' (d|x|y)="[^"]+"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), element)
    for ink, own in _PAGE_INKS.items():
        element = element.replace(ink, own)
    opening, rest = element.split(">", 1)
    width = float(re.findall(r'\swidth="([\d.]+)pt"', opening)[0])
    opening = re.sub(r'\s(width|height)="[^"]*pt"', "", opening)
    widest = f"max-width:{width * _PIXELS_A_POINT:.0f}px"  # a small figure is not blown up
    return f'{opening} style="{widest}" role="img" aria-label="{html.escape(alt, quote=True)}">{rest}'.strip()
