"""Dyck-k: brackets of k kinds, rightly nested; at every closing one, which kind does it close?

The formal language behind nested dependencies (Chomsky & Schützenberger 1963), with bounded depth as Hewitt et al. 2020 have
it: a memory of about depth x log2(k) bits is enough. A sequence is drawn uniformly from all balanced ones of its length
and depth, the kinds of its brackets uniformly. Closing brackets are shown without their kind, which is due at the same
step: the opening bracket has to be remembered over everything that stands between the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from rnnvg.errors import InputError, check_int
from rnnvg.tasks import scoring
from rnnvg.tasks.answers import Answers
from rnnvg.tasks.task import Batch
from rnnvg.tasks.worked import shown_steps, table

OPENING, CLOSING = ("(", "[", "{", "<"), (")", "]", "}", ">")


class Dyck(Answers):
    """Inputs [T, B] tokens: 0 to k - 1 an opening bracket of that kind, k a closing one; scored at closing brackets.

    `targets` [T, B] holds the kind, 0 to k - 1, where it is scored, and 0 elsewhere.

    Raises:
        InputError: an odd length, or one below 2; fewer than two kinds; a depth below 1.
    """

    ABOUT: Mapping[str, str] = {
        "length": "brackets of a sequence, an even number",
        "kinds": "k, how many kinds of brackets there are",
        "depth": "how many brackets may be open at once",
    }
    name = "dyck"
    kind = "tokens"
    metric = "accuracy"

    def __init__(self, *, length: int = 40, kinds: int = 2, depth: int = 4) -> None:
        self.length = self.steps = check_int("length", length, least=2)
        if self.length % 2:
            raise InputError(f"`length` must be even, every bracket has its partner; got {self.length}.")
        self.kinds = check_int("kinds", kinds, least=2)
        self.depth = check_int("depth", depth, least=1)
        self.n_inputs = self.kinds + 1
        self.n_outputs = self.kinds

    @property
    def distances(self) -> np.ndarray:
        """Every possible distance between the brackets of a pair: the odd numbers below T; 1 alone at depth 1."""
        return np.array([1]) if self.depth == 1 else np.arange(1, self.length, 2)

    @property
    def baseline(self) -> float:
        return 1 / self.kinds

    @property
    def baseline_loss(self) -> float:
        return math.log(self.kinds)

    @property
    def baseline_text(self) -> str:
        k = self.kinds
        return (
            f"A guess among {k} kinds is right at 1 closing bracket in {k}, at ln {k} = {self.baseline_loss:.4g} nats."
        )

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` fresh sequences."""
        size = check_int("size", size, least=1)
        scoring.check_generator(generator)
        draws = torch.rand(self.length, size, generator=generator, dtype=torch.float64)
        kinds = torch.randint(self.kinds, (self.length, size), generator=generator)
        chances = torch.from_numpy(chance_of_opening(self.length, self.depth))
        sequences = torch.arange(size)
        height = torch.zeros(size, dtype=torch.int64)
        stack = torch.zeros(self.depth + 1, size, dtype=torch.int64)
        inputs = torch.empty(self.length, size, dtype=torch.int64)
        targets = torch.zeros(self.length, size, dtype=torch.int64)
        for step in range(self.length):
            opens = draws[step] < chances[step, height]
            top = stack[height, sequences]
            inputs[step] = torch.where(opens, kinds[step], self.kinds)
            targets[step] = torch.where(opens, 0, top)
            height = height + torch.where(opens, 1, -1)
            # Closing leaves the stack below as it is.
            stack[height, sequences] = torch.where(opens, kinds[step], stack[height, sequences])
        return Batch(inputs, targets, (inputs == self.kinds).float())

    def probe(self, n: int, generator: torch.Generator) -> Batch:
        """`n` sequences of four times the training length, as deep as the training ones."""
        return Dyck(**{**self.settings, "length": 4 * self.length}).batch(n, generator)

    def example(self, generator: torch.Generator | None = None) -> str:
        """One sequence as a table: brackets, and the kinds that are due."""
        batch = self.batch(1, generator or scoring.seeded(0))
        named = self.kinds <= len(OPENING)
        opening = OPENING if named else tuple(f"({kind}" for kind in range(self.kinds))
        closing = CLOSING if named else tuple(f"{kind})" for kind in range(self.kinds))
        tokens, due = batch.inputs[:, 0].tolist(), batch.targets[:, 0].tolist()
        rows = {
            "step": [str(step) for step in range(self.length)],
            "input": [opening[token] if token < self.kinds else "|" for token in tokens],
            "target": [closing[kind] if token == self.kinds else "" for token, kind in zip(tokens, due, strict=True)],
        }
        start, end = _widest(tokens, self.kinds)
        return (
            f"{table(rows, shown_steps(self.length, [start, end], around=5))}\n\n"
            f"At every closing bracket '|' its kind is due: step {end} closes the {opening[tokens[start]]} of step {start}, "
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
    held: list[int] = []
    pairs = []
    for step, token in enumerate(tokens):
        if token != closing:
            held.append(step)
        else:
            pairs.append((held.pop(), step))
    return max(pairs, key=lambda pair: pair[1] - pair[0])
