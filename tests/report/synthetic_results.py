"""A results directory as a finished comparison leaves it, drawn from formulas instead of trained.

Three tasks x three cells x three seeds; on next-word one vanilla RNN diverges and one LSTM's worker dies. The
shapes are those that real runs show: every cell forgets within a few steps before training, the gated cells'
horizons open while the loss falls, the vanilla RNN's stays where it was.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd

from rnnvg.bench.causes import COLUMNS
from rnnvg.bench.record import failure, record
from rnnvg.bench.spec import RunSpec
from rnnvg.bench.store import CAUSES, Store
from rnnvg.bench.tables import CURVE, HORIZON, TRAINING, to_csv
from rnnvg.report.results import Results, collect

THRESHOLDS = (math.exp(-1), 0.1, 0.01)
CHECKPOINTS = (0, 50, 100, 200, 300, 400, 600, 800, 1000, 1400, 2000)


@dataclasses.dataclass(frozen=True)
class Problem:
    """One task as the run files describe it."""

    settings: dict
    training_steps: int
    probe_steps: int
    metric: str
    baseline: float
    baseline_loss: float
    baseline_text: str
    training: dict


PROBLEMS = {
    "copy": Problem(
        {"name": "copy", "delay": 20, "n_symbols": 8, "recall": 1, "scored": "all"},
        22,
        88,
        "recall_accuracy",
        1 / 8,
        math.log(8) / 22,
        "guessing one of 8 symbols",
        {"steps": 2000, "batch": 50, "lr": 0.003, "optimizer": "adam", "clip": 1.0},
    ),
    "adding": Problem(
        {"name": "adding", "length": 50, "marks": "halves"},
        50,
        200,
        "mse",
        1 / 6,
        1 / 6,
        "always answering 1",
        {"steps": 2000, "batch": 50, "lr": 0.005, "optimizer": "adam", "clip": 1.0},
    ),
    "next-word": Problem(
        {"name": "next-word", "text": "shakespeare", "vocabulary": 3000, "bptt": 35},
        35,
        200,
        "perplexity",
        209.0,
        math.log(209.0),
        "each word as often as in the training text, whatever came before",
        {"steps": 1000, "batch": 16, "lr": 0.003, "optimizer": "adam", "clip": 1.0, "bptt": 35},
    ),
}
# Decades lost a step before training; after it, (task, cell) -> (decades a step, training step at which it opens).
BEFORE = {"rnn": 0.24, "lstm": 0.29, "gru": 0.27}
AFTER = {
    ("copy", "rnn"): (0.16, None),
    ("copy", "lstm"): (0.012, 900),
    ("copy", "gru"): (0.002, 250),
    ("adding", "rnn"): (0.11, None),
    ("adding", "lstm"): (0.006, 700),
    ("adding", "gru"): (0.008, 250),
    ("next-word", "rnn"): (0.17, None),
    ("next-word", "lstm"): (0.075, 300),
    ("next-word", "gru"): (0.06, 200),
}
FINAL = {
    ("copy", "rnn"): 0.13,
    ("copy", "lstm"): 1.0,
    ("copy", "gru"): 1.0,
    ("adding", "rnn"): 0.163,
    ("adding", "lstm"): 0.0012,
    ("adding", "gru"): 0.0008,
    ("next-word", "rnn"): 94.0,
    ("next-word", "lstm"): 91.0,
    ("next-word", "gru"): 83.0,
}


def write_results(
    directory: Path,
    tasks=("copy", "adding", "next-word"),
    cells=("rnn", "lstm", "gru"),
    seeds=3,
    mishaps=True,
    hidden=64,
    inits=("default",),
    gain=None,
) -> Path:
    """Write a results directory; `gain(cell, after)` replaces the decades lost a step where it is given."""
    store = Store(directory)
    for task in tasks:
        for cell in cells:
            for init in inits:
                for seed in range(seeds):
                    fate = "ok"
                    if mishaps and task == "next-word" and seed == seeds - 1:
                        fate = {"rnn": "diverged", "lstm": "failed"}.get(cell, "ok")
                    _publish(store, task, cell, init, hidden, seed, fate, gain)
    store.merge()
    return directory


def _publish(store, task, cell, init, hidden, seed, fate, gain):
    problem = PROBLEMS[task]
    random = np.random.default_rng([seed, len(task), sum(map(ord, cell))])
    spec = RunSpec.model_validate(
        {
            "task": problem.settings,
            "cell": cell,
            "hidden": hidden,
            "init": init,
            "embed": 128 if task == "next-word" else None,
            "tied": task == "next-word",
            "training": problem.training,
            "seed": seed,
        }
    )
    _, opens = AFTER[task, cell]
    solved = fate == "ok" and opens is not None and task != "next-word"
    steps = problem.training["steps"]
    solved_at = None
    if solved:
        solved_at = steps = min(steps, int(100 * math.ceil(opens * random.uniform(1.2, 1.5) / 100)))
    if fate == "diverged":
        steps = 412
    curve, horizons = _profiles(problem, task, cell, fate, steps, opens, random, gain)
    training, score = _training(problem, task, cell, fate, steps, opens, random)
    if fate == "failed":
        outcome, files = failure(spec, "the worker process died 3 times while running it")
        store.publish(record(spec, outcome), files)
        return
    outcome = {
        "status": fate,
        "reason": "the loss was nan at step 412" if fate == "diverged" else "",
        "score": score,
        "baseline": {
            "metric": problem.metric,
            "better": "higher" if task == "copy" else "lower",
            "value": problem.baseline,
            "text": problem.baseline_text,
            "loss": problem.baseline_loss,
            "best_loss": None,
        },
        "solved": solved,
        "solved_at": solved_at,
        "steps": steps,
        "seconds": round(float(random.uniform(8, 14)), 2),
        "parameters": {"rnn": 4417, "lstm": 17473, "gru": 13121}.get(cell, 9000),
        "training_steps": problem.training_steps,
        "n_probe_steps": problem.probe_steps,
    }
    files = {
        "curve.csv": to_csv(curve, CURVE),
        "training.csv": to_csv(training, TRAINING),
        "horizons.csv": to_csv(horizons.assign(status=fate), HORIZON),
    }
    if fate == "ok":
        rate = -math.log(10) * (AFTER[task, cell][0] if gain is None else gain(cell, True))
        files[CAUSES] = to_csv(_causes(cell, steps, problem.probe_steps, rate), COLUMNS)
    store.publish(record(spec, outcome), files)


def _causes(cell, steps, probe_steps, rate):
    """causes.csv in closed form: an RNN's saturation takes 0.1 nats a step, a gated cell's carry brings 90 %."""
    rows, distance = [], np.unique(np.linspace(0, probe_steps, 40).astype(int))
    for step in (0, steps):
        for k in distance:
            rows.append((step, "log_gain", "", k, rate * k, None))
            if cell.startswith("rnn"):
                rows.append((step, "nats", "saturation", k, -0.1 * k, None))
                rows.append((step, "nats", "matrix", k, (rate + 0.1) * k, None))
            elif k:
                carry, gate = ("cell", "forget gate") if cell == "lstm" else ("carry", "update gate")
                rows += [(step, "share", carry, k, 0.9, None), (step, "share", gate, k, 0.1, None)]
                rows += [(step, "counterfactual", f"{gate} open", k, -0.01 * k, None)]
        if not cell.startswith("rnn"):
            rows += [(step, "gate", f"0/{gate}/{name}", None, value, None) for name, value in GATE.items()]
            rows.append((step, "time constant", "measured", None, -1 / rate, None))
    for step in (0, steps // 2, steps):
        rows += [(step, "exponent", n, None, rate - 0.1 * (n - 1), 0.01) for n in (1, 2, 3)]
    rows += [(0, "theory", "", k, -0.6 * (k - 1), None) for k in distance[1:]]
    rows += [(0, "edge", "", None, 0.9, None), (steps, "recent", 10, None, 0.5, None)]
    rows += [(steps, "covariance", "", k, rate * (k - 1), None) for k in distance[1:-1]]
    for source in range(9, probe_steps, 20):
        rows += [(steps, "map", source, k, rate * (k - 1) / math.log(10), None) for k in range(1, source + 1, 4)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


GATE = {"mean": 0.8, "closed": 0.05, "open": 0.3, "time constant": 4.5}


def _profiles(problem, task, cell, fate, steps, opens, random, gain):
    checkpoints = [step for step in CHECKPOINTS if step < steps] + [steps]
    if fate == "diverged":
        checkpoints = [step for step in CHECKPOINTS if step < steps]
    distance = np.arange(problem.probe_steps + 1)
    start = BEFORE[cell] * random.uniform(0.95, 1.05)
    end = AFTER[task, cell][0] * random.uniform(0.5, 1.6)
    curves, horizons = [], []
    for step in checkpoints:
        fraction = step / steps if opens is None else 1 / (1 + math.exp(-8 * (step / (0.8 * opens) - 1)))
        rate = start ** (1 - fraction) * end**fraction
        if gain is not None:
            rate = gain(cell, step > 0)
        for wrt, shift in (("state", 0.0), ("input", 0.15)):
            log10 = -rate * (1 + shift) * (distance - 1) + 0.02 * np.cumsum(random.normal(0, abs(rate), distance.size))
            log10 = log10 - log10[1]
            log10[0] = np.nan
            spread = 0.05 * np.sqrt(distance)
            curves.append(
                pd.DataFrame(
                    {
                        "step": step,
                        "wrt": wrt,
                        "distance": distance,
                        "log10_gain": log10,
                        "log10_gain_rms": np.where(distance < 60, log10 + spread / 4, np.nan),
                        "low": log10 - spread,
                        "high": log10 + spread,
                        "n": 32,
                        "n_zero": 0,
                    }
                )
            )
            horizons += [{"step": step, "wrt": wrt, **_horizon(log10, threshold)} for threshold in THRESHOLDS]
    return pd.concat(curves, ignore_index=True).round(5), pd.DataFrame(horizons)


def _horizon(log10, threshold):
    left = np.flatnonzero(log10 >= math.log10(threshold))
    below = np.flatnonzero(log10 < math.log10(threshold))
    rate = math.log(10) * np.polyfit(np.arange(1, log10.size), log10[1:], 1)[0]
    return {
        "threshold": threshold,
        "last": int(left[-1]) if left.size else 0,
        "first_below": int(below[0]) if below.size else None,
        "censored": bool(log10[-1] >= math.log10(threshold)),
        "rate": round(float(rate), 6),
        "e_fold": round(float(-1 / rate), 4) if rate < 0 else None,
    }


def _training(problem, task, cell, fate, steps, opens, random):
    final = FINAL[task, cell] * random.uniform(0.97, 1.03)
    evaluated = np.unique(np.append(np.arange(0, steps + 1, 100), steps))
    rows = []
    for step in evaluated:
        if task == "next-word":
            loss = math.log(final) + (math.log(3000) - math.log(final)) * math.exp(-step / 120)
            metrics = {"loss": loss, "perplexity": math.exp(loss)}
        else:
            left = 1.0 if opens is None else 1 / (1 + math.exp(9 * (step / (1.05 * opens) - 1)))
            floor = 0.0005 if opens else 0.97
            loss = problem.baseline_loss * (floor + (1 - floor) * left) * random.uniform(0.96, 1.02)
            if step == 0:
                loss = problem.baseline_loss * 3
            metrics = {"loss": loss}
            if task == "adding":
                metrics["mse"] = loss
            else:
                metrics["recall_accuracy"] = 0.13 if opens is None else 1 - 0.87 * left
        rows += [("valid", step, metric, value) for metric, value in metrics.items()]
        rows.append(("train", step, "loss", metrics["loss"] * random.uniform(0.9, 1.02)))
    if fate == "diverged":
        rows.append(("train", steps, "loss", math.nan))
    frame = pd.DataFrame(rows, columns=["split", "step", "metric", "value"])[["step", "split", "metric", "value"]]
    if fate != "ok":
        return frame, {}
    score = {metric: float(value) for metric, value in metrics.items()}
    if task == "copy":
        score["recall_accuracy"] = min(1.0, final)
    return frame, score


def in_memory(*runs: dict) -> Results:
    """Results made of a few numbers: each run a dict of what matters, everything else as an ordinary adding run has it.

    Keys: task, cell, seed, init, length, status, reason, solved, loss (final), baseline_loss, baseline, training_steps;
    horizons {step: last, or (last, "censored")}, inputs (the same wrt the input), losses {step: held-out loss},
    curves {step: log10 gain at distances 1, 2, ...}, input_curves (the same wrt the input).
    """
    records, curves, horizons, training = [], [], [], []
    for number, run in enumerate(runs):
        run_id = f"run-{number:02d}"
        task, status = run.get("task", "adding"), run.get("status", "ok")
        failed = status == "failed"
        baseline = {
            "metric": "mse",
            "value": run.get("baseline", 1 / 6),
            "text": "always answers 1",
            "loss": run.get("baseline_loss", 1 / 6),
        }
        score = {} if status != "ok" else {"loss": run.get("loss", 0.1), "mse": run.get("loss", 0.1)}
        spec = {"task": {"name": task, "length": run.get("length", 50)}, "cell": run.get("cell", "lstm"), "hidden": 64}
        records.append(
            {
                "id": run_id,
                "spec": {**spec, "init": run.get("init", "default"), "seed": run.get("seed", 0)},
                "status": status,
                "reason": run.get("reason", ""),
                "score": None if failed else score,
                "baseline": None if failed else baseline,
                "solved": run.get("solved", False),
                "solved_at": 500 if run.get("solved") else None,
                "training_steps": None if failed else run.get("training_steps", 50),
            }
        )
        for wrt in ("horizons", "inputs"):
            for step, last in run.get(wrt, {}).items():
                last, *censored = last if isinstance(last, tuple) else (last,)
                row = {"id": run_id, "step": step, "wrt": "input" if wrt == "inputs" else "state"}
                row |= {"threshold": math.exp(-1), "last": last, "first_below": last + 1, "censored": bool(censored)}
                horizons.append({**row, "rate": -0.1, "e_fold": None})
        for name, wrt in (("curves", "state"), ("input_curves", "input")):
            for step, gains in run.get(name, {}).items():
                for distance, gain in enumerate(gains, 1):
                    curves.append({"id": run_id, "step": step, "wrt": wrt, "distance": distance, "log10_gain": gain})
        for step, loss in run.get("losses", {}).items():
            training.append({"id": run_id, "step": step, "split": "valid", "metric": "loss", "value": loss})
    columns = {
        "curves": ["id", "step", "wrt", "distance", "log10_gain"],
        "horizons": ["id", "step", "wrt", "threshold", "last", "first_below", "censored", "rate", "e_fold"],
        "training": ["id", "step", "split", "metric", "value"],
    }
    frames = [
        pd.DataFrame(rows, columns=columns[name])
        for name, rows in (("curves", curves), ("horizons", horizons), ("training", training))
    ]
    return collect(records, *frames)
