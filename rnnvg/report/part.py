"""A section of the report before it meets results: what it measures, draws, says and tabulates.

One file in `sections/` holds one part; a page is a list of them. A part's frame is made once, and its figure, sentences and
tables are made of that frame alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnnvg.report import pooled, style, wording
from rnnvg.report.page import Section, Table
from rnnvg.report.picture import Picture
from rnnvg.report.results import Results
from rnnvg.report.wording import count, listed


@dataclass(eq=False)
class Panels:
    """The axes of a section's figure, and what every figure of a report shares.

    Attributes:
        figure: the whole figure.
        axes: [rows, problems] Axes.
        problems: in the order of the columns.
        looks: network -> (colour, marker, dashes).
        lengths: problem -> length of a training sequence in time steps, None where no run came far enough to say.
        groups: the pieces of the figure in reading order, filled as legends are added.
    """

    figure: Figure
    axes: Any
    problems: Sequence[str]
    looks: dict[str, tuple[str, str, Any]]
    lengths: dict[str, int | None]
    groups: list[list[Artist]] = field(default_factory=list)

    def each(self, frame: pd.DataFrame) -> Iterator[tuple[str, Any, pd.DataFrame]]:
        """Gives problem, its column of axes [rows], its rows of `frame`; panels without one say that nothing was measured."""
        for place, problem in enumerate(self.problems):
            own = frame[frame["problem"] == problem]
            self.axes[0, place].set_title(style.title(problem))
            if own.empty:
                for ax in self.axes[:, place]:
                    nothing(ax)
            yield problem, self.axes[:, place], own

    def legend(self, entries: Sequence[Any], networks: bool = True) -> None:
        """Puts one legend above all axes: the networks' lines, unless left out, then `entries`."""
        lines = style.lines(self.looks) if networks else []
        drawn = style.legend_above(self.figure, [*lines, *entries])
        self.groups += [[drawn], *([*column] for column in self.axes.T)]

    def row_legends(self, entries: Sequence[Sequence[Any]]) -> None:
        """Puts a legend of its own above each row."""
        for row, own in zip(self.axes, entries, strict=True):
            drawn = [style.legend_above(row[0].figure, list(own), self.figure.get_figwidth())] if own else []
            self.groups += [drawn, *([ax] for ax in row)]


@dataclass(frozen=True)
class Part:
    """One section.

    Attributes:
        name: anchor on the page and stem of the figure's files.
        title: heading.
        frame: results -> the tidy frame that everything below is made of, with the columns problem, network and cell; an
            empty frame leaves the section out.
        lead: what is asked, the same for every run; a function of the frame where it names what was measured.
        caption: how to read the figure, the same for every run; a function of the frame where it names what was measured.
        alt: what the figure shows, for readers who cannot see it; the networks and tasks are added.
        draw: draws the frame on Panels and adds their legend; None for a section without a figure.
        rows, height, sharey: rows of panels, height of one in inches (either may be a function of the number of networks),
            whether all share the y axis.
        own_problems: panels only for the problems in the frame, instead of for all.
        single: one panel for all problems.
        network_rows: every row is a figure of its own, with a legend of its own.
        sentences: what this run shows, at most two sentences of at most four numbers; other numbers belong into tables.
        tables: sortable tables.
        folded: closed until a reader opens it.
    """

    name: str
    title: str
    frame: Callable[[Results], pd.DataFrame]
    lead: str | Callable[[pd.DataFrame], str] = ""
    caption: str | Callable[[pd.DataFrame], str] = ""
    alt: str = ""
    draw: Callable[[pd.DataFrame, Panels], None] | None = None
    rows: int | Callable[[int], int] = 1
    height: Callable[[int], float] | float = 2.4
    sharey: bool = False
    own_problems: bool = False
    single: bool = False
    network_rows: bool = False
    sentences: Callable[[pd.DataFrame], list[str]] = lambda frame: []
    tables: Callable[[pd.DataFrame], list[Table]] = lambda frame: []
    folded: bool = False

    def section(self, results: Results) -> Section | None:
        """The section of one directory's results; None where they hold nothing for it."""
        frame = self.frame(results)
        if frame.empty:
            return None
        picture = self.picture(results, frame) if self.draw is not None else None
        lead = self.lead(frame) if callable(self.lead) else self.lead
        return Section(
            self.name, self.title, lead, picture, self.sentences(frame), self.tables(frame), folded=self.folded
        )

    def picture(self, results: Results, frame: pd.DataFrame | None = None, name: str = "") -> Picture:
        """The figure, saved; `name` is its own where a page has the section more than once."""
        frame = frame if frame is not None else self.frame(results)
        panels = self.panels(results, frame)
        caption = self.caption(frame) if callable(self.caption) else self.caption
        left_out = wording.left_out(results.without_state) if "by" in frame else ""
        caption = " ".join(filter(None, (caption, wording.by_input(pooled.by(frame)), left_out)))
        return Picture.of(panels.figure, name or self.name, caption, f"{self.alt}: {who(results)}.", panels.groups)

    def panels(self, results: Results, frame: pd.DataFrame | None = None) -> Panels:
        """The figure, drawn."""
        if self.draw is None:
            raise TypeError(f"The section {self.name!r} has no figure.")
        frame = frame if frame is not None else self.frame(results)
        shown = results.problems if not self.own_problems else set(frame["problem"])  # type: ignore[index]
        problems = [each for each in results.problems if each in shown]
        with style.applied():
            networks = results.networks()
            make = style.row_panels if self.network_rows else style.panels
            rows = self.rows(len(networks)) if callable(self.rows) else self.rows
            height = self.height(len(networks)) if callable(self.height) else self.height
            figure, axes = make(rows, 1 if self.single else len(problems), height=height, sharey=self.sharey)
            lengths = {problem: results.training_length(problem) for problem in problems}
            panels = Panels(figure, axes, problems, style.looks(results), lengths)
            self.draw(frame, panels)
        return panels


def each_row(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows as named tuples, whose fields a type checker takes for anything: pandas does not know their types."""
    return iter(frame.itertuples())


def each_network(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Gives problem, network and their rows of a frame, in its order."""
    for (problem, network), own in rows.groupby(["problem", "network"], sort=False):
        yield str(problem), str(network), own


def by_network(rows: pd.DataFrame, cells: Callable[[pd.DataFrame], dict[str, Any]]) -> pd.DataFrame:
    """A table for readers: a row a task and network, with the cells that its rows of a section's frame come to."""
    return pd.DataFrame([{"task": task, "network": name, **cells(own)} for task, name, own in each_network(rows)])


def who(results: Results) -> str:
    """The networks and tasks of some results, or how many where they are many."""

    def some(names: list[str], what: str) -> str:
        return listed(names) if len(names) <= 5 else count(len(names), what)

    return f"{some(results.networks(), 'network')} on {some([name.lower() for name in results.problems], 'task')}"


def nothing(ax: Axes, text: str = "nothing measured") -> None:
    """Says in an empty panel that it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", color=style.MUTED)
