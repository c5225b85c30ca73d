"""What came out: one sentence, one table, and the memory horizon of every network before and after training."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rnnvg.bench.spec import GIVEN_UP
from rnnvg.bench.stored import BROKEN_OFF
from rnnvg.report import pooled, style, wording
from rnnvg.report.page import Table
from rnnvg.report.part import Panels, Part, nothing
from rnnvg.report.results import RUN, Results, moments
from rnnvg.report.style import AFTER, BEFORE

GROWTH = 2.0  # a horizon has opened in a run where training has made it more than twice as long
NUMBER_WORDS = {2: "both", 3: "all three", 4: "all four", 5: "all five"}
# Each network has a row, 1 high: before training in its upper half, after in its lower, the seeds under their median.
LANES = {BEFORE: 0.28, AFTER: -0.16}
SEEDS_BELOW = 0.17
LONG_NAME = 18  # letters of a network's name beside the figure in one line


def frame(results: Results) -> pd.DataFrame:
    """A row a run and moment: id, problem, network, cell, seed, status, metric, value, baseline, best_loss, solved, when,
    last, censored.

    A run without a horizon at a moment has a nan there; `by` is what the gradient is taken by, "state" or "input".
    """
    runs = results.runs[[*RUN, "status", "metric", "value", "baseline", "best_loss", "solved"]]
    seen = pooled.at(moments(results.horizons), results.by).reindex(columns=["id", "when", "last", "censored"])
    rows = runs.merge(pd.DataFrame({"when": [BEFORE, AFTER]}), how="cross").assign(by=results.by)
    return rows.merge(seen.astype({"last": float}), on=["id", "when"], how="left")


# Words ------------------------------------------------------------------------------------------------------------------


def sentences(rows: pd.DataFrame) -> list[str]:
    """Where the gradient came to reach farther through training, and where it did not; and how many runs were given up."""
    runs = rows.drop_duplicates("id")
    given_up = int((runs["status"] == GIVEN_UP).sum())
    clauses = [
        f"{wording.count(given_up, 'run')} of {len(runs)} {'were' if given_up > 1 else 'was'} given up at a tenth of the "
        "budget: not solved, and in no median."
    ]
    return [*_reach(rows), *clauses[: given_up > 0]]


def _reach(rows: pd.DataFrame) -> list[str]:
    runs = _opened(rows)
    if runs.empty:
        return ["No memory horizon was measured both before and after training."]
    counts = runs.groupby(["network", "problem"], sort=False)["opened"].agg(["sum", "size"])
    networks = list(dict.fromkeys(runs["network"]))
    full = [network for network in networks if (counts.loc[network]["sum"] == counts.loc[network]["size"]).all()]
    never = [network for network in networks if not counts.loc[network]["sum"].any()]
    some = [network for network in networks if network not in full and network not in never]
    everywhere = _everywhere(list(dict.fromkeys(rows["problem"])))
    if not full and not some:
        return [f"After training the gradient reaches more than twice as far back as before in no run{everywhere}."]
    # A run that broke off has no horizon after training.
    every = "every run" if (rows["status"] == "ok").all() else "every run that came to its end"
    parts = [f"with {wording.listed(full)} in {every}{everywhere}"] if full else []
    if 0 < len(some) <= 2:
        parts += [f"with {network} {_partly(counts.loc[network], len(some))}" for network in some]
    elif some:
        parts.append(f"with {wording.listed(some)} in some runs")
    if never:
        parts.append(f"with {wording.listed(never)} in none")
    return [f"After training the gradient reaches more than twice as far back as before: {', '.join(parts)}."]


def _opened(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a run with a horizon at both moments: network, problem, opened."""
    wide = rows.pivot_table(
        index=["id", "network", "problem"], columns="when", values="last", sort=False, aggfunc="first"
    ).reset_index()
    if not {BEFORE, AFTER} <= set(wide):
        return pd.DataFrame(columns=["network", "problem", "opened"])
    wide = wide.dropna(subset=[BEFORE, AFTER])
    return wide.assign(opened=wide[AFTER] > GROWTH * wide[BEFORE].clip(lower=1))[["network", "problem", "opened"]]


def _everywhere(problems: list[str]) -> str:
    if len(problems) == 1:
        return ""
    return f" on {NUMBER_WORDS.get(len(problems), 'all')} tasks"


