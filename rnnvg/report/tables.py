"""The report's tables of numbers: horizons, scores against baselines, and the settings to get them again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rnnvg.report import pooled, wording
from rnnvg.report.results import Results, read
from rnnvg.report.sections import learned, settings


def horizon_table(source: str | Path | Results) -> pd.DataFrame:
    """Memory horizons over seeds: a row per problem, network, wrt, threshold and moment.

    Args:
        source: a results directory, or what `results.read` gave.

    Returns:
        DataFrame with problem, network, cell, wrt ("state", "input", ...), threshold, when ("before training", "after
        training"), runs, n (seeds measured), n_censored, median, low, high, coverage, bound, least, most as
        `pooled.horizons` defines them, in time steps (nan where there is none; an infinite median is read "> bound"), and
        horizon, the same as text: the median, and each seed's value or from six seeds on the interval.

    Raises:
        InputError: `source` is a directory without results.
    """
    frame = pooled.horizons(results_of(source))
    written = [wording.over(spread) for spread in frame["spread"]]
    return frame.drop(columns="spread").assign(horizon=written) if len(frame) else frame.drop(columns="spread")


def score_table(source: str | Path | Results) -> pd.DataFrame:
    """Scores against baselines: a row per problem and network.

    Args:
        source: a results directory, or what `results.read` gave.

    Returns:
        DataFrame with problem, network, cell, runs, ok, diverged, failed, given_up (counts), solved (count), solved_fraction,
        solved_low, solved_high (exact 95 % binomial interval, Clopper and Pearson 1934; a run that diverged or failed
        has not solved its task), steps_to_solve (median over solved runs), metric, baseline_text, value, least, most
        (median and range over runs that came to their end), baseline, baseline_loss, best_loss (nan where unknown), loss,
        seconds and parameters (medians).

    Raises:
        InputError: `source` is a directory without results.
    """
    return learned.scores(learned.runs_of(learned.frame(results_of(source)))).drop(columns="values")


def settings_table(source: str | Path | Results) -> pd.DataFrame:
    """Every setting that the results depend on, a row each, and the versions that they were made with.

    Returns:
        DataFrame with group ("task", "network", "training", "measure", "versions"), setting, and a column a problem.
        Values that differ between the runs of a problem are listed.
    """
    return settings.settings_wide(settings.frame(results_of(source)))


def results_of(source: str | Path | Results) -> Results:
    """The results of a directory, or those given."""
    return source if isinstance(source, Results) else read(source)
