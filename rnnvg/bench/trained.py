"""Networks as runs left them: the weights file of a run, a language model with its words, and what networks remember.

That is asked of runs of delayed-recall alone, where the delay can be chosen. Nothing is trained; a run's own files stay.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from rnnvg import models, tasks
from rnnvg.bench.folders import stored_spec
from rnnvg.bench.spec import is_cut_off, short_id
from rnnvg.bench.store import VOCABULARY, WEIGHTS, Store
from rnnvg.errors import InputError, shown
from rnnvg.files import has_mark, table_mark, write_set
from rnnvg.stored import Damaged, read_table

if TYPE_CHECKING:
    from rnnvg.models import SequenceModel
    from rnnvg.text.vocabulary import Vocabulary

RECALL = "recall.csv"
TASK = "delayed-recall"
COLUMNS = ["id", "delay", "right", "n", "chance"]
# The questions are the same for every network.
SEED = 0


@dataclass(frozen=True)
class LanguageModel:
    """A trained network that reads words.

    Attributes:
        model: on the CPU, in evaluation mode.
        vocabulary: the words behind its ids.
        task: {"name": "next-word", and every setting}, as in the run's specification.
        name: the run's id, or the file's name.
    """

    model: SequenceModel
    vocabulary: Vocabulary
    task: dict[str, Any]
    name: str


def language_model(path: str | Path) -> LanguageModel:
    """The language model of a run.

    Args:
        path: a weights file with its vocabulary beside it, the folder of a run, or a directory of results that holds one
            run of next-word.

    Raises:
        InputError: nothing of the kind is there, several runs are, or the weights and the vocabulary do not belong together.
    """
    from rnnvg.text.vocabulary import Vocabulary

    weights = weights_file(path, "next-word")
    header = models.read_header(weights)
    if header["spec"]["kind"] != "tokens":
        task = (header.get("task") or {}).get("name", "another task")
        raise InputError(f"{str(path)!r} is a network for {task} and reads no words; pass a run of next-word.")
    listed = weights.with_name(VOCABULARY)
    if not listed.is_file():
        raise InputError(
            f"The run {str(weights.parent)!r} has no {VOCABULARY}, so that the words behind its ids are unknown; "
            "put the file back, or train again."
        )
    vocabulary = Vocabulary.load(listed)
    if len(vocabulary) != header["spec"]["n_inputs"]:
        raise InputError(
            f"{str(listed)!r} has {len(vocabulary)} words and the network knows {header['spec']['n_inputs']}; "
            "pass a run whose files belong together."
        )
    name = str(header.get("id") or weights.name)
    folder = weights.parent.name
    name = folder if short_id(folder) == name else name  # the file names its run by 8 digits
    return LanguageModel(models.load(weights).eval(), vocabulary, dict(header.get("task") or {}), name)


def weights_file(path: str | Path, task: str | None = None) -> Path:
    """The weights file that `path` stands for.

    Args:
        path: a weights file, the folder of a run or the beginning of its name, or a directory of results that holds one run
            with weights.
        task: of a directory of results, look at the runs of this task alone.

    Raises:
        InputError: nothing of the kind is there, or several runs are.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists() and path.parent.is_dir():
        # The folder of a run by the beginning of its id, which once had 8 digits.
        begun = _one_a_run(folder for folder in path.parent.iterdir() if is_cut_off(path.name, folder.name))
        if len(begun) > 1:
            raise InputError(
                f"{str(path)!r} is the beginning of {len(begun)} runs; pass one of them, such as {str(begun[0])!r}."
            )
        path = begun[0] if begun else path
    if not path.is_dir():
        raise InputError(f"There is no run {str(path)!r}; pass the folder of a run, or its {WEIGHTS}.")
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    folders = _one_a_run(file.parent for file in path.glob(f"runs/*/{WEIGHTS}"))
    found = [folder for folder in folders if folder.name.startswith(task or "")]
    kind = f"runs of {task}" if task else "runs with weights"
    if len(found) == 1:
        return found[0] / WEIGHTS
    if found:
        raise InputError(f"{str(path)!r} holds {len(found)} {kind}; pass one of them, such as {str(found[0])!r}.")
    command = f"rnnvg train --task {task}" if task else "rnnvg train"
    raise InputError(f"{str(path)!r} holds no {kind.replace('runs', 'run', 1)}; train one with: {command}.")


def _one_a_run(folders: Iterable[Path]) -> list[Path]:
    """Sorted; of a run that has a folder under 12 digits and one under 8, the former."""
    found = sorted(folders)
    names = {folder.name for folder in found}

    def is_older(folder: Path) -> bool:
        spec = stored_spec(folder)
        return spec is not None and folder.name == short_id(spec.id) and spec.id in names - {folder.name}

    return [folder for folder in found if not is_older(folder)]


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
