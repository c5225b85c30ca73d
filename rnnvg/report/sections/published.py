"""Each published figure beside the one found here, with a verdict and every setting in which the two differ."""

from __future__ import annotations

import pandas as pd

from rnnvg.report import style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Part, each_row
from rnnvg.report.results import Results

VERDICTS = {"reproduced": "reproduced", "partly": "partly", "not": "not reproduced"}  # everything else is untested


def frame(results: Results) -> pd.DataFrame:
    """The table `published` of a benchmark's directory."""
    return results.outcome.get("published", pd.DataFrame())


def published_shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The table `published` for readers."""
    rows = []
    for row in each_row(frame):
        where = f" ({row.where})" if row.where else ""
        published = wording.known(row.published)
        ours = row.status
        if row.status == "run":
            spread = f" ({wording.number(row.least)}–{wording.number(row.most)})" if row.runs > 1 else ""
            without = "" if pd.isna(row.baseline) else f" (without memory {wording.number(row.baseline)})"
            solved = (
                "" if row.metric == "perplexity" else f", {row.solved} of {row.runs} solved"
            )  # text is never solved
            ours = f"{wording.number(row.ours)}{spread}{without}{solved}"
        rows.append(
            {
                "task": f"{style.task_label(row.task)}, {row.metric}",
                "network": f"{style.cell_label(row.cell)}{where}",
                "published": ": ".join(each for each in (published, row.claim) if each),
                "here": ours,
                "what differs": row.difference,
                "source": row.source,
            }
        )
    return pd.DataFrame(rows)


def verdicts_shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Benchmark, published claim and verdict: a row a published figure, for the top of a page."""
    return pd.DataFrame(
        {
            "benchmark": frame["benchmark"],
            "network": [style.cell_label(cell) for cell in frame["cell"]],
            "published claim": [_claim(row) for row in each_row(frame)],
            "here": [wording.known(row.ours) for row in each_row(frame)],
            "verdict": [VERDICTS.get(verdict, "untested") for verdict in frame["verdict"]],
            "because": frame["because"],
        }
    )


def _claim(row: object) -> str:
    published, claim, metric = (getattr(row, name) for name in ("published", "claim", "metric"))
    number = "" if pd.isna(published) else f"{style.metric_short(metric)} {wording.number(published)}"
    return ": ".join(each for each in (number, claim) if each)


def sentences(rows: pd.DataFrame) -> list[str]:
    """How many published figures came out again."""
    counts = pd.Series([VERDICTS.get(verdict, "untested") for verdict in rows["verdict"]]).value_counts()
    if list(counts.index) == ["untested"]:
        figures = wording.count(len(rows), "published figure")
        return [
            f"None of the {figures} is tested here: the settings are not the paper's, or no tolerance was fixed before."
        ]
    parts = [f"{counts[name]} {name}" for name in [*VERDICTS.values(), "untested"] if name in counts]
    return [f"Published figures: {wording.listed(parts)}."]


def tables(rows: pd.DataFrame) -> list[Table]:
    """Benchmark, claim and verdict; and folded every setting that differs."""
    return [
        Table(verdicts_shown(rows), "Published figures, and what was found here: median over seeds."),
        Table(published_shown(rows), "Published figures with every known difference in settings.", folded=True),
    ]


PART = Part(
    name="published",
    title="Beside what was published",
    frame=frame,
    lead="Each published figure beside the one found here. A figure that could not be tested here says why.",
    sentences=sentences,
    tables=tables,
)
