"""What `rnnvg bench` says in plain text: what lies ahead, how far it is, what came out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.bench import Plan, State, Store, Timings
from rnnvg.bench.differences import Differences
from rnnvg.bench.estimate import in_words
from rnnvg.bench.merging import Merged
from rnnvg.bench.published import VERDICTS
from rnnvg.report.terminal import as_text


def ahead(out: Path, plan: Plan, jobs: int) -> dict[str, Any]:
    """What would be run: every run with its state and about how many seconds, and all together."""
    timings = Timings.near(out)
    results = Store(out).read().results
    rows = []
    for spec in plan.runs(results):
        done = spec.is_done_by(results.get(spec.id))
        rows.append({"run": spec.id, "state": "done" if done else "to do", "seconds": timings.seconds(spec)})
    left = [row["seconds"] for row in rows if row["state"] == "to do"]
    known = [seconds for seconds in left if seconds is not None]
    return {
        "directory": str(out),
        "runs": rows,
        "to_do": len(left),
        "jobs": jobs,
        "seconds": sum(known) / jobs if known or not left else None,
        "unknown": len(left) - len(known),
        "timings": timings.count,
        "climbing": any(climb.to_do(results) for climb in plan.climbs()),
        "missing": dict(plan.missing),
    }


def ahead_in_words(facts: Mapping[str, Any], width: int) -> str:
    """`ahead` as a table and a sentence."""
    rows = [{**row, "about": "" if row["state"] == "done" else in_words(row["seconds"])} for row in facts["runs"]]
    lines = [as_text(pd.DataFrame(rows)[["run", "state", "about"]], width), ""] if rows else []
    sentence = f"{facts['to_do']} of {len(rows)} runs would be done in {facts['directory']}"
    if facts["climbing"]:
        sentence += ", and those of further lengths, as the ladder goes"
    if facts["seconds"] is None:
        sentence += "; how long they take is unknown, for nothing like them was run there or beside it"
    elif facts["to_do"]:
        seconds, jobs, runs = in_words(facts["seconds"]), facts["jobs"], facts["timings"]
        sentence += f"; about {seconds} with --jobs {jobs}, judged by {runs} earlier runs"
        if facts["unknown"]:
            sentence += f", not counting {facts['unknown']} runs of which nothing is known"
    sentences = [f"{sentence}.", *(f"{task} would not be run. {what}" for task, what in facts["missing"].items())]
    return "\n".join([*lines, *(textwrap.fill(each, width) for each in sentences)])


def state_in_words(state: State) -> str:
    """How far a directory is."""
    done = sum(state.done.values())
    ended = ", ".join(f"{count} {status}" for status, count in sorted(state.done.items(), reverse=True))
    lines = [
        f"{', '.join(state.benchmarks)}: {done} of {state.runs} runs are done" + (f" ({ended})" if done else "") + "."
    ]
    lines += [f"{state.solved} solved their task."] if done else []
    if state.climbing:
        lines += ["A ladder goes on: longer lengths follow."]
    if state.under_way:
        lines += [f"Under way: {len(state.under_way)}"] + [f"  {run}: {who}" for run, who in state.under_way.items()]
    if state.left or state.under_way:
        lines += [f"Left: {len(state.left)}. All that is not done takes one worker about: {in_words(state.seconds)}."]
    lines += [f"{run} came to nothing: {reason}" for run, reason in state.failed.items()]
    lines += [f"{run} was given up and counts as not solved: {reason}" for run, reason in state.given_up.items()]
    lines += [
        f"{run} is damaged: {what}. The next run sets it aside and does it again."
        for run, what in state.damaged.items()
    ]
    if state.set_aside:
        lines += [f"Set aside, in set-aside/: {', '.join(state.set_aside)}"]
    lines += [f"{task} is not run. {what}" for task, what in state.missing.items()]
    return "\n".join(lines)


def outcome_in_words(frames: Mapping[str, pd.DataFrame], width: int) -> str:
    """Figures beside published ones, and ladders."""
    from rnnvg.report.sections.ladder import ladder_shown
    from rnnvg.report.sections.published import published_shown

    parts = []
    if "published" in frames:
        parts += [
            "Beside what was published: median (range) over seeds",
            as_text(published_shown(frames["published"]), width),
        ]
    if "ladder" in frames:
        parts += ["Largest length solved", as_text(ladder_shown(frames["ladder"], frames["rungs"]), width)]
    return "\n\n".join(parts)


def verdicts_in_words(table: pd.DataFrame, width: int) -> str:
    """How many figures are reproduced, and the table of all."""
    counts = table["verdict"].value_counts()
    counted = [f"{counts[each]} {each}" for each in VERDICTS if each in counts]
    shown = table.assign(
        published=[
            f"{value:g}" if value == value else claim
            for value, claim in zip(table["published"], table["claim"], strict=True)
        ],
        ours=[f"{value:.4g}" if value == value else "" for value in table["ours"]],
        hours=[f"{value:.2f}" for value in table["hours"]],
    ).rename(columns={"ours": "here", "because": "why"})
    columns = ["benchmark", "cell", "metric", "published", "tolerance", "here", "verdict", "hours", "why"]
    return f"{len(table)} published figures: {', '.join(counted)}.\n\n{as_text(shown[columns], width)}"


def differences_in_words(differences: Differences, width: int) -> str:
    """What differs between two directories."""
    one, other = differences.directories
    every = {**differences.settings, **differences.versions}
    lines = [f"{key}: {a} in {one}, {b} in {other}." for key, (a, b) in every.items()]
    lines = ["Settings that differ:", *lines, ""] if lines else []
    lines += [as_text(differences.shown(), width), "", textwrap.fill(differences.sentence(), width)]
    return "\n".join(lines)


def merged_in_words(merged: Merged) -> str:
    """What came of bringing directories together, for readers."""
    total = sum(map(len, merged.runs.values()))
    lines = [f"{total} runs in {merged.directory}"]
    lines += [f"  {len(runs)} of {place}" for place, runs in merged.runs.items()]
    if merged.again:
        lines.append(f"{len(merged.again)} were there more than once with the same numbers; each was taken once.")
    lines += [
        f"{run} differs: {what}. The first is taken; the others lie in set-aside." for run, what in merged.aside.items()
    ]
    lines += [f"Skipped: {place}: {what}" for place, what in merged.damaged.items()]
    return "\n".join([*lines, f"To see them: rnnvg report {merged.directory}"])
