"""The first words of a report: what was run, and what came out of it at a glance."""

from __future__ import annotations

import numpy as np

from rnnvg.report import pooled
from rnnvg.report.results import Results
from rnnvg.report.style import AFTER
from rnnvg.report.wording import count, listed, middle


def paragraphs(results: Results) -> list[str]:
    """How many runs of what, then a line a problem: horizons after training and how many runs solved it."""
    return [_runs(results), *(_glance(results, problem) for problem in results.problems), *_damaged(results)]


def _runs(results: Results) -> str:
    runs = results.runs
    seeds = runs.groupby(["problem", "network"], sort=False)["id"].nunique()
    many = count(seeds.max(), "seed") if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()} seeds"
    broken = [f"{sum(runs['status'] == status)} {status}" for status in ("diverged", "failed")]
    broken = [told for told in broken if not told.startswith("0 ")]
    return (
        f"{count(len(runs), 'run')}: {count(len(results.problems), 'task')}, "
        f"{count(len(results.networks()), 'network')}, {many} each{'; ' * bool(broken)}{', '.join(broken)}. "
        "Memory horizons after training, in time steps, and how many runs solved their task:"
    )


def _glance(results: Results, problem: str) -> str:
    table = pooled.horizons(results)
    runs = results.runs[results.runs["problem"] == problem]
    told = []
    for network in results.networks(problem):
        own = runs[runs["network"] == network]
        solved = f"{(own['solved'] & (own['status'] == 'ok')).sum()} of {len(own)} solved"
        reach = "no horizon"
        if len(table):
            chosen = (table["problem"] == problem) & (table["network"] == network) & (table["when"] == AFTER)
            chosen &= (table["wrt"] == "state") & np.isclose(table["threshold"], pooled.THRESHOLD) & (table["n"] > 0)
            rows = list(table[chosen].itertuples())
            reach = middle(rows[0]) if rows else reach
        told.append(f"{network} {reach} ({solved})")
    return f"{problem}: {listed(told)}."


def _damaged(results: Results) -> list[str]:
    told = [f"{run} ({fault})" for run, fault in results.damaged.items()]
    return [f"Left out because their files are not as they were written: {listed(told)}."] if told else []
