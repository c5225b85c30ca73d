"""A sequence as a table that a person can read: one column a step, long stretches left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnvg.tasks.task import Batch

GAP = "…"


def shown_steps(steps: int, wanted: Iterable[int], around: int = 1) -> list[int | None]:
    """The steps to print: the wanted ones with `around` neighbours, the first and the last; None marks a gap.

    A gap of a single step is not worth its sign and is printed.

    >>> shown_steps(20, [9])
    [0, 1, None, 8, 9, 10, None, 18, 19]
    """
    keep = {near for step in (0, *wanted, steps - 1) for near in range(step - around, step + around + 1)}
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


def table(rows: Mapping[str, Sequence[str]], steps: Sequence[int | None]) -> str:
    """Rows of cells, each row with a cell for every step of the sequence, at the steps to print.

    >>> print(table({"step": ["0", "1", "2"], "input": ["a", "b", "c"]}, [0, None, 2]))
    step    0 … 2
    input   a … c
    """
    columns = [[cells[step] if step is not None else GAP for cells in rows.values()] for step in steps]
    widths = [max(map(len, column)) for column in columns]
    label = max(map(len, rows)) + 2
    lines = []
    for row, name in enumerate(rows):
        cells = (column[row].rjust(width) for column, width in zip(columns, widths, strict=True))
        lines.append(f"{name:<{label}} {' '.join(cells)}")
    return "\n".join(lines)


def plain(batch: Batch) -> str:
    """The first sequence of a batch as a table of inputs and targets, numbers to two digits."""
    steps, inputs = len(batch.inputs), batch.inputs[:, 0]
    columns = {"input": inputs} if inputs.dim() == 1 else {f"input {i + 1}": each for i, each in enumerate(inputs.T)}
    rows = {"step": [str(step) for step in range(steps)]}
    rows |= {name: [f"{value:.4g}" for value in values.tolist()] for name, values in columns.items()}
    scored = [True] * steps if batch.weight is None else (batch.weight[:, 0] > 0).tolist()
    targets = batch.targets[:, 0].tolist()
    rows["target"] = [f"{target:.4g}" if due else "" for target, due in zip(targets, scored, strict=True)]
    wanted = [step for step, due in enumerate(scored) if due]
    return table(rows, shown_steps(steps, wanted if len(wanted) < steps else [], around=3))
