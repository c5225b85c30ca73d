"""Words under the figure of the horizon against the training step: what came first, and in how many runs."""

from __future__ import annotations

from rnnvg.report import timing
from rnnvg.report.results import Frame, Results
from rnnvg.report.wording import listed, span, steps, time_steps


def paragraphs(results: Results) -> list[str]:
    """When the horizon opened, relative to the fall of the loss."""
    frame = timing.timing(results)
    if frame.empty:
        return ["No run was looked at more than once, so nothing can be said about when its horizon opened."]
    said = []
    for problem in results.problems:
        rows = frame[frame["problem"] == problem]
        networks = [_opening_of(network, rows[rows["network"] == network]) for network in results.networks(problem)]
        said.append(f"{problem}: {'; '.join(part for part in networks if part) or 'no run came to its end'}.")
    return [
        *said,
        "A horizon has opened when it has come half of the way, in logs, from its start to its largest, stays there to the "
        "end, and has at least doubled; a loss has fallen when it has come half of the way from the baseline to its "
        "lowest. Both are seen only at intervals: where those do not decide which came first, the two are said to come "
        "together.",
    ]


def _opening_of(network: str, rows: Frame) -> str:
    if rows.empty:
        return ""
    opened = rows[rows["opened_at"].notna()]
    closed = int((rows["order"] == timing.CLOSED).sum())
    if opened.empty and closed:
        share = f" in {closed} of {len(rows)} runs" if len(rows) > 1 else ""
        return f"the horizon of {network} opens and closes again{share}"
    if opened.empty:
        kept = f"at most {time_steps(steps(rows['most'].max()))}"
        return f"the horizon of {network} does not open{' in any run' if len(rows) > 1 else ''} ({kept})"
    share = f" in {len(opened)} of {len(rows)} runs" if len(rows) > 1 else ""
    orders = (
        (timing.BEFORE, "before its loss falls"),
        (timing.TOGETHER, "together with the fall of its loss"),
        (timing.AFTER, "after its loss has fallen"),
        (timing.NEVER_FELL, "without a fall of its loss"),
    )
    told = [(int((opened["order"] == order).sum()), text) for order, text in orders]
    told = [(many, text) for many, text in told if many]
    order = told[0][1] if len(told) == 1 else listed([f"{many} {text}" for many, text in told])
    again = f" (in {closed} more it opens and closes again)" if closed else ""
    return f"the horizon of {network} opens{share}, by step {span(opened['opened_at'])}, {order}{again}"
