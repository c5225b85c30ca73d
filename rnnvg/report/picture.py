"""A figure as it stands on a page and in files: SVG, PNG, and the pieces that stack on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rnnvg.report import style
from rnnvg.report import svg as drawing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    pieces: tuple[drawing.Piece, ...] = ()

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
            drawing.lay_out(figure)
            pieces = drawing.pieces(figure, groups, labels) if len(groups) > 1 else []
            return cls(name, alt, caption, drawing.to_svg(figure), drawing.to_png(figure), tuple(pieces))
