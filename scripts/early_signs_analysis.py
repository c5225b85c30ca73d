"""What the runs of early_signs.py say, by the plan that stands there: tables, a figure, and the answer.

    python scripts/early_signs_analysis.py runs/early-signs --out results/early-signs

Writes signs.csv (every sign of every run), auc.csv, against_loss.csv, rule.csv, answer.json and auc.svg; and by_network.csv,
added to the plan after a first look. scripts/early_signs_option.py makes the option `--give-up` of it.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rnnvg.errors import InputError
from rnnvg.files import make_folder, write_ours
from rnnvg.training import give_up

# Sign -> whether more of it is to announce success; the value of a sign that is not finite.
SIGNS = {
    "horizon_state": (True, None),
    "horizon_input": (True, None),
    "gain": (True, -math.inf),
    "exponent": (True, -math.inf),
    "loss": (False, math.inf),
    "gradient": (True, None),
    "recent": (False, None),
}
TITLES = {
    "horizon_state": "horizon of the state",
    "horizon_input": "horizon of the input",
    "gain": "gain at the task's distance",
    "exponent": "largest exponent",
    "gradient": "gradient's norm",
    "recent": "share of the last 10 steps",
}
SAMPLES, KEPT, RIDGE, MAIN = 2000, 0.95, 1.0, 0.1
Frame = pd.DataFrame


def read(directory: Path) -> tuple[Frame, Frame]:
    """The runs of whole seeds, and a row for each of their checkpoints."""
    found = [json.loads(path.read_text()) for path in sorted(directory.glob("*-s*.json"))]
    if not found:
        raise InputError(f"`directory` {str(directory)!r} holds no runs; do some with scripts/early_signs.py.")
    runs = pd.DataFrame(found)
    per_seed = runs.groupby("seed").size()
    whole = per_seed[per_seed == len(runs[["task", "network"]].drop_duplicates())].index
    runs = runs[runs["seed"].isin(whole)].reset_index(drop=True)
    rows = []
    for run in runs.to_dict("records"):
        for signs in run["signs"]:
            rows.append(
                {key: run[key] for key in ("task", "network", "seed", "distance", "solved", "solved_at", "steps")}
                | signs
            )
            rows[-1]["share"] = signs["step"] / run["budget"]
    looks = pd.DataFrame(rows)
    for sign, (_, missing) in SIGNS.items():
        looks[sign] = looks[sign].astype(float)
        if missing is not None:
            looks[sign] = looks[sign].fillna(missing)
    return runs.drop(columns="signs"), looks


def open_at(looks: Frame, share: float) -> Frame:
    """The looks at a share of the budget, without the runs that were solved by then."""
    here = looks[np.isclose(looks["share"], share)]
    return here[~(here["solved_at"].fillna(math.inf) <= here["step"])].reset_index(drop=True)


def pairs_right(values: np.ndarray, solved: np.ndarray) -> np.ndarray:
    """1 where a solved run's value is above an unsolved one's, 1/2 where they are equal, [solved, unsolved]."""
    above, below = values[solved][:, None], values[~solved][None]
    return np.where(above == below, 0.5, (above > below).astype(float))


def pairs_of(here: Frame, values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each task the rows of solved and of unsolved runs, and which of their pairs are right; nan values are left out."""
    solved = here["solved"].to_numpy(bool)
    found = []
    for rows in here.groupby("task").indices.values():
        rows = np.asarray(rows)
        rows = rows[~np.isnan(values[rows])]
        up, down = rows[solved[rows]], rows[~solved[rows]]
        if len(up) and len(down):
            found.append((up, down, pairs_right(values[rows], solved[rows])))
    return found


def area(pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]], weights: np.ndarray) -> np.ndarray:
    """The area under the ROC curve over pairs of the same task, where runs count `weights` [samples, runs] times."""
    right, total = np.zeros(len(weights)), np.zeros(len(weights))
    for up, down, table in pairs:
        right += ((weights[:, up] @ table) * weights[:, down]).sum(1)
        total += weights[:, up].sum(1) * weights[:, down].sum(1)
    return np.divide(right, total, out=np.full(len(weights), math.nan), where=total > 0)


def within_tasks(here: Frame, values: np.ndarray) -> tuple[float, int]:
    """`area` with every run counted once, and the number of pairs; larger values are to announce success."""
    pairs = pairs_of(here, values)
    return float(area(pairs, np.ones((1, len(here))))[0]), sum(table.size for _, _, table in pairs)


def resampled(here: Frame) -> np.ndarray:
    """How often each run counts in each bootstrap sample, seeds drawn again within each task and network, [samples, runs]."""
    generator = np.random.default_rng(0)
    weights = np.zeros((SAMPLES, len(here)))
    for rows in here.groupby(["task", "network"]).indices.values():
        weights[:, rows] = generator.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=SAMPLES)
    return weights


def interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def directed(here: Frame, sign: str) -> np.ndarray:
    """The sign's values, turned so that larger announces success."""
    return here[sign].to_numpy(float) * (1 if SIGNS[sign][0] else -1)


