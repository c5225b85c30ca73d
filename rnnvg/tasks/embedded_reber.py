"""Embedded Reber grammar: what may come next, when a letter from the start of the string has to come again at its end?

Strings over B, T, P, S, X, V, E from the automaton of Reber 1967 between two equal letters T or P: B T (inner) T E or B P
(inner) P E, as Cleeremans, Servan-Schreiber and McClelland 1989 have it and Hochreiter & Schmidhuber 1997 took it for their
experiment 1. At every state the ways on are equally likely. Strings have different lengths; what is left of the longest
possible one is filled with B and not scored.

An answer is right where the automaton allows it: of two letters that may come, either counts.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from itertools import compress

import numpy as np
import torch
from torch import Tensor

from rnnvg.errors import check_int
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import shown_steps, table

LETTERS = ("B", "T", "P", "S", "X", "V", "E")
# State -> letter -> next state, of the inner automaton once its own B is read; 6 is its end.
INNER = ({"T": 1, "P": 2}, {"S": 1, "X": 3}, {"T": 2, "V": 4}, {"X": 2, "S": 5}, {"P": 3, "V": 5}, {"E": 6})
SHORTEST = 9  # B T B T X S E T E

ABOUT = Description(
    name="embedded-reber",
    label="Embedded Reber grammar",
    kind="tokens",
    metric="accuracy",
    unit="nats per scored step",
    solved=0.999,
    settings={"longest": "letters of the longest string; longer ones (at 50: 2.5 in a million) are left out"},
)


def make(*, longest: int = 50) -> Task:
    """Makes the task.

    Inputs [T, B] tokens, the letters of `LETTERS` by index; at every letter but the last, the next one is due.

    `targets` [T, B] holds the letter that comes, and `allowed` those that may. Distances are from the second letter to the
    step where it is due again, the last but two. Profiles are taken on strings of 4 `longest` + 1 letters.

    Raises:
        InputError: `longest` is below 9, the length of the shortest string.
    """
    longest = check_int("longest", longest, least=SHORTEST)
    lengths, chances = _lengths(longest)
    mean_steps = float(chances @ (lengths - 1))
    # A string of N letters has N - 5 choices between two: all strings together cost this, and the letter forgotten one more.
    least = (math.log(_chances(longest).sum()) + math.log(2) * float(chances @ (lengths - 5))) / mean_steps
    price = least + math.log(2) / mean_steps
    right = 1 - 0.5 / mean_steps
    return Task(
        about=ABOUT,
        settings={"longest": longest},
        n_inputs=len(LETTERS),
        n_outputs=len(LETTERS),
        steps=longest - 1,
        distances=lengths - 4,
        baseline=right,
        baseline_loss=price,
        baseline_text=(
            f"Knowing the grammar and guessing the letter that comes again is right at {100 * right:.4g} % of the steps, "
            f"at {price:.4g} nats a step."
        ),
        best_loss=least,
        draw=partial(_draw, longest),
        draw_longer=partial(_draw_of_length, 4 * longest + 1),
        show=_show,
        allowed=_allowed,
    )


@lru_cache(maxsize=1)
def _automaton() -> np.ndarray:
    """State and letter -> next state of the whole automaton, [20, 7]; -1 where the letter may not come. 0 starts, 19 ends."""
    ways = np.full((20, len(LETTERS)), -1)
    index = {letter: number for number, letter in enumerate(LETTERS)}
    ways[0, index["B"]] = 1
    for number, outer in enumerate("TP"):
        after = 2 + 8 * number  # the outer letter is read; then the 7 states of the inner automaton
        ways[1, index[outer]] = after
        ways[after, index["B"]] = after + 1
        for state, ways_on in enumerate(INNER):
            for letter, target in ways_on.items():
                ways[after + 1 + state, index[letter]] = after + 1 + target
        ways[after + 7, index[outer]] = 18
    ways[18, index["E"]] = 19
    return ways


@lru_cache(maxsize=8)
def _endings(length: int) -> tuple[np.ndarray, np.ndarray]:
    """For n = 0 to `length` letters to go, [n, state]: the chance that a string ends after exactly n, up to a factor for each
    n, which is the second array's exponential."""
    ways = _automaton()
    allowed = ways >= 0
    each = 1 / np.maximum(1, allowed.sum(1))
    found, logs = np.zeros((length + 1, len(ways))), np.zeros(length + 1)
    found[0, -1] = 1
    for n in range(1, length + 1):
        row = (allowed * found[n - 1][ways]).sum(1) * each
        scale = row.max()
        found[n], logs[n] = row / scale, logs[n - 1] + math.log(scale)
    return found, logs


