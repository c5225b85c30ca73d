"""The embedded Reber grammar against a regular expression and a walker that know nothing of its automaton."""

import math
import random
import re
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rnnvg import models, tasks, training
from rnnvg.errors import InputError
from rnnvg.tasks import embedded_reber

# Read off the drawing in Cleeremans, Servan-Schreiber and McClelland 1989: after T comes S* X, after P the loop T* V.
WHOLE = re.compile(r"B([TP])B(?:TS*X(?:S|XT*V(?:PXT*V)*(?:PS|V))|PT*V(?:PXT*V)*(?:PS|V))E\1E")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def strings(batch):
    """The strings of a batch, the last letter from the targets."""
    found = []
    for sequence, steps in enumerate(batch.weight.sum(0).int().tolist()):
        assert batch.weight[:steps, sequence].bool().all()
        letters = batch.inputs[:steps, sequence].tolist() + batch.targets[steps - 1 : steps, sequence].tolist()
        assert batch.inputs[1:steps, sequence].tolist() == batch.targets[: steps - 1, sequence].tolist()
        assert not batch.inputs[steps:, sequence].any()
        assert not batch.targets[steps:, sequence].any()
        found.append("".join(embedded_reber.LETTERS[each] for each in letters))
    return found


def walked(rng):
    """A string by a walk that is written out, one question a line."""
    word, here = "", "start"
    ways = {
        "start": [("T", "left"), ("P", "right")],
        "left": [("S", "left"), ("X", "middle")],
        "right": [("T", "right"), ("V", "low")],
        "middle": [("X", "right"), ("S", "out")],
        "low": [("P", "middle"), ("V", "out")],
    }
    while here != "out":
        letter, here = rng.choice(ways[here])
        word += letter
    outer = rng.choice("TP")
    return f"B{outer}B{word}E{outer}E"


