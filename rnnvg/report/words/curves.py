"""Words under the figure of the gradient against distance."""

from __future__ import annotations

import math

import numpy as np

from rnnvg.report import curves, pooled
from rnnvg.report.results import Frame, Results
from rnnvg.report.style import AFTER, BEFORE
from rnnvg.report.wording import count, listed, power


def paragraphs(results: Results) -> list[str]:
    """How much of the gradient is left one training length back, before and after training."""
    single = pooled.curves(results)
    mean = pooled.mean_curves(single)
    if mean.empty:
        return ["No gradient was measured: no run came as far as its first checkpoint."]
    said = [_left(results, mean, problem) for problem in results.problems]
    said = [sentence for sentence in said if sentence]
    return [*said, *_beyond_the_frame(single, mean)]


def _left(results: Results, mean: Frame, problem: str) -> str:
    length = results.training_length(problem)
    at = mean[(mean["problem"] == problem)]
    if at.empty:
        return f"{problem}: nothing was measured."
    if length is None or not (at["distance"] == length).any():
        length = int(at.groupby(["network", "when"])["distance"].max().min())
        place = f"{count(length, 'time step')} back"
    else:
        place = f"one training length ({count(length, 'time step')}) back"
    at = at[at["distance"] == length]
    parts = []
    for when in (BEFORE, AFTER):
        now = at[at["when"] == when].sort_values("log10_gain", ascending=False, kind="stable")
        if len(now):
            left = [f"{power(row.log10_gain)} in {row.network}" for row in now.itertuples()]
            parts.append(f"{when} {listed(left)}")
    return f"{problem}, what is left {place}: {'; '.join(parts)}."


def _beyond_the_frame(single: Frame, mean: Frame) -> list[str]:
    said = []
    bottom, _ = curves.limits(single)
    finite = mean[np.isfinite(mean["log10_gain"])]
    lowest = finite.loc[finite["log10_gain"].idxmin()] if len(finite) else None
    if lowest is not None and lowest["log10_gain"] < bottom:
        said.append(
            f"The axis ends at {power(bottom)}; what leaves it goes on down, lowest of all {lowest['network']} "
            f"({lowest['problem'].lower()}, {lowest['when']}) with {power(lowest['log10_gain'])} at distance "
            f"{lowest['distance']}."
        )
    zero = mean[np.isneginf(mean["log10_gain"])]
    for (problem, network, when), rows in zero.groupby(["problem", "network", "when"], sort=False):
        said.append(
            f"{network}'s gradient ({problem.lower()}, {when}) is exactly zero at {count(len(rows), 'distance')} from "
            f"{rows['distance'].min()} on; a log axis cannot show it."
        )
    for (problem, network, when), rows in finite.groupby(["problem", "network", "when"], sort=False):
        peak = rows.loc[rows["log10_gain"].idxmax()]
        if peak["log10_gain"] > math.log10(2):
            said.append(
                f"{network}'s gradient ({problem.lower()}, {when}) grows: it is {power(peak['log10_gain'])} times its "
                f"size one step back at distance {peak['distance']}."
            )
    return said
