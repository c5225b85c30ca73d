"""Two directories of results: what differs between them beyond noise, networks paired by seed.

A pair is two runs that share task, cell, seed and every setting but those in which the directories differ as a whole
(all of A has lr 0.005, all of B 0.003: that is the question, and not what keeps runs apart). The unit of replication is
a seed. Scores and horizons are compared by the exact sign-flip test, horizons and scores above 0 as logs, so that a
difference is a ratio; the change is the median over pairs, with the range of the pairs below six of them and order
statistics from six on. Horizons of which some are censored are compared by an exact sign test over the pairs whose order
is known, solved fractions by the exact test of McNemar (1947) over the pairs that disagree. p-values are corrected by
Holm (1979) for how many are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnnvg.bench.spec import GIVEN_UP
from rnnvg.bench.store import Store, load_results
from rnnvg.errors import InputError
from rnnvg.horizon import least_p, sign_flip, spread
from rnnvg.horizon.intervals import sign_test
from rnnvg.notebook import Shown

LEVEL = 0.05
COLUMNS = ("task", "network", "what", "pairs", "a", "b", "change", "low", "high", "kind", "p", "p_holm", "verdict")
_NETWORK = ("init", "hidden", "layers")


@dataclass(frozen=True, eq=False, repr=False)
class Differences(Shown):
    """What differs between A and B.

    Attributes:
        rows: task, network, what (a metric, a horizon or "solved"), pairs, a and b (median, or count for "solved"), change
            (b relative to a, median over pairs: a ratio or a difference, as `kind` says), low and high (range over fewer
            than six pairs, else order statistics), p, p_holm, verdict ("identical" digit for digit, "differs", "within
            noise", "too few pairs" for any difference to show, "one pair").
        settings, versions: name -> (value in A, value in B), where all of A differs from all of B.
        unpaired: "A" and "B" -> how many runs have no partner.
        given_up: "A" and "B" -> how many runs the stopping rule ended: not solved, and in no comparison of scores or horizons.
        directories: A and B as they were passed.
    """

    rows: pd.DataFrame
    settings: Mapping[str, tuple[Any, Any]]
    versions: Mapping[str, tuple[Any, Any]]
    unpaired: Mapping[str, int]
    given_up: Mapping[str, int]
    directories: tuple[str, str]

    @property
    def names(self) -> tuple[str, str]:
        """Short names of the two directories: as many last parts of their paths as tell them apart, or A and B."""
        a, b = (Path(each).parts for each in self.directories)
        for count in range(1, max(len(a), len(b)) + 1):
            if a[-count:] != b[-count:]:
                return str(Path(*a[-count:])), str(Path(*b[-count:]))
        return "A", "B"

    def shown(self) -> pd.DataFrame:
        """The rows for readers."""
        lines = []
        rows: Any = self.rows.itertuples()  # stubs read a cell as anything that it could be
        for row in rows:
            interval = "" if math.isnan(row.low) else f" [{row.low:.3g}, {row.high:.3g}]"
            sign = "x " if row.kind == "ratio" else ""
            change = "" if math.isnan(row.change) else f"{sign}{row.change:.3g}{interval}"
            p = "" if math.isnan(row.p_holm) else f"{row.p_holm:.2g}"
            lines.append(
                (row.task, row.network, row.what, row.pairs, f"{row.a:.4g}", f"{row.b:.4g}", change, p, row.verdict)
            )
        a, b = self.names
        names = ["task", "network", "what", "pairs", a, b, f"{b} against {a}", "p (Holm)", "verdict"]
        return pd.DataFrame(lines, columns=names)

    def __str__(self) -> str:
        return self.sentence()

    def _table(self) -> pd.DataFrame:
        return self.shown()

    def sentence(self) -> str:
        """What came out, in a sentence."""
        counts = self.rows["verdict"].value_counts()
        a, b = self.directories
        most = int(self.rows["pairs"].max())
        words = f"{b} against {a}, {len(self.rows)} figures of at most {most} pair{'s' * (most != 1)} of networks: "
        words += f"{counts.get('differs', 0)} differ beyond noise, {counts.get('within noise', 0)} do not, "
        words += f"{counts.get('identical', 0)} are the same in every digit"
        if counts.get("too few pairs", 0):
            words += f", {counts['too few pairs']} have too few pairs to settle anything"
        if counts.get("one pair", 0):
            words += f", {counts['one pair']} have only one pair, which says nothing about noise"
        if any(self.unpaired.values()):
            words += f". Runs without a partner: {self.unpaired['A']} in {a}, {self.unpaired['B']} in {b}"
        if any(self.given_up.values()):
            words += f". Given up, not solved and without a final score: {self.given_up['A']} runs in {a}, "
            words += f"{self.given_up['B']} in {b}"
        return f"{words}."


def compare(a: str | Path, b: str | Path) -> Differences:
    """What differs between two results directories beyond noise.

    Raises:
        InputError: one of them does not exist or holds no results, or no run of one has a partner in the other.

    >>> import tempfile
    >>> from rnnvg import bench
    >>> training = {"steps": 2, "batch": 4, "eval_size": 10}
    >>> spec = bench.run_spec({"name": "adding", "length": 5}, "rnn", hidden=4, training=training)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = bench.execute(spec, folder)
    ...     bench.compare(folder, folder).rows["verdict"].unique().tolist()
    ['identical']
    """
    one, other = load_results(a), load_results(b)
    settings: dict[str, tuple[Any, Any]] = {}
    rows, paired = [], 0
    keys = [*_NETWORK, *sorted({name for frame in (one, other) for name in map(str, frame) if name.startswith("set_")})]
    for frame in (one, other):
        for name in [name for name in keys if name not in frame]:
            frame[name] = None
    kinds = [set(zip(frame["task"], frame["cell"], strict=True)) for frame in (one, other)]
    for task, cell in sorted(kinds[0] & kinds[1]):
        parts = [_texts(frame[(frame["task"] == task) & (frame["cell"] == cell)], keys) for frame in (one, other)]
        constants = {name: (_constant(parts[0], name), _constant(parts[1], name)) for name in keys}
        apart = [name for name, (a, b) in constants.items() if None not in (a, b) and a != b]
        settings |= {_plain(name): constants[name] for name in apart}
        # A run that may be given up is the partner of one that may not: whether it was is in its status.
        same = [name for name in keys if name not in apart and name != "set_give_up"]
        pairs = parts[0].merge(parts[1], on=[*same, "seed"], suffixes=("_a", "_b"))
        paired += len(pairs)
        varying = [name for name in same if pairs[name].nunique() > 1]
        for values, group in pairs.groupby(varying, sort=True) if varying else [((), pairs)]:
            differing = [f"{_plain(name)} {value}" for name, value in zip(varying, values, strict=True)]
            rows += [(task, " ".join([cell, *differing]), *row) for row in _compared(group)]
    if not paired:
        raise InputError(
            f"No run in {str(a)!r} has a partner in {str(b)!r}: they share no task, cell, seed and settings. "
            "Pass two directories of the same benchmark."
        )
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name not in ("p_holm", "verdict")])
    frame["p_holm"] = _holm(frame["p"].to_numpy(float))
    frame["verdict"] = [_verdict(row) for row in frame.itertuples()]
    unpaired = {"A": len(one) - paired, "B": len(other) - paired}
    given_up = {side: int((each["status"] == GIVEN_UP).sum()) for side, each in (("A", one), ("B", other))}
    return Differences(frame[list(COLUMNS)], settings, _versions(a, b), unpaired, given_up, (str(a), str(b)))


def _compared(pairs: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Rows for the pairs of one network on one task: what, pairs, a, b, change, low, high, kind, p."""
    solved = [pairs[f"solved_{side}"].fillna(False).astype(bool).to_numpy() for side in "ab"]
    lost, won = int((solved[0] & ~solved[1]).sum()), int((~solved[0] & solved[1]).sum())
    p = sign_test(won, lost) if won or lost else math.nan
    yield ("solved", len(pairs), *(float(each.sum()) for each in solved), float(won - lost), *[math.nan] * 2, "runs", p)
    ended = pairs[(pairs["status_a"] == "ok") & (pairs["status_b"] == "ok")]
    if ended.empty:
        return
    values = [ended[f"value_{side}"].to_numpy(float) for side in "ab"]
    yield (ended["metric_a"].iloc[0], *_by_flips(*values, logs=bool((np.stack(values) > 0).all())))
    for name in [
        each.removesuffix("_a") for each in map(str, ended) if each.startswith("horizon_") and each.endswith("_a")
    ]:
        seen = ended[ended[f"{name}_a"].notna() & ended[f"{name}_b"].notna()]
        censored = name.replace("horizon", "censored")
        if len(seen):
            steps = [seen[f"{name}_{side}"].to_numpy(float) for side in "ab"]
            beyond = [seen[f"{censored}_{side}"].fillna(False).astype(bool).to_numpy() for side in "ab"]
            compared = (
                _by_sign(*steps, *beyond)
                if np.any(beyond)
                else _by_flips(*steps, logs=bool((np.stack(steps) > 0).all()))
            )
            yield (name.replace("_", " "), *compared)


def _by_flips(a: np.ndarray, b: np.ndarray, logs: bool) -> tuple[Any, ...]:
    """pairs, a, b, change, low, high, kind, p of an exact sign-flip test."""
    n, medians = len(a), (float(np.median(a)), float(np.median(b)))
    kind, back = ("ratio", math.exp) if logs else ("difference", float)
    steps = np.log(b) - np.log(a) if logs else b - a
    if (a == b).all():
        return n, *medians, back(0.0), back(0.0), back(0.0), kind, math.nan
    over = spread(steps)
    if n < 2:
        return n, *medians, back(over.median.seen), math.nan, math.nan, kind, math.nan
    return n, *medians, *(back(each.seen) for each in (over.median, over.low, over.high)), kind, sign_flip(steps)


def _by_sign(a: np.ndarray, b: np.ndarray, a_beyond: np.ndarray, b_beyond: np.ndarray) -> tuple[Any, ...]:
    """The same of an exact sign test; what lies beyond the last distance seen is larger than what was seen there."""
    larger = (b > a) & ~a_beyond | (b_beyond & ~a_beyond & (b >= a))
    smaller = (a > b) & ~b_beyond | (a_beyond & ~b_beyond & (a >= b))
    up, down = int(larger.sum()), int(smaller.sum())
    p = sign_test(up, down) if up or down else math.nan
    return len(a), float(np.median(a)), float(np.median(b)), float(up - down), math.nan, math.nan, "signs", p


def _holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number (Holm 1979); nan where there is none."""
    corrected, known = np.full(len(p), math.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    most = 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (len(order) - rank) * p[place]))
        corrected[place] = most
    return corrected


def _verdict(row: Any) -> str:
    if math.isnan(row.p):
        return "identical" if row.change == (1.0 if row.kind == "ratio" else 0.0) else "one pair"
    if row.p_holm < LEVEL:
        return "differs"
    return "too few pairs" if row.kind != "runs" and least_p(row.pairs) > LEVEL else "within noise"


def _texts(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].map(_text) for name in keys})


def _text(value: Any) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "none" if missing else f"{value:g}" if isinstance(value, float) else str(value)


def _constant(frame: pd.DataFrame, name: str) -> str | None:
    return str(frame[name].iloc[0]) if frame[name].nunique() == 1 else None


def _plain(name: str) -> str:
    return name.removeprefix("set_")


def _versions(a: str | Path, b: str | Path) -> dict[str, tuple[str, str]]:
    found = []
    for directory in (a, b):
        seen: dict[str, set[str]] = {}
        for result in Store(directory).results():
            for package, version in result["versions"].items():
                seen.setdefault(package, set()).add(str(version))
        found.append({package: ", ".join(sorted(versions)) for package, versions in seen.items()})
    names = sorted({*found[0], *found[1]})
    return {
        name: (found[0].get(name, "none"), found[1].get(name, "none"))
        for name in names
        if found[0].get(name) != found[1].get(name)
    }
