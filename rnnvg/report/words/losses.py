"""Words under the figure of the loss curves: who learned the task, and which runs broke off."""

from __future__ import annotations

from rnnvg.report import style, timing
from rnnvg.report.results import Frame, Results
from rnnvg.report.wording import listed, number, span


def paragraphs(results: Results) -> list[str]:
    """Which networks learned the task, how far the others are from the baseline, and which runs broke off."""
    said = []
    for problem in results.problems:
        runs = results.runs[results.runs["problem"] == problem]
        told = [_learned(network, runs[runs["network"] == network]) for network in results.networks(problem)]
        said.append(f"{problem}: {'; '.join(told)}{_baseline(results, problem)}.")
    broken = results.runs[results.runs["status"] != "ok"]
    if len(broken):
        told = [
            f"{run.network} on {run.problem.lower()}, seed {run.seed}, {run.status}"
            + (f" ({run.reason.rstrip('.')})" if run.reason else "")
            for run in broken.itertuples()
        ]
        said.append(f"Broke off: {listed(told)}.")
    return said


def _baseline(results: Results, problem: str) -> str:
    metric, value, how = (results.known(problem, column) for column in ("metric", "baseline", "baseline_text"))
    if value is None:
        return ""
    return f". Baseline: {how.rstrip('.') if how else f'{style.metric_label(metric)} {number(value)}'}"


def _learned(network: str, runs: Frame) -> str:
    ended = runs[runs["status"] == "ok"]
    if ended.empty:
        return f"no run of {network} came to its end"
    solved = ended[ended["solved"]]
    metric = style.metric_label(ended["metric"].iloc[0] or "score")
    value = (
        f"{'median ' * (len(ended) > 1)}{metric} {number(ended['value'].median())}"
        if ended["value"].notna().any()
        else "no score"
    )
    at_baseline = ended["loss"].median() >= timing.FALL * ended["baseline_loss"].iloc[0]
    stays = ", its loss not even 5 % below the baseline's" if at_baseline else ""
    if solved.empty:
        none = f"solves it in none of {len(runs)} runs" if len(runs) > 1 else "does not solve it"
        return f"{network} {none} ({value}{stays})"
    when = f" by step {span(solved['solved_at'])}" if solved["solved_at"].notna().all() else ""
    share = f" in {len(solved)} of {len(runs)} runs" if len(runs) > 1 else ""
    return f"{network} solves it{share}{when} ({value})"