def _partly(counts: pd.DataFrame, networks: int) -> str:
    """Where one network reaches back, with at most two pairs of counts, or one where two networks are worded so."""
    whole = [str(problem) for problem, row in counts.iterrows() if row["sum"] == row["size"]]
    partly = [(str(problem), row) for problem, row in counts.iterrows() if 0 < row["sum"] < row["size"]]
    if len(partly) > (2 if networks == 1 else 1) or len(whole) > 2:
        return f"in {counts['sum'].sum()} of {counts['size'].sum()} runs"
    parts = [f"in every run on {wording.listed([wording.problem(name) for name in whole])}"] if whole else []
    parts += [f"in {row['sum']} of {row['size']} runs on {wording.problem(name)}" for name, row in partly]
    return wording.listed(parts)


# The table --------------------------------------------------------------------------------------------------------------


def tables(rows: pd.DataFrame) -> list[Table]:
    """Task x network: horizon of each seed before and after training, score against baseline, solved."""
    best = {str(problem): _best(own) for problem, own in rows.groupby("problem", sort=False)}
    shown = [
        _row(str(names[0]), str(names[1]), own, best) for names, own in rows.groupby(["problem", "network"], sort=False)
    ]
    each = rows.groupby(["problem", "network"])["id"].nunique().max()
    beside = "" if each == 1 else " (each seed)" if each <= 5 else " [interval over seeds]"
    caption = (
        f"Median{beside}. Memory horizon: the last distance, in time steps, at which at least 1/e (37 %) of the gradient "
        "that arrives one step back is left."
    )
    if each == 1:
        caption = caption.removeprefix("Median. ")
    if pooled.by(rows) == "input":
        caption += f" {wording.by_input('input')}"
    if rows["metric"].eq("perplexity").any():
        caption += (
            " Text is never solved: its perplexity stands between that of word frequencies alone and the best known"
        )
        caption += " (here: of these networks)." if any("here" in each for each in best.values()) else "."
    return [Table(pd.DataFrame(shown), caption)]


def _best(rows: pd.DataFrame) -> str:
    """The lowest perplexity known: of a generated text the least possible one, else the best network's; else empty."""
    ended = rows[(rows["metric"] == "perplexity") & (rows["status"] == "ok")]
    if ended.empty:
        return ""
    least = ended["best_loss"].dropna()
    return f"{wording.number(ended['value'].min())} (here)" if least.empty else wording.number(math.exp(least.iloc[0]))


def _row(problem: str, network: str, rows: pd.DataFrame, best: dict[str, str]) -> dict[str, str]:
    runs = rows[rows["when"] == BEFORE]
    ended = runs[runs["status"] == "ok"]
    metric = next(iter(runs["metric"].dropna()), None)
    text = metric == "perplexity"
    baseline = next(iter(runs["baseline"].dropna()), math.nan)
    solved = int((ended["solved"]).sum())
    broken = [f"{count} {status}" for status in BROKEN_OFF if (count := int((runs["status"] == status).sum()))]
    return {
        "task": problem,
        "network": network,
        "horizon before": wording.over(pooled.over(rows[(rows["when"] == BEFORE) & rows["last"].notna()])),
        "after": wording.over(pooled.over(rows[(rows["when"] == AFTER) & rows["last"].notna()])),
        "score": f"{style.metric_short(metric)} {wording.values(ended['value'])}" if metric else "none",
        "baseline": wording.known(baseline),
        **({"best known": best[problem]} if any(best.values()) else {}),
        "solved": "; ".join(["–" if text else f"{solved} of {len(runs)}", *broken]),
    }


# The figure -------------------------------------------------------------------------------------------------------------


def draw(rows: pd.DataFrame, panels: Panels) -> None:
    """Draws horizons in time steps, a panel a problem, a row a network; what is only known to be larger is marked ">"."""
    networks = list(panels.looks)
    for problem, (ax,), own in panels.each(rows):
        length = panels.lengths[problem]
        most = axis_end(own, length)
        style.horizon_axis(ax, "x", most)
        if length is not None:
            ax.axvline(length, color=style.INK, linewidth=0.9, linestyle=style.TRAINING_DASHES, zorder=1)
        for place, network in enumerate(reversed(networks)):
            mine = own[(own["network"] == network) & own["last"].notna()]
            for when in (BEFORE, AFTER):
                seeds = mine[mine["when"] == when]
                if len(seeds) > 1:
                    _seeds(ax, seeds, place + LANES[when] - SEEDS_BELOW, panels.looks[network], when)
                _median(ax, seeds, place + LANES[when], panels.looks[network], when)
            if (own["network"] == network).any() and mine.empty:
                nothing(ax, "no measurement") if len(networks) == 1 else ax.annotate(
                    "no measurement", (0.5, place), color=style.MUTED, va="center"
                )
        ax.set_xlabel(f"horizon{' by the input' * (pooled.by(rows) == 'input')} at 1/e (time steps)")
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        for edge in range(1, len(networks)):
            ax.axhline(edge - 0.5, color=style.GRID, linewidth=0.8, zorder=0)
        ax.set_yticks(range(len(networks)), [_two_lines(each) for each in networks[::-1]])
        ax.set_ylim(-0.55, len(networks) - 0.45)
    panels.legend(_entries(rows), networks=False)