@given(longest=st.integers(9, 60), size=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_every_string_is_of_the_grammar(longest, size, seed):
    task = tasks.make("embedded-reber", longest=longest)
    batch = task.batch(size, seeded(seed))
    found = strings(batch)
    assert all(WHOLE.fullmatch(word) and len(word) <= longest for word in found)
    assert len(batch.inputs) == longest - 1
    assert {len(word) - 4 for word in found} <= set(task.distances.tolist())
    probe = task.probe(2, seeded(seed))
    assert len(probe.inputs) == 4 * longest
    assert all(WHOLE.fullmatch(word) for word in strings(probe))


def test_strings_come_as_often_as_a_walk_comes_by_them():
    rng, n = random.Random(0), 20_000
    ours = Counter(strings(tasks.make("embedded-reber", longest=60).batch(n, seeded())))
    walks = Counter(walked(rng) for _ in range(n))
    assert all(WHOLE.fullmatch(word) for word in walks)
    for word, _ in walks.most_common(12):
        chance = 2.0 ** -(len(word) - 5)
        error = math.sqrt(n * chance * (1 - chance))
        assert abs(ours[word] - n * chance) < 5 * error
        assert abs(walks[word] - n * chance) < 5 * error
    mean = sum(len(word) * count for word, count in walks.items()) / n
    assert sum(len(word) * count for word, count in ours.items()) / n == pytest.approx(mean, abs=0.15)


def test_what_may_come_is_what_comes_after_the_same_beginning():
    rng = random.Random(1)
    after = {}
    for _ in range(30_000):
        word = walked(rng)
        for step in range(1, len(word)):
            after.setdefault(word[:step], set()).add(word[step])
    batch = tasks.make("embedded-reber").batch(200, seeded(2))
    allowed = embedded_reber._allowed(batch)
    compared = 0
    for sequence, word in enumerate(strings(batch)):
        # Beginnings that are met often have shown all their ways on.
        for step in range(min(8, len(word) - 1)):
            may = {letter for letter, yes in zip(embedded_reber.LETTERS, allowed[step, sequence], strict=True) if yes}
            assert may == after[word[: step + 1]]
            compared += 1
        outer = embedded_reber.LETTERS.index(word[1])
        assert allowed[len(word) - 3, sequence].nonzero().flatten().tolist() == [outer]
    assert compared > 1000


class Walker(nn.Module):
    """Says ln of how likely each letter is; where the outer letter is due again it guesses, unless it remembers."""

    def __init__(self, remembers):
        super().__init__()
        self.remembers = remembers

    def forward(self, inputs):
        logits = torch.full((*inputs.shape, 7), -60.0)
        for sequence in range(inputs.shape[1]):
            word = "".join(embedded_reber.LETTERS[each] for each in inputs[:, sequence].tolist())
            for step in range(len(word)):
                for letter in self.next(word[: step + 1]):
                    logits[step, sequence, embedded_reber.LETTERS.index(letter)] = 0.0
        # One of two guesses a hair more likely, so that it is wrong half of the time.
        logits[..., 1] += 1e-6
        return logits, None

    def next(self, word):
        """The ways on, by trying which letters a string of the grammar can go on with."""
        if re.fullmatch("B[TP]B.*E", word):
            return word[1] if self.remembers else "TP"
        if re.fullmatch("B[TP]B.*E[TP]", word):
            return "E"
        if len(word) < 3:
            return {1: "TP", 2: "B"}[len(word)]
        here = "start"
        ways = {
            "start": {"T": "left", "P": "right"},
            "left": {"S": "left", "X": "middle"},
            "right": {"T": "right", "V": "low"},
            "middle": {"X": "right", "S": "out"},
            "low": {"P": "middle", "V": "out"},
            "out": {"E": "end"},
        }
        for letter in word[3:]:
            if letter not in ways.get(here, {}):
                return "B"  # padding
            here = ways[here][letter]
        return ways[here]


@pytest.mark.parametrize("longest", [50, 12])
def test_prices_are_those_of_a_walker(longest):
    task = tasks.make("embedded-reber", longest=longest)
    perfect = task.score(Walker(True), seeded(3), 4000)
    assert perfect["accuracy"] == 1.0
    assert task.solved(perfect)
    forgetful = task.score(Walker(False), seeded(3), 4000)
    # The share of the steps at which it guesses wrong: its standard error over 4,000 strings is 0.0004.
    assert forgetful["accuracy"] == pytest.approx(task.baseline, abs=0.002)
    assert not task.solved(forgetful)
    if longest == 50:
        # Strings that are cut off at 12 letters have ways on that are not equally likely: the walker pays more there.
        assert perfect["loss"] == pytest.approx(task.best_loss, abs=0.004)
        assert forgetful["loss"] == pytest.approx(task.baseline_loss, abs=0.006)
    else:
        assert task.best_loss < perfect["loss"]


def test_padding_does_not_count():
    task = tasks.make("embedded-reber")
    batch = task.batch(50, seeded())
    outputs = torch.randn(*batch.inputs.shape, 7, generator=seeded(1))
    before = task.loss(outputs, batch)
    outputs[batch.weight == 0] = 100.0
    assert torch.equal(task.loss(outputs, batch), before)


def test_it_trains_one_string_at_a_time():
    task = tasks.make("embedded-reber")
    torch.manual_seed(0)
    model = models.build(task, "lstm", hidden=8)
    found = training.fit(model, task, steps=400, batch=1, lr=0.01, generator=seeded(), eval_every=400, eval_size=100)
    assert found.score["accuracy"] > 0.6  # 0.94 to 0.97, whatever the seed; a seventh at the start
    assert found.score["loss"] < 1.2  # 0.56 to 0.62; 1.95 at the start


def test_a_string_that_is_too_short_is_refused():
    with pytest.raises(InputError, match="`longest` must be a whole number of at least 9; got 8"):
        tasks.make("embedded-reber", longest=8)
