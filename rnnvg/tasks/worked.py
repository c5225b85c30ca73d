"""A sequence as a table that a person can read: one column a step, long stretches left out.

Only what is printed is made into text: a sequence of ten million steps takes no more of it than one of fifty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from rnnvg.tasks.task import Batch

GAP = "…"
MOST = 200  # steps that are printed because a task asks for them, and numbers of a sentence; those in the middle go
Cells = Callable[[int], str]  # a row of a table: step -> its cell


def shown_steps(steps: int, wanted: Iterable[int], around: int = 1) -> list[int | None]:
    """The steps to print: the wanted ones with `around` neighbours, the first and the last; None marks a gap.

    A gap of a single step is not worth its sign and is printed. Of more than MOST wanted steps the first and last are.

    >>> shown_steps(20, [9])
    [0, 1, None, 8, 9, 10, None, 18, 19]
    """
    chosen = ends([*wanted])
    keep = {near for step in (0, *chosen, steps - 1) for near in range(step - around, step + around + 1)}
    kept = sorted(step for step in keep if 0 <= step < steps)
    found: list[int | None] = []
    for step in kept:
        last = found[-1] if found else -1
        if last is not None and step - last == 2:
            found.append(step - 1)
        elif last is not None and step - last > 2:
            found.append(None)
        found.append(step)
    return found


def ends(found: Sequence[int]) -> Sequence[int]:
    """`found`, or of more than MOST the first and last."""
    return found if len(found) <= MOST else [*found[: MOST // 2], *found[-MOST // 2 :]]


def listed(numbers: Sequence[int]) -> str:
    """Numbers with commas between them; of more than MOST the first and the last.

    >>> listed([3, 1]), listed(range(1000)).split(", ")[98:102]
    ('3, 1', ['98', '99 … 900', '901', '902'])
    """
    if len(numbers) <= MOST:
        return ", ".join(map(str, numbers))
    half = MOST // 2
    return f"{listed(numbers[:half])} {GAP} {listed(numbers[-half:])}"


def only_at(step: int, cell: str) -> Cells:
    """A row that is empty but for one step."""
    return lambda each: cell if each == step else ""


def table(rows: Mapping[str, Cells], steps: Sequence[int | None]) -> str:
    """Rows of cells at the steps to print.

    >>> print(table({"step": str, "input": "abc".__getitem__}, [0, None, 2]))
    step    0 … 2
    input   a … c
    """
    columns = [[cell(step) if step is not None else GAP for cell in rows.values()] for step in steps]
    widths = [max(map(len, column)) for column in columns]
    label = max(map(len, rows)) + 2
    lines = []
    for row, name in enumerate(rows):
        cells = (column[row].rjust(width) for column, width in zip(columns, widths, strict=True))
        lines.append(f"{name:<{label}} {' '.join(cells)}")
    return "\n".join(lines)


def tokens(batch: Batch, signs: Sequence[str], due: Sequence[str], wanted: Iterable[int], around: int = 1) -> str:
    """The first sequence of a batch of tokens as a table: inputs by their signs, targets by theirs where they are scored."""
    inputs, targets, weight = batch.inputs[:, 0], batch.targets[:, 0], batch.weight
    rows = {
        "step": str,
        "input": lambda step: signs[int(inputs[step])],
        "target": lambda step: due[int(targets[step])] if weight is None or weight[step, 0] > 0 else "",
    }
    return table(rows, shown_steps(len(inputs), wanted, around))


def plain(batch: Batch) -> str:
    """The first sequence of a batch as a table of inputs and targets, numbers to two digits."""
    steps, inputs, weight = len(batch.inputs), batch.inputs[:, 0], batch.weight
    columns = {"input": inputs} if inputs.dim() == 1 else {f"input {i + 1}": each for i, each in enumerate(inputs.T)}

    def number(values: Tensor) -> Cells:
        return lambda step: f"{values[step].item():.4g}"

    def target(step: int) -> str:
        return number(batch.targets[:, 0])(step) if weight is None or weight[step, 0] > 0 else ""

    rows = {"step": str, **{name: number(values) for name, values in columns.items()}, "target": target}
    scored = [] if weight is None else (weight[:, 0] > 0).nonzero()[:, 0].tolist()
    return table(rows, shown_steps(steps, scored if len(scored) < steps else [], around=3))
