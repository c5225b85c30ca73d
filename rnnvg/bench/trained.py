"""Networks as runs left them: the weights file of a run, and a language model with its words and its task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnvg import models
from rnnvg.bench.spec import is_cut_off, short_id
from rnnvg.bench.store import VOCABULARY, WEIGHTS
from rnnvg.errors import InputError

if TYPE_CHECKING:
    from rnnvg.models import SequenceModel
    from rnnvg.text.vocabulary import Vocabulary


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
        begun = sorted(folder for folder in path.parent.iterdir() if is_cut_off(path.name, folder.name))
        if len(begun) > 1:
            raise InputError(
                f"{str(path)!r} is the beginning of {len(begun)} runs; pass one of them, such as {str(begun[0])!r}."
            )
        path = begun[0] if begun else path
    if not path.is_dir():
        raise InputError(f"There is no run {str(path)!r}; pass the folder of a run, or its {WEIGHTS}.")
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    folders = sorted(file.parent for file in path.glob(f"runs/*/{WEIGHTS}"))
    found = [folder for folder in folders if folder.name.startswith(task or "")]
    kind = f"runs of {task}" if task else "runs with weights"
    if len(found) == 1:
        return found[0] / WEIGHTS
    if found:
        raise InputError(f"{str(path)!r} holds {len(found)} {kind}; pass one of them, such as {str(found[0])!r}.")
    command = f"rnnvg train --task {task}" if task else "rnnvg train"
    raise InputError(f"{str(path)!r} holds no {kind.replace('runs', 'run', 1)}; train one with: {command}.")
