"""A section of the report, added by this one file: how many parameters each network has."""

from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part


def frame(results):
    return results.runs[["problem", "network", "cell", "parameters"]].dropna().drop_duplicates()


def sentences(rows):
    largest = rows.loc[rows["parameters"].idxmax()]
    return [f"{largest['network']} has most parameters: {largest['parameters']:,.0f}."]


def draw(rows, panels: Panels):
    for _, (ax,), own in panels.each(rows):
        colours = [panels.looks[network][0] for network in own["network"]]
        ax.bar(own["network"], own["parameters"], color=colours)
        ax.set_ylabel("parameters")
    panels.legend([])


def tables(rows):
    return [Table(rows[["problem", "network", "parameters"]], "Parameters of each network.")]


PART = Part(
    name="parameters",
    title="Parameters",
    frame=frame,
    caption="Each network is one bar.",
    alt="Parameters of each network",
    draw=draw,
    sentences=sentences,
    tables=tables,
)
