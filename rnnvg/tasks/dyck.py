"""Dyck-k: brackets of k kinds, rightly nested; at every closing one, which kind does it close?

The formal language behind nested dependencies (Chomsky & Schützenberger 1963), with bounded depth as Hewitt et al. 2020 have
it: a memory of about depth x log2(k) bits is enough. A sequence is drawn uniformly from all balanced ones of its length
and depth, the kinds of its brackets uniformly. Closing brackets are shown without their kind, which is due at the same
step: the opening bracket has to be remembered over everything that stands between the two.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from rnnvg.errors import InputError, check_int
from rnnvg.tasks.task import Batch, Description, Task
from rnnvg.tasks.worked import tokens

OPENING, CLOSING = ("(", "[", "{", "<"), (")", "]", "}", ">")

ABOUT = Description(
    name="dyck",
    label="Dyck language",
    kind="tokens",
    metric="accuracy",
    unit="nats per scored step",
    solved=0.99,
    settings={
        "length": "brackets of a sequence, an even number",
        "kinds": "k, how many kinds of brackets there are",
        "depth": "how many brackets may be open at once",
    },
)


def make(*, length: int = 40, kinds: int = 2, depth: int = 4) -> Task:
    """Makes the task.

    Inputs [T, B] tokens: 0 to k - 1 an opening bracket of that kind, k a closing one; scored at closing brackets.

    `targets` [T, B] holds the kind, 0 to k - 1, where it is scored, and 0 elsewhere. The brackets of a pair are an odd
    number of steps apart; 1 alone at depth 1.

    Raises:
        InputError: an odd length, or one below 2; fewer than two kinds; a depth below 1.
    """
    length = check_int("length", length, least=2)
    if length % 2:
        raise InputError(f"`length` must be even, every bracket has its partner; got {length}.")
    kinds = check_int("kinds", kinds, least=2)
    depth = check_int("depth", depth, least=1)
    price = math.log(kinds)
    return Task(
        about=ABOUT,
        settings={"length": length, "kinds": kinds, "depth": depth},
        n_inputs=kinds + 1,
        n_outputs=kinds,
        steps=length,
        distances=np.array([1]) if depth == 1 else np.arange(1, length, 2),
        baseline=1 / kinds,
        baseline_loss=price,
        baseline_text=(
            f"A guess among {kinds} kinds is right at 1 closing bracket in {kinds}, at ln {kinds} = {price:.4g} nats."
        ),
        draw=partial(_draw, length, kinds, depth),
        # As deep as the training sequences.
        draw_longer=partial(_draw, 4 * length, kinds, depth),
        show=partial(_show, kinds),
    )


def _draw(length: int, kinds: int, depth: int, size: int, generator: torch.Generator) -> Batch:
    draws = torch.rand(length, size, generator=generator, dtype=torch.float64)
    drawn = torch.randint(kinds, (length, size), generator=generator)
    chances = torch.from_numpy(chance_of_opening(length, depth))
    sequences = torch.arange(size)
    height = torch.zeros(size, dtype=torch.int64)
    stack = torch.zeros(depth + 1, size, dtype=torch.int64)
    inputs = torch.empty(length, size, dtype=torch.int64)
    targets = torch.zeros(length, size, dtype=torch.int64)
    for step in range(length):
        opens = draws[step] < chances[step, height]
        top = stack[height, sequences]
        inputs[step] = torch.where(opens, drawn[step], kinds)
        targets[step] = torch.where(opens, 0, top)
        height = height + torch.where(opens, 1, -1)
        # Closing leaves the stack below as it is.
        stack[height, sequences] = torch.where(opens, drawn[step], stack[height, sequences])
    return Batch(inputs, targets, (inputs == kinds).float())


def _show(kinds: int, batch: Batch) -> str:
    named = kinds <= len(OPENING)
    opening = OPENING[:kinds] if named else tuple(f"({kind}" for kind in range(kinds))
    closing = CLOSING if named else tuple(f"{kind})" for kind in range(kinds))
    brackets = batch.inputs[:, 0].tolist()
    signs = [*opening, "|"]
    start, end = _widest(brackets, kinds)
    return (
        f"{tokens(batch, signs, closing, [start, end], around=5)}\n\n"
        f"At every closing bracket '|' its kind is due: step {end} closes the {opening[brackets[start]]} of step {start}, "
        f"{end - start} {'step' if end - start == 1 else 'steps'} before."
    )


def chance_of_opening(length: int, depth: int) -> np.ndarray:
    """At each step and number of open brackets, the chance that a uniformly drawn sequence opens one, [T, depth + 1].

    From the number of ways to end balanced, counted in logs from the end: sequences are long and the counts overflow.
    """
    ways = np.full(depth + 3, -np.inf)  # at index d + 1: with d open brackets; -1 and depth + 1 have none
    ways[1] = 0.0
    chances = np.zeros((length, depth + 1))
    for step in reversed(range(length)):
        opened, closed = ways[2:], ways[:-2]
        total = np.logaddexp(opened, closed)
        possible = total > -np.inf
        chances[step, possible] = np.exp(opened[possible] - total[possible])
        ways = np.concatenate([[-np.inf], total, [-np.inf]])
    return chances


def _widest(tokens: list[int], closing: int) -> tuple[int, int]:
    """The pair of brackets that is furthest apart."""
    opened: list[int] = []
    widest = (0, 0)
    for step, token in enumerate(tokens):
        if token != closing:
            opened.append(step)
            continue
        start = opened.pop()
        if step - start > widest[1] - widest[0]:
            widest = start, step
    return widest