def areas(looks: Frame) -> Frame:
    """auc.csv: every sign at every checkpoint, with its interval, the range with one task left out, and against the loss."""
    rows = []
    for share in sorted(looks["share"].unique()):
        here = open_at(looks, share)
        weights = np.vstack([np.ones(len(here)), resampled(here)])  # the first is the sample itself
        for sign in SIGNS:
            values = directed(here, sign)
            pairs = pairs_of(here, values)
            if not pairs:
                continue
            found = area(pairs, weights)
            # The loss on the runs that have the sign.
            loss = area(pairs_of(here, np.where(np.isnan(values), math.nan, directed(here, "loss"))), weights)
            fewer = [float(area(pairs[:n] + pairs[n + 1 :], weights[:1])[0]) for n in range(len(pairs))]
            over = found - loss
            n = sum(table.size for _, _, table in pairs)
            rows.append(
                (share, sign, found[0], *interval(found[1:]), min(fewer), max(fewer), over[0], *interval(over[1:]), n)
            )
    columns = ["share", "sign", "auc", "low", "high", "least_without_a_task", "most_without_a_task", "over_loss"]
    return pd.DataFrame(rows, columns=[*columns, "over_loss_low", "over_loss_high", "pairs"])


def spread_out(values: np.ndarray) -> np.ndarray:
    """`values` with mean 0 and standard deviation 1; what is not finite as the most extreme that is."""
    finite = values[np.isfinite(values)]
    values = np.clip(np.nan_to_num(values, nan=float(finite.mean())), finite.min(), finite.max())
    spread = values.std()
    return (values - values.mean()) / spread if spread else np.zeros(len(values))


def logistic(features: np.ndarray, solved: np.ndarray) -> np.ndarray:
    """Coefficients of a ridge logistic regression, the intercept first and free of the ridge, by Newton's method."""
    X = np.column_stack([np.ones(len(features)), features])
    ridge = RIDGE * np.eye(X.shape[1])
    ridge[0, 0] = 1e-9
    beta = np.zeros(X.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-X @ beta))
        beta += np.linalg.solve((X * (p * (1 - p))[:, None]).T @ X + ridge, X.T @ (solved - p) - ridge @ beta)
    return beta


def raw(here: Frame) -> tuple[np.ndarray, np.ndarray]:
    """The two features in the units that the option `--give-up` has them in."""
    return give_up.seen(*(here[name].to_numpy(float) for name in ("loss", "horizon_state", "distance")))


def features(here: Frame) -> dict[str, np.ndarray]:
    """What each predictor sees, [runs, features]: ln loss over its baseline, and ln horizon over the task's own distance."""
    loss, horizon = (spread_out(each)[:, None] for each in raw(here))
    return {"loss": loss, "horizon": horizon, "loss and horizon": np.hstack([loss, horizon])}


def left_out(here: Frame, seen: np.ndarray, tasks: Iterable[str]) -> dict[str, np.ndarray]:
    """Task -> every run's score by a regression on the other tasks; where those are all alike, the mean of what it sees."""
    solved = here["solved"].to_numpy(float)
    found = {}
    for task in tasks:
        other = (here["task"] != task).to_numpy()
        if solved[other].min() == solved[other].max():
            found[task] = seen.mean(1)
        else:
            beta = logistic(seen[other], solved[other])
            found[task] = beta[0] + seen @ beta[1:]
    return found


def against_loss(looks: Frame) -> Frame:
    """against_loss.csv: the AUC on tasks left out, by the loss, by the horizon, and by both."""
    rows = []
    for share in sorted(looks["share"].unique()):
        here = open_at(looks, share)
        tasks = here["task"].unique()
        for name, seen in features(here).items():
            scores = left_out(here, seen, tasks)
            values = np.array([scores[task][row] for row, task in enumerate(here["task"])])
            rows.append((share, name, *within_tasks(here, values)))
    return pd.DataFrame(rows, columns=["share", "sees", "auc", "pairs"])


def by_network(looks: Frame) -> Frame:
    """by_network.csv, which the plan did not have: how much of it is the network's name.

    The AUC of the share of a network's runs on the other tasks that are solved; and of each sign within task *and* network,
    where the name says nothing.
    """
    rows = []
    for share in sorted(looks["share"].unique()):
        here = open_at(looks, share)
        every = looks.drop_duplicates(["task", "network", "seed"])
        names = [
            float(every.loc[(every["task"] != task) & (every["network"] == network), "solved"].mean())
            for task, network in zip(here["task"], here["network"], strict=True)
        ]
        rows.append((share, "network's name", "task", *within_tasks(here, np.array(names))))
        apart = here.assign(task=here["task"] + "/" + here["network"])
        rows += [(share, sign, "task and network", *within_tasks(apart, directed(apart, sign))) for sign in SIGNS]
    return pd.DataFrame(rows, columns=["share", "sees", "within", "auc", "pairs"])