def _chances(longest: int) -> np.ndarray:
    """How likely a string of the grammar has 0 to `longest` letters."""
    found, logs = _endings(longest)
    return found[:, 0] * np.exp(logs)


def _lengths(longest: int) -> tuple[np.ndarray, np.ndarray]:
    """The lengths that occur, and how likely each is among strings of at most `longest` letters."""
    chances = _chances(longest)
    lengths = np.flatnonzero(chances)
    return lengths, chances[lengths] / chances.sum()


def _draw(longest: int, size: int, generator: torch.Generator) -> Batch:
    lengths, chances = _lengths(longest)
    draws = torch.rand(size, generator=generator, dtype=torch.float64).numpy()
    chosen = np.minimum(np.searchsorted(chances.cumsum(), draws, side="right"), len(lengths) - 1)
    return _strings(torch.from_numpy(lengths[chosen]), longest, generator)


def _draw_of_length(length: int, size: int, generator: torch.Generator) -> Batch:
    return _strings(torch.full((size,), length), length, generator)


def _strings(lengths: Tensor, longest: int, generator: torch.Generator) -> Batch:
    """A string of each length [B], drawn as the grammar has it among those of its length, padded to `longest` letters."""
    size = len(lengths)
    endings, _ = _endings(longest)
    ways = _automaton()
    draws = torch.rand(longest, size, generator=generator, dtype=torch.float64).numpy()
    left, state = lengths.numpy(), np.zeros(size, dtype=np.int64)
    letters = np.zeros((longest, size), dtype=np.int64)
    for step in range(int(lengths.max())):
        going = left > step
        # How likely each letter is where the string is to end `left` letters from its start.
        weights = (ways[state] >= 0) * endings[np.maximum(left - step - 1, 0)[:, None], ways[state]]
        levels = weights.cumsum(1)
        letter = (levels <= draws[step, :, None] * levels[:, -1:]).sum(1)
        letters[step, going] = letter[going]
        state[going] = ways[state[going], letter[going]]
    inputs = torch.from_numpy(letters)
    scored = torch.arange(longest - 1)[:, None] < lengths - 1
    return Batch(inputs[:-1] * scored, inputs[1:] * scored, scored.float())


def _allowed(batch: Batch) -> Tensor:
    """The letters that may come after each step, bool [T, B, 7]; past the end of a string the padding is."""
    ways = torch.from_numpy(_automaton()).to(batch.inputs.device)
    state = torch.zeros_like(batch.inputs[0])
    may = torch.zeros(*batch.inputs.shape, len(LETTERS), dtype=torch.bool, device=state.device)
    assert batch.weight is not None
    for step, letters in enumerate(batch.inputs):
        state = torch.where(batch.weight[step] > 0, ways[state, letters], -1)
        may[step] = ways[state] >= 0
    may[..., 0] |= batch.weight == 0
    return may


def _show(batch: Batch) -> str:
    tokens, due = batch.inputs[:, 0].tolist(), batch.targets[:, 0].tolist()
    steps = len(tokens)
    may = _allowed(batch)[:, 0].tolist()
    rows = {
        "step": str,
        "input": lambda step: LETTERS[tokens[step]],
        "target": lambda step: LETTERS[due[step]],
        "allowed": lambda step: "".join(compress(LETTERS, may[step])),
    }
    return (
        f"{table(rows, shown_steps(steps, [1, steps - 2]))}\n\n"
        f"The {LETTERS[tokens[1]]} at step 1 has to come again: it is due at step {steps - 2}, {steps - 3} steps later."
    )
