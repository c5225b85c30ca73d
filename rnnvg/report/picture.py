"""A figure as it stands on a page and in files: SVG, PNG, and the pieces that stack on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rnnvg.report import style
from rnnvg.report import svg as drawing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
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
    pieces: tuple[drawing.Box, ...] = ()

    @classmethod
    def of(
        cls, figure: Figure, name: str, caption: str = "", alt: str = "", groups: Sequence[Sequence[Artist]] = ()
    ) -> Picture:
        """The picture of a finished figure, saved in the house style.

        Args:
            groups: artists (axes, legends) of each piece; none: the figure is one piece.
        """
        with style.applied():
            document = drawing.to_svg(figure)
            figure.set_layout_engine("none")  # the places found for the first hold for the second: half of the work
            figure.draw_without_rendering()
            pieces = [box for group in groups for box in drawing.boxes(figure, group)] if len(groups) > 1 else []
            return cls(name, alt, caption, document, drawing.to_png(figure), tuple(pieces))
