"""Is the gradient horizon an early sign that a network will learn its task? The plan, and the runs.

    python scripts/early_signs.py --out runs/early-signs [--seeds 10] [--minutes 40]    # goes on where it stopped
    python scripts/early_signs_analysis.py runs/early-signs --out results/early-signs

THE PLAN, written before any run.

Networks: 6 of 32 units, RNN (default, orthogonal), LSTM (default, forget bias, chrono), GRU (default). Tasks: 6, adding (50
and 100 steps), copy (delay 20 and 50, one of 8 symbols, scored at every step), delayed recall (delays 1 to 40), temporal
order (50 steps). Training: 1,500 steps of 32 sequences, Adam at 0.005, clip 1, until a held-out score counts as solved
(looked at every 50 steps). Seeds: 10 are planned, done one whole seed after the other. Where the time ends earlier, the
whole seeds that are done are analysed and the number is said; no run is left out for its result. A run that diverges counts
as not solved. A gain or exponent that is not finite (an exact zero) ranks lowest, a loss that is not finite highest.

Outcome: solved by step 1,500.

Signs, at 1, 2, 5, 10 and 20 % of the budget, with the direction in which they are to announce success:
    horizon_state, horizon_input   last distance with at least 1/e of the gradient one step back, up to the sequence's length;
                                   32 sequences, one random covector each at the last step            larger
    gain        log10 of the gradient that is left at the task's own distance (the 90 % quantile of the distances that
                it names), with respect to the state                                                   larger
    exponent    the largest Lyapunov exponent along the inputs of 2 sequences                           larger
    loss        on 256 fresh sequences, over the loss of remembering nothing                            smaller
    gradient    norm of the loss's gradient on 32 sequences, before clipping                            larger
    recent      share of the core's update that the last 10 steps make (for tasks with one loss a sequence, else not there)
                                                                                                        smaller

Analysis. A run that is solved at or before a checkpoint needs no announcement and is left out of the comparison there.
1. Area under the ROC curve (AUC) of each sign at each checkpoint, *within tasks*: over all pairs of a run that is solved
   later and one that is not, of the same task, the share in which the sign is on the right side; ties count a half. An easy
   task and a hard one are never compared. Interval: 95 %, percentiles of 2,000 bootstrap samples that draw seeds with
   replacement within each task and network. Beside it the smallest and the largest AUC when one task is left out.
2. Against the loss alone: the AUC's difference to the loss's at the same checkpoint, with the same bootstrap; and, leaving
   one task out at a time, a logistic regression (ridge 1 on features of standard deviation 1) on ln loss, on
   ln((1 + horizon_state) / (1 + the task's own distance)), and on both: AUC on the task left out, pooled over pairs as in 1.
   Loss and horizon are so in units that tasks share, and no outcome of the task left out is used.
3. Stopping rule: at 10 % of the budget, stop a run whose regression on the other tasks is below a threshold, the strictest
   that keeps at least 95 % of the runs that are solved later in those other tasks. Reported: solved runs kept in the task
   left out, and steps saved of all steps done, for the loss, the horizon, and both.
Answer, fixed here. "Yes" if at 10 % of the budget (a) the AUC of horizon_state has an interval above 1/2, (b) its difference
to the loss's AUC has an interval above 0 or the regression on both is better than the loss alone by .02 or more, and (c) the
stopping rule by horizon (alone or with the loss) keeps 95 % of the solved runs and saves more steps than that by the loss
alone. Otherwise "no", and that is the finding. What the other signs and checkpoints show is description, not the answer.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import torch

from rnnvg import models, tasks, training
from rnnvg.bench import causes, measure
from rnnvg.bptt import lyapunov_spectrum
from rnnvg.files import make_folder, write_whole
from rnnvg.models import SequenceModel, encoded
from rnnvg.tasks import Batch, Task
from rnnvg.training.give_up import own_distance

TASKS: dict[str, dict[str, Any]] = {
    "adding-50": {"name": "adding", "length": 50},
    "adding-100": {"name": "adding", "length": 100},
    "copy-20": {"name": "copy", "delay": 20},
    "copy-50": {"name": "copy", "delay": 50},
    "delayed-recall": {"name": "delayed-recall", "delay": 40},
    "temporal-order": {"name": "temporal-order", "length": 50},
}
NETWORKS = {
    "rnn": ("rnn", "default"),
    "rnn-orthogonal": ("rnn", "orthogonal"),
    "lstm": ("lstm", "default"),
    "lstm-forget-bias": ("lstm", "forget-bias"),
    "lstm-chrono": ("lstm", "chrono"),
    "gru": ("gru", "default"),
}
STEPS, BATCH, RATE, HIDDEN, EVAL_EVERY = 1500, 32, 0.005, 32, 50
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
SEQUENCES, LOSS_SEQUENCES, SPECTRUM_SEQUENCES = 32, 256, 2


def signs(model: SequenceModel, task: Task, batch: Batch, many: Batch) -> dict[str, float | None]:
    """Every sign of a network as it stands, from `batch` and, for the loss, `many` sequences."""
    model.eval()
    found: dict[str, float | None] = {}
    for wrt in ("state", "input"):
        profile = measure.profile(model, task, batch, wrt, seed=0, sources="last")
        curve = measure.curve(profile, 0)
        rows = measure.horizons(curve, "ok")
        found[f"horizon_{wrt}"] = next(row[3] for row in rows if math.isclose(row[2], math.exp(-1)))
        if wrt == "state":
            at = curve.loc[curve["distance"] == min(own_distance(task), int(curve["distance"].max())), "log10_gain"]
            found["gain"] = _finite(float(at.iloc[0]))
    inputs = encoded(model, batch.inputs[:, :SPECTRUM_SEQUENCES])
    exponents = lyapunov_spectrum(model.core, inputs, n_exponents=1, burn_in=len(inputs) // 4).exponents
    found["exponent"] = _finite(float(exponents[:, 0].mean()))
    with torch.no_grad():
        found["loss"] = _finite(float(task.loss(model(many.inputs)[0], many)) / task.baseline_loss)
    loss = task.loss(model(batch.inputs)[0], batch)
    pieces = torch.autograd.grad(loss, [each for each in model.parameters() if each.requires_grad])
    found["gradient"] = _finite(float(torch.stack([each.norm() for each in pieces]).norm()))
    recent = causes.recent_share(model, task, batch)
    found["recent"] = None if recent is None else _finite(recent[1])
    return found


def run(place: str, network: str, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """One training with its signs and its outcome."""
    task = tasks.make(**TASKS[place])
    cell, init = NETWORKS[network]
    torch.manual_seed(1000 * seed + 1)
    model = models.build(task, cell, hidden=HIDDEN, init=init)
    generator = torch.Generator().manual_seed(10_000 + seed)
    batch, many = task.batch(SEQUENCES, generator), task.batch(LOSS_SEQUENCES, generator)
    checkpoints = sorted({max(1, round(share * steps)) for share in SHARES})
    rows: list[dict[str, Any]] = []
    spent, began = 0.0, time.process_time()

    def look(step: int, model: SequenceModel) -> None:
        nonlocal spent
        start = time.process_time()
        if step in checkpoints:
            rows.append({"step": step, **signs(model, task, batch, many)})
        spent += time.process_time() - start

    result = training.fit(
        model, task, steps=steps, batch=BATCH, lr=RATE, generator=torch.Generator().manual_seed(seed), eval_every=EVAL_EVERY,
        eval_size=LOSS_SEQUENCES, checkpoints=checkpoints, on_checkpoint=look,
    )  # fmt: skip
    return {
        "task": place,
        "network": network,
        "seed": seed,
        "budget": steps,
        "distance": own_distance(task),
        "status": result.status,
        "solved": result.status == "ok" and result.solved_at is not None,
        "solved_at": result.solved_at,
        "steps": result.steps,
        "score": result.score.get(task.metric),
        "cpu_seconds": round(time.process_time() - began, 2),
        "sign_seconds": round(spent, 2),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "signs": rows,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/early-signs"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no run after so many minutes")
    parser.add_argument("--steps", type=int, default=STEPS, help="another budget, to try the script out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    make_folder(given.out)
    until = time.monotonic() + 60 * given.minutes
    for seed in range(given.seeds):
        for place in TASKS:
            for network in NETWORKS:
                path = given.out / f"{place}-{network}-s{seed}.json"
                if path.exists():
                    continue
                if time.monotonic() > until:
                    return
                found = run(place, network, seed, given.steps)
                write_whole(path, json.dumps(found, indent=1) + "\n")
                print(path.stem, found["solved_at"], found["score"], found["cpu_seconds"], flush=True)


if __name__ == "__main__":
    main()
