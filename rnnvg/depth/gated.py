"""The recurrent case of the same table: steps for layers, and a gated cell for a cure, on the adding problem."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rnnvg import models, tasks, training
from rnnvg.bptt import GradientProfile, gradient_profile
from rnnvg.errors import check_int, check_name
from rnnvg.horizon import NATS_PER_DECADE
from rnnvg.missing import number

if TYPE_CHECKING:
    import pandas as pd

CELLS = ("rnn", "lstm", "gru")
PROBE = 64  # sequences on which gradients are measured
_PARTS = 4


@dataclass(frozen=True)
class CellRun:
    """One cell on the adding problem.

    Attributes:
        cell: "rnn", "lstm" or "gru".
        length: steps of a sequence.
        predicted: log10 of the first step's gradient over the last one's, before training: a wide vanilla network near zero
            state loses 1/sqrt(3) a step with PyTorch's default weights; None for a gated cell.
        start, opening, end: gradient profiles, one random covector a sequence at the last step: before training, after each
            quarter of its steps, and at the end.
        checkpoints: the training step of each of `opening`.
        mse, baseline: held-out mean squared error, and that of always predicting the mean.
        solved_at: the step at which it counted as solved, or None.
        steps, seconds: of the training.
        parameters: number of weights.
    """

    cell: str
    length: int
    predicted: float | None
    start: GradientProfile
    opening: tuple[GradientProfile, ...]
    end: GradientProfile
    checkpoints: tuple[int, ...]
    mse: float
    baseline: float
    solved_at: int | None
    steps: int
    seconds: float
    parameters: int

    def ratio(self, profile: GradientProfile) -> float:
        """log10 of the gradient at the first step over that one step back from the end."""
        return float(profile.curve()["log10_gain"].iloc[self.length - 1])


def compare_cells(
    cells: Sequence[str] = CELLS,
    *,
    length: int = 30,
    hidden: int = 32,
    steps: int = 600,
    lr: float = 0.005,
    seed: int = 0,
    on_progress: Callable[[str], object] | None = None,
) -> tuple[CellRun, ...]:
    """Train each cell on the adding problem and follow its gradient through time.

    Args:
        cells: of "rnn", "lstm", "gru".
        length: steps of a sequence, at least 4.
        hidden, steps, lr: of networks and training (Adam, stopped when solved).
        seed: of weights and sequences.
        on_progress: called with each cell's name before it is trained.

    Raises:
        InputError: an unknown cell (with the nearest right name), an argument out of its range.
    """
    for cell in cells:
        check_name("cells", cell, CELLS)
    steps, seed = check_int("steps", steps, least=1), check_int("seed", seed, least=0)
    task = tasks.make("adding", length=check_int("length", length, least=4))
    found = []
    for cell in cells:
        if on_progress is not None:
            on_progress(cell)
        found.append(_run(task, cell, hidden, steps, lr, seed))
    return tuple(found)


def _run(task: tasks.Task, cell: str, hidden: int, steps: int, lr: float, seed: int) -> CellRun:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.build(task, cell, hidden=hidden)
    probe = task.batch(PROBE, torch.Generator().manual_seed(seed + 1)).inputs
    profiles: dict[int, GradientProfile] = {}

    def measure(step: int, now: models.SequenceModel) -> None:
        profiles[step] = gradient_profile(now.core, models.encoded(now, probe))

    measure(0, model)
    began = time.perf_counter()
    result = training.fit(
        model,
        task,
        steps=steps,
        lr=lr,
        generator=torch.Generator().manual_seed(seed),
        checkpoints=[steps * part // _PARTS for part in range(1, _PARTS)],
        on_checkpoint=measure,
    )
    seconds = time.perf_counter() - began
    between = [step for step in sorted(profiles) if 0 < step < result.steps]
    return CellRun(
        cell=cell,
        length=task.steps,
        predicted=-0.5 * math.log(3) * (task.steps - 1) / NATS_PER_DECADE if cell == "rnn" else None,
        start=profiles[0],
        opening=tuple(profiles[step] for step in between),
        end=profiles[max(profiles)],
        checkpoints=tuple(between),
        mse=result.score["mse"],
        baseline=task.baseline,
        solved_at=result.solved_at,
        steps=result.steps,
        seconds=seconds,
        parameters=models.count_parameters(model),
    )


def cell_frame(runs: Sequence[CellRun]) -> pd.DataFrame:
    """A row per cell: cell, parameters, predicted, measured, after (log10 of first over last step), mse, baseline,
    solved_at (nan where it was not), steps, seconds."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "cell": each.cell,
                "parameters": each.parameters,
                "predicted": number(each.predicted),
                "measured": each.ratio(each.start),
                "after": each.ratio(each.end),
                "mse": each.mse,
                "baseline": each.baseline,
                "solved_at": number(each.solved_at),
                "steps": each.steps,
                "seconds": each.seconds,
            }
            for each in runs
        ]
    )