def _two_lines(network: str) -> str:
    """A long name in lines that leave room for the panel, broken first before what stands in brackets."""
    name, bracket, rest = network.partition(" (")
    if len(network) <= LONG_NAME or not bracket:
        return textwrap.fill(network, LONG_NAME, break_long_words=False)
    return f"{textwrap.fill(name, LONG_NAME, break_long_words=False)}\n({rest}"


def axis_end(rows: pd.DataFrame, length: int | None) -> float:
    """Where the horizon axis of a problem ends, in steps: past every seed and the training length."""
    return 1.9 * max([2.0, *rows["last"].dropna(), float(length or 0)])


def _seeds(ax: Axes, seeds: pd.DataFrame, at: float, look: tuple[str, str, Any], when: str) -> None:
    colour, marker, _ = look
    dots: Any = {"linestyle": "none", "markersize": 4.2, "markeredgewidth": 0.7, "alpha": 0.75, "zorder": 2}
    dots |= {"markeredgecolor": colour, "markerfacecolor": "none" if when == BEFORE else colour}
    offsets = at + 0.035 * (np.arange(len(seeds)) - (len(seeds) - 1) / 2)
    censored = seeds["censored"].to_numpy(dtype=bool)
    for chosen, sign in ((~censored, marker), (censored, ">")):
        if chosen.any():
            label = "censored seeds" if sign == ">" else "seeds"
            ax.plot(seeds["last"][chosen], offsets[chosen], marker=sign, label=label, **dots)


def _median(ax: Axes, seeds: pd.DataFrame, at: float, look: tuple[str, str, Any], when: str) -> None:
    colour, marker, _ = look
    over_seeds = pooled.over(seeds)
    if over_seeds is None:
        return
    low, high, median = over_seeds.low, over_seeds.high, over_seeds.median
    if over_seeds.n > 1:
        ax.plot([low.seen, high.seen], [at, at], color=colour, linewidth=1.8, zorder=3, label="interval")
        if high.above:  # goes on beyond what was observed
            beyond: Any = {"marker": ">", "markersize": 5, "clip_on": False}
            ax.plot(high.seen, at, color=colour, zorder=3, label="goes on", **beyond)
    edge: Any = {"markersize": 8, "markeredgewidth": 1.6, "markeredgecolor": colour}
    face = style.PAPER if when == BEFORE else colour
    sign = ">" if median.above else marker
    ax.plot(median.seen, at, linestyle="none", marker=sign, markerfacecolor=face, zorder=4, label="median", **edge)


def _entries(rows: pd.DataFrame) -> list[Any]:
    entries = [style.mark("o", BEFORE, markerfacecolor="none", markeredgewidth=1.6), style.mark("o", AFTER)]
    seeds = rows[rows["last"].notna()].groupby(["problem", "network", "when"])["id"].nunique()
    if len(seeds) and seeds.max() > 1:
        name = "range over seeds" if seeds.max() < 6 else "interval over seeds"
        entries.append(style.mark("o", "one seed", markersize=4.2, alpha=0.75))
        entries.append(style.line(name, linewidth=1.8))
    if rows["censored"].eq(True).any():
        entries.append(style.mark(">", "more than was observed"))
    return [*entries, style.training_length()]


PART = Part(
    name="memory-horizons",
    title="What came out",
    frame=frame,
    caption="Large: median over seeds. Log axis, with a place for 0.",
    alt="Memory horizon at 1/e of every seed and their median, before and after training",
    draw=draw,
    height=lambda networks: 0.62 * networks + 0.7,
    sentences=sentences,
    tables=tables,
)