def rule(runs: Frame, looks: Frame, share: float = MAIN) -> Frame:
    """rule.csv: of each task left out, the solved runs kept and the steps saved by a threshold from the other tasks."""
    here = open_at(looks, share)
    solved = here["solved"].to_numpy(bool)
    rows = []
    for name, seen in features(here).items():
        scores = left_out(here, seen, here["task"].unique())
        for task, score in scores.items():
            mine = (here["task"] == task).to_numpy()
            others = np.sort(score[~mine & solved])
            least = strictest(others)
            stopped = mine & (score < least)
            every = runs[runs["task"] == task]
            rows.append(
                {
                    "sees": name,
                    "task": task,
                    "solved": int(every["solved"].sum()),
                    "solved_lost": int((stopped & solved).sum()),
                    "stopped": int(stopped.sum()),
                    "steps_saved": int((here["steps"] - here["step"]).to_numpy()[stopped].sum()),
                    "steps_done": int(every["steps"].sum()),
                }
            )
    return pd.DataFrame(rows)


def strictest(solved: np.ndarray) -> float:
    """The strictest threshold that lets at most 5 % of the solved runs go, from their scores in order."""
    return float(solved[math.floor(round((1 - KEPT) * len(solved), 9))]) if len(solved) else -math.inf


def answer(areas: Frame, against: Frame, rules: Frame) -> dict[str, Any]:
    """The answer that the plan fixes, with what it rests on."""
    horizon = areas[np.isclose(areas["share"], MAIN) & (areas["sign"] == "horizon_state")].iloc[0]
    there = against[np.isclose(against["share"], MAIN)].set_index("sees")["auc"]
    sums = rules.groupby("sees")[["solved", "solved_lost", "steps_saved", "steps_done"]].sum()
    kept = 1 - sums["solved_lost"] / sums["solved"]
    saved = sums["steps_saved"] / sums["steps_done"]
    a = bool(horizon["low"] > 0.5)
    b = bool(horizon["over_loss_low"] > 0 or there["loss and horizon"] >= there["loss"] + 0.02)
    c = any(kept[name] >= KEPT and saved[name] > saved["loss"] for name in ("horizon", "loss and horizon"))
    return {
        "answer": "yes" if a and b and c else "no",
        "a_auc_above_half": a,
        "b_more_than_the_loss": b,
        "c_rule_saves_more": bool(c),
        "auc_of_horizon": [float(horizon[name]) for name in ("auc", "low", "high")],
        "over_loss": [float(horizon[name]) for name in ("over_loss", "over_loss_low", "over_loss_high")],
        "auc_on_tasks_left_out": {str(name): float(value) for name, value in there.items()},
        "solved_kept": {str(name): float(value) for name, value in kept.items()},
        "steps_saved": {str(name): float(value) for name, value in saved.items()},
    }


def draw(areas: Frame, path: Path) -> None:
    """AUC against the share of the budget, a panel for each sign beside the loss."""
    import matplotlib.pyplot as plt

    signs = [sign for sign in areas["sign"].unique() if sign != "loss"]
    figure, axes = plt.subplots(2, 3, figsize=(9, 5), sharex=True, sharey=True, layout="constrained")
    loss = areas[areas["sign"] == "loss"]
    for ax, sign in zip(axes.flat, signs, strict=False):
        for frame, colour, label in ((loss, "0.55", "loss"), (areas[areas["sign"] == sign], "C0", "the sign")):
            ax.plot(100 * frame["share"], frame["auc"], marker="o", markersize=3, color=colour, label=label)
            ax.fill_between(100 * frame["share"], frame["low"], frame["high"], color=colour, alpha=0.15, linewidth=0)
        ax.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
        ax.set_xscale("log")
        ax.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
        ax.set_title(TITLES[sign], fontsize="medium")
    axes[0, 0].legend(frameon=False, fontsize="small")
    figure.supxlabel("% of the training budget", fontsize="medium")
    figure.supylabel("AUC within tasks", fontsize="medium")
    with plt.rc_context({"svg.hashsalt": "early signs"}):  # the same file from the same numbers
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results/early-signs"))
    given = parser.parse_args()
    runs, looks = read(given.directory)
    make_folder(given.out)
    found = areas(looks), against_loss(looks), rule(runs, looks)
    verdict = answer(*found) | {
        "runs": len(runs),
        "seeds": int(runs["seed"].nunique()),
        "solved": int(runs["solved"].sum()),
    }
    every = looks.merge(runs[["task", "network", "seed", "status", "score", "cpu_seconds"]])
    tables = {
        "auc": found[0],
        "against_loss": found[1],
        "rule": found[2],
        "signs": every,
        "by_network": by_network(looks),
    }
    for name, frame in tables.items():
        write_ours(
            given.out / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"), "--out"
        )
    write_ours(given.out / "answer.json", json.dumps(verdict, indent=1) + "\n", "--out")
    draw(found[0], given.out / "auc.svg")
    print(found[0].round(3).to_string(index=False), found[1].round(3).to_string(index=False), sep="\n\n")
    print(tables["by_network"].round(3).to_string(index=False), end="\n\n")
    print(found[2].to_string(index=False), json.dumps(verdict, indent=1), sep="\n\n")


if __name__ == "__main__":
    main()
