"""remember(): asks the trained networks of a directory what they remember, and keeps their answers.

Runs of delayed-recall alone: there the delay can be chosen. Nothing is trained; a run's own files are left as they are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg import models, tasks
from rnnvg.bench.spec import short_id
from rnnvg.bench.store import WEIGHTS, Store
from rnnvg.errors import InputError, shown
from rnnvg.files import has_mark, table_mark, write_set
from rnnvg.stored import Damaged, read_table

RECALL = "recall.csv"
TASK = "delayed-recall"
COLUMNS = ["id", "delay", "right", "n", "chance"]
# The questions are the same for every network.
SEED = 0


def remember(directory: str | Path, n: int = 500, tell: Callable[[str], object] = lambda line: None) -> pd.DataFrame:
    """Accuracy against delay of every finished run of delayed-recall in a results directory.

    Writes OUT/recall.csv, which `rnnvg.report.write` then draws. A run whose training diverged is left out: its network
    is not one that was trained to the end.

    Args:
        directory: what a comparison or a benchmark wrote.
        n: questions at each delay.
        tell: is handed a line for the user.

    Returns:
        A row per run and delay: id, delay (steps), right (answers), n, chance.

    Raises:
        InputError: no such directory, no finished run of delayed-recall in it, or it cannot be written.
    """
    import torch

    from rnnvg.functional.recall import recall_curve

    store = Store(directory)
    done = store.results() if os.path.isdir(store.directory) else []
    chosen = [each for each in done if each["spec"]["task"]["name"] == TASK and each["status"] == "ok"]
    if not chosen:
        raise InputError(
            f"{str(directory)!r} holds no finished run of {TASK}, whose queries come after many delays. Train some first: "
            f"rnnvg compare --tasks {TASK} --out {directory}."
        )
    rows: list[tuple[Any, ...]] = []
    for result in chosen:
        tell(f"Asking {result['id']} ...")
        task: Any = tasks.make(**result["spec"]["task"])
        model = models.load(store.folder(result["id"]) / WEIGHTS, task)
        curve = recall_curve(model, task, n=n, generator=torch.Generator().manual_seed(SEED))
        rows += [
            (result["id"], int(delay), int(right), n, curve.chance)
            for delay, right in zip(curve.delay, curve.right, strict=True)
        ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    try:
        answers(directory)
    except InputError as error:
        path = store.directory / RECALL
        if has_mark(path, table_mark(COLUMNS)):  # what does not begin as ours does is refused, and left
            tell(f"{error} It was moved to {store.move_aside(path)}.")
    write_set(store.directory, {RECALL: frame.to_csv(index=False, lineterminator="\n")})
    return frame


def answers(directory: str | Path, runs: Iterable[str] = ()) -> pd.DataFrame | None:
    """What `remember` kept in a directory; None where it was not asked for.

    Args:
        runs: ids; answers that were kept when these had 8 digits come under them.

    Raises:
        InputError: the file is there and is not one that `remember` wrote.
    """
    path = Path(directory) / RECALL
    if not os.path.lexists(path):
        return None
    try:
        frame = read_table(path, {"id": str, "delay": _count, "right": int, "n": _count, "chance": _share})
        wrong = frame[(frame["right"] < 0) | (frame["right"] > frame["n"])]
        if len(wrong):
            raise Damaged(f"{path.name} is damaged at right, line {wrong.index[0] + 2}: more or fewer than were asked")
    except Damaged as error:
        raise InputError(f"{shown(path)} is damaged: {error}. Delete it, and pass --functional again.") from None
    runs = list(runs)
    named = Counter(map(short_id, runs))
    ids = {short_id(run): run for run in runs if named[short_id(run)] == 1}
    return frame.replace({"id": ids})


def _count(text: str) -> int:
    if not 1 <= (number := int(text)) < 2**62:
        raise ValueError
    return number


def _share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise ValueError
    return number
