"""Multi-query associative recall (MQAR): pairs of a key and a value, and later each key again; which value was its own?

Arora et al. 2023 (Zoology); Ba et al. 2016 asked for a single pair. The first 2D steps hold D pairs with distinct keys, a
key and then its value; in the rest of the sequence each key comes once more, in any order at places drawn uniformly, and its
value is due at once. Blanks fill the other steps. (The original puts most queries soon after the pairs.)
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from rnnvg.errors import check_int
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import tokens

ABOUT = Description(
    name="associative-recall",
    label="Associative recall",
    kind="tokens",
    metric="recall_accuracy",
    unit="nats per scored step",
    solved=0.99,
    settings={
        "pairs": "pairs of a key and a value to remember",
        "n_keys": "how many different keys there are; those of a sequence are distinct",
        "n_values": "how many different values there are; several keys may have the same",
        "length": "steps of a sequence, at least 3 times `pairs`: the pairs, and then the queries among blanks",
    },
)


def make(*, pairs: int = 4, n_keys: int = 8, n_values: int = 8, length: int = 32) -> Task:
    """Makes the task: inputs [T, B] tokens: 0 is blank, 1 to n_keys the keys, then the values; scored where a key comes again.

    `targets` [T, B] holds the value's class, 0 to n_values - 1, where it is scored, and 0 elsewhere. Distances are from a
    value to the step where it is due; its key is one step further off.

    Raises:
        InputError: a count below its least value, more pairs than keys, or a length too short to ask for all of them.
    """
    n_keys = check_int("n_keys", n_keys, least=1)
    n_values = check_int("n_values", n_values, least=2)
    pairs = check_int("pairs", pairs, least=1, most=n_keys)
    length = check_int("length", length, least=3 * pairs)
    price = math.log(n_values)
    return Task(
        about=ABOUT,
        settings={"pairs": pairs, "n_keys": n_keys, "n_values": n_values, "length": length},
        n_inputs=1 + n_keys + n_values,
        n_outputs=n_values,
        steps=length,
        distances=np.arange(1, length - 1),
        baseline=1 / n_values,
        baseline_loss=price,
        baseline_text=(
            f"A guess among {n_values} values is right in 1 of {n_values} at ln {n_values} = {price:.4g} nats a query."
        ),
        draw=partial(_draw, pairs, n_keys, n_values, length),
        draw_longer=partial(_draw, pairs, n_keys, n_values, 4 * length),
        show=partial(_show, pairs, n_keys, n_values),
    )


def _draw(pairs: int, n_keys: int, n_values: int, length: int, size: int, generator: torch.Generator) -> Batch:
    keys = _shuffled(n_keys, size, generator)[:pairs] + 1
    classes = torch.randint(n_values, (pairs, size), generator=generator)
    # Places come in random order, so that the queries do too.
    start = 2 * pairs
    places = _shuffled(length - start, size, generator)[:pairs] + start
    sequences = torch.arange(size)
    inputs = torch.zeros(length, size, dtype=torch.int64)
    inputs[0:start:2] = keys
    inputs[1:start:2] = classes + n_keys + 1
    inputs[places, sequences] = keys
    targets = torch.zeros(length, size, dtype=torch.int64)
    targets[places, sequences] = classes
    weight = torch.zeros(length, size)
    weight[places, sequences] = 1
    return Batch(inputs, targets, weight)


def _show(pairs: int, n_keys: int, n_values: int, batch: Batch) -> str:
    # Keys are letters, values numbers.
    values = [*map(str, range(n_values))]
    signs = [".", *map(_letters, range(n_keys)), *values]
    assert batch.weight is not None
    queries = batch.weight[:, 0].nonzero()[:, 0].tolist()
    first, read = queries[0], batch.inputs[:, 0]
    seen = int((read == read[first]).nonzero()[0]) + 1
    return (
        f"{tokens(batch, signs, values, [*range(2 * pairs), *queries])}\n\nEach key (a letter) is followed by its "
        f"value (a number), which is due when the key comes again: {signs[read[first]]} at step {first} asks for "
        f"{signs[read[seen]]}, seen {first - seen} steps before ('.' is a blank)."
    )


def _shuffled(n: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """`size` orders of 0 to n - 1, [n, B]."""
    return torch.rand(n, size, generator=generator, dtype=torch.float64).argsort(0)


def _letters(number: int) -> str:
    """a to z, then aa, ab and so on."""
    name = ""
    while number >= 0:
        name = chr(ord("a") + number % 26) + name
        number = number // 26 - 1
    return name
