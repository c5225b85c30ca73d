"""Words under the figures of why the gradient vanishes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rnnvg.bptt.gaussian import EDGE_ERROR, side_of_edge
from rnnvg.report import causes
from rnnvg.report.results import Frame, Results
from rnnvg.report.style import AFTER, BEFORE
from rnnvg.report.wording import count, listed, steps

LEAST_SHARE = 0.05
FAR = 3.0  # standard errors


def attribution(results: Results) -> list[str]:
    """What took the gradient, before and after training, in one sentence a problem and network."""
    nats, shares, gains = (causes.split(results, name) for name in ("nats", "share", "log_gain"))
    changed = causes.split(results, "counterfactual")
    said = []
    for problem in results.problems:
        told = []
        for network in results.networks(problem):
            after, before = (_moment(nats, shares, gains, problem, network, when) for when in (AFTER, BEFORE))
            after += _cure(changed, gains, problem, network) if after else ""
            if after or before:
                told.append(f"{network} {'; '.join(each for each in (after, before) if each)}")
        if told:
            said.append(f"{problem}: {'. '.join(told)}.")
    return [*said, *_recent(results)] if said else ["No attribution was measured."]


def _moment(nats: Frame, shares: Frame, gains: Frame, problem: str, network: str, when: str) -> str:
    gain = _at(gains, problem, network, when)
    if gain.empty:
        return ""
    last = int(gain["distance"].max())
    own = _at(nats, problem, network, when)
    if len(own):
        end = own[own["distance"] == own["distance"].max()].set_index("part")["value"]
        told = f"{end['saturation']:+.1f} nats saturation, {end['matrix']:+.1f} nats recurrent matrix"
        return f"{when}, over {count(last, 'step')}: {told}"
    own = _at(shares, problem, network, when)
    mean = own.groupby("part", sort=False)["value"].mean().sort_values(key=lambda each: -each.abs())
    paths = [f"{100 * share:.0f} % by the {name}" for name, share in mean.items() if abs(share) >= LEAST_SHARE]
    total = gain.loc[gain["distance"] == last, "value"].iloc[0]
    return f"{when}, over {count(last, 'step')}: {total:+.1f} nats" + (f", arriving {listed(paths)}" if paths else "")


def _cure(changed: Frame, gains: Frame, problem: str, network: str) -> str:
    """The counterfactual that would change the decay after training the most."""
    own, gain = _at(changed, problem, network, AFTER), _at(gains, problem, network, AFTER)
    if own.empty or gain.empty:
        return ""
    end = own[own["distance"] == own["distance"].max()].set_index("part")["value"]
    end = end[np.isfinite(end)]
    if end.empty:
        return ""
    best = end.idxmax()
    return f" (the same trajectory with {best} would give {end[best]:+.1f})"


def _recent(results: Results) -> list[str]:
    frame = causes.recent(results)
    said = []
    for problem, own in frame.groupby("problem", sort=False):
        told = [f"{100 * row.value:.0f} % in {row.network}" for row in own.itertuples()]
        last = int(own["last"].max())
        said.append(
            f"{problem}: of the update that the trained network's own loss asks for, the last {last} steps of a measured "
            f"sequence make {listed(told)}."
        )
    return said


def source_maps(results: Results) -> list[str]:
    """How far back the gradient of the latest and the earliest losses reaches, by the same threshold."""
    said = []
    for problem in results.problems:
        told = []
        for network in results.networks(problem):
            found = causes.source_map(results, problem, network)
            if found is None:
                continue
            reach = {source: _reach(found.loc[source]) for source in found.index if source >= found.index.max() // 4}
            if reach:
                least, most = min(reach.values()), max(reach.values())
                told.append(f"{network} {least} to {most}" if least != most else f"{network} {most}")
        if told:
            said.append(
                f"{problem}, distance at which a tenth is left, over the losses of one model: {listed(told)} steps."
            )
    return said or ["No map was measured."]


def _reach(row: Any) -> int:
    distance = row.index.to_numpy()
    left = distance[(row >= -1).to_numpy()]
    return int(left.max()) if left.size else 0


def exponents(results: Results) -> list[str]:
    """The largest exponent before and after training, over seeds, and whether it crosses zero."""
    frame = causes.exponents(results)
    frame = frame[(frame["index"] == 1) & np.isfinite(frame["value"])]
    said = []
    for problem in results.problems:
        told = []
        for network in results.networks(problem):
            own = frame[(frame["problem"] == problem) & (frame["network"] == network)]
            if own.empty:
                continue
            ends = own.groupby("id", sort=False)["value"].agg(["first", "last", "max"])
            crossed = int((ends["max"] > 0).sum())
            grows = f" and above zero at some checkpoint in {crossed} of {count(len(ends), 'run')}" if crossed else ""
            told.append(f"{network} from {_range(ends['first'])} to {_range(ends['last'])}{grows}")
        if told:
            said.append(f"{problem}, largest exponent in nats a step before and after training: {'; '.join(told)}.")
    if not said:
        return ["No exponent was measured."]
    return [
        *said,
        "Below zero every perturbation dies and so, in the long run, does the gradient, by a factor of e every 1/exponent "
        "steps; above zero it explodes.",
    ]


def _range(values: Any) -> str:
    least, most = values.min(), values.max()
    return f"{least:+.2f}" if f"{least:.2f}" == f"{most:.2f}" else f"{least:+.2f}..{most:+.2f}"


def theory(results: Results) -> list[str]:
    """Measured and predicted rates at initialisation with the z-score, and settings past the edge."""
    rates = causes.theory_rates(results)
    if rates.empty:
        return [
            "No network here starts as the theory supposes: one layer, PyTorch's default weights, a set forget bias."
        ]
    said = []
    for problem, own in rates.groupby("problem", sort=False):
        told = [_rate(row) for row in own.itertuples()]
        said.append(f"{problem}, nats a step: {'; '.join(told)}.")
    far = rates[rates["z"].abs() > FAR]
    if len(far):
        cases = [f"{row.network} ({row.problem.lower()})" for row in far.itertuples()]
        said.append(
            f"More than {FAR:g} standard errors from theory: {listed(cases)}. The theory is for inputs that are independent "
            "from step to step and for widths far above the distance; words and blanks that repeat are not, and with few "
            "seeds a standard error is itself uncertain."
        )
    for row in rates.itertuples():
        side = side_of_edge(row.edge, EDGE_ERROR)
        if side == "past the edge":
            said.append(
                f"{row.network} ({row.problem.lower()}) starts past the edge: {row.edge:.3f} a step at the zero state, which "
                "is unstable."
            )
        elif side == "at the edge":
            said.append(
                f"{row.network} ({row.problem.lower()}) starts at the edge: 1 a step at the zero state to within rounding."
            )
    return said


def _rate(row: Any) -> str:
    if math.isnan(row.stderr):
        return f"{row.network} {row.measured:+.3f} measured, {row.predicted:+.3f} predicted"
    return (
        f"{row.network} {row.measured:+.3f} ± {row.stderr:.3f} measured, {row.predicted:+.3f} predicted (z = {row.z:+.1f}, "
        f"{row.n} seeds)"
    )


def gates_shown(results: Results) -> Frame:
    """Gate statistics for readers: a row a problem, network, moment and gate."""
    import pandas as pd

    rows = []
    for row in causes.gates(results).itertuples():
        rows.append(
            {
                "task": row.problem,
                "network": row.network,
                "when": row.when.split()[0],
                "gate": row.gate + (f", layer {row.layer}" if row.layer else ""),
                "mean": f"{row.mean:.2f}",
                "below 0.1": f"{100 * row.closed:.0f} %",
                "above 0.9": f"{100 * row.open:.0f} %",
                "implied time constant": "" if math.isnan(row.implied) else steps(row.implied),
                "measured e-fold": "" if math.isnan(row.measured) else steps(row.measured),
            }
        )
    return pd.DataFrame(rows)


def _at(frame: Frame, problem: str, network: str, when: str) -> Frame:
    return frame[(frame["problem"] == problem) & (frame["network"] == network) & (frame["when"] == when)]
