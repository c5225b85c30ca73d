"""Tasks whose answer is a class, against slow readers of their sequences; their baselines against a guesser."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_readers import READERS, read
from torch import nn

from rnnvg import tasks
from rnnvg.errors import InputError
from rnnvg.tasks import delayed_recall, scoring, temporal_order


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chosen(name, draw):
    """Settings of a task drawn by hypothesis."""

    def whole(least, most):
        return draw(st.integers(least, most))

    if name == "variable-copy":
        delay = whole(1, 9)
        return {
            "delay": delay,
            "shortest": whole(1, delay),
            "n_symbols": whole(2, 5),
            "recall": whole(1, 4),
            "scored": draw(st.sampled_from(["all", "recall"])),
        }
    if name == "selective-copy":
        length = whole(1, 9)
        scored = draw(st.sampled_from(["all", "recall"]))
        return {"length": length, "n_symbols": whole(2, 5), "recall": whole(1, length), "scored": scored}
    if name == "delayed-recall":
        delay = whole(1, 9)
        return {"delay": delay, "shortest": whole(1, delay), "n_symbols": whole(2, 5)}
    if name == "noisy-recall":
        return {"delay": whole(1, 9), "noise": draw(st.floats(0.1, 3.0))}
    if name == "associative-recall":
        pairs = whole(1, 4)
        return {
            "pairs": pairs,
            "n_keys": whole(pairs, 6),
            "n_values": whole(2, 5),
            "length": whole(3 * pairs, 3 * pairs + 8),
        }
    if name == "temporal-order":
        variant = draw(st.sampled_from(["2-symbol", "3-bit", "2-symbol-wide"]))
        return {"length": whole(17 if variant == "2-symbol-wide" else 10, 40), "variant": variant}
    if name == "parity":
        return {"length": whole(2, 12), "scored": draw(st.sampled_from(["all", "last"]))}
    return {"length": 2 * whole(1, 10), "kinds": whole(2, 4), "depth": whole(1, 5)}


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=15)
def test_every_target_is_what_a_slow_reader_says(name, data):
    task = tasks.make(name, **chosen(name, data.draw))
    seed = data.draw(st.integers(0, 2**31))
    batch = task.batch(6, seeded(seed))
    for held in (batch, task.probe(2, seeded(seed))):
        weight = torch.ones(held.targets.shape) if held.weight is None else held.weight
        for sequence in range(held.targets.shape[1]):
            due = read(task, held.inputs[:, sequence])
            answers = {step: int(held.targets[step, sequence]) for step in due}
            assert answers == {step: answer for step, (answer, _) in due.items()}
            scored = weight[:, sequence].nonzero()[:, 0].tolist()
            if held.weight is None and name != "parity":
                assert scored == list(range(len(weight)))  # blanks are due at the other steps
                assert all(held.targets[step, sequence] == 0 for step in scored if step not in due)
            else:
                assert scored == sorted(due)
            if held is batch:
                for _, distance in due.values():
                    assert set(np.atleast_1d(list(distance) if isinstance(distance, set) else distance)) <= set(
                        task.distances.tolist()
                    )
    again = task.batch(6, seeded(seed))
    assert torch.equal(batch.inputs, again.inputs)
    assert torch.equal(batch.targets, again.targets)


SMALL = {
    "variable-copy": {"delay": 4, "shortest": 2, "recall": 2, "n_symbols": 2},
    "selective-copy": {"length": 6, "recall": 3, "n_symbols": 2},
    "delayed-recall": {"delay": 6, "shortest": 3},
    "noisy-recall": {"delay": 5},
    "associative-recall": {"pairs": 2, "n_keys": 2, "n_values": 2, "length": 8},
    "temporal-order": {"length": 20, "variant": "3-bit"},
    "parity": {"length": 4},
    "dyck": {"length": 8, "depth": 3},
}


@pytest.mark.parametrize("name", READERS)
def test_distances_are_those_that_occur(name):
    task = tasks.make(name, **SMALL[name])
    batch = task.batch(600, seeded())
    found = set()
    for sequence in range(600):
        for _, distance in read(task, batch.inputs[:, sequence]).values():
            found |= distance if isinstance(distance, set) else {distance}
    assert sorted(found) == task.distances.tolist()


class Oracle(nn.Module):
    """Answers what the slow reader says, and class 0 elsewhere."""

    def __init__(self, task):
        super().__init__()
        self.task = task

    def forward(self, inputs):
        answers = torch.zeros(inputs.shape[:2], dtype=torch.int64)
        for sequence in range(inputs.shape[1]):
            for step, (answer, _) in read(self.task, inputs[:, sequence]).items():
                answers[step, sequence] = answer
        return 60.0 * nn.functional.one_hot(answers, self.task.n_outputs).float(), None


@pytest.mark.parametrize("name", READERS)
def test_a_perfect_memory_solves_it(name):
    task = tasks.make(name)
    score = task.score(Oracle(task), seeded(1), 30)
    assert score == {"loss": pytest.approx(task.best_loss, abs=1e-6), task.metric: 1.0}
    assert task.solved(score)
    assert task.solved({**score, task.metric: 0.99})
    assert not task.solved({**score, task.metric: 0.985})


class Guesser(Oracle):
    """Knows where an answer is due and guesses: all that can be right are equally likely, one a hair more."""

    def forward(self, inputs):
        logits, _ = super().forward(inputs)
        symbols = slice(1, None) if "copy" in self.task.name else slice(None)
        for sequence in range(inputs.shape[1]):
            for step in read(self.task, inputs[:, sequence]):
                if self.task.name == "parity" and step == 0:
                    continue  # the first bit is its own parity
                logits[step, sequence] = -60.0
                logits[step, sequence, symbols] = 0.0
                logits[step, sequence, -1] = 1e-6
        return logits, None


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        *((name, {}) for name in READERS),
        ("variable-copy", {"scored": "recall", "recall": 3, "n_symbols": 3}),
        ("selective-copy", {"scored": "all", "recall": 3}),
        ("temporal-order", {"variant": "3-bit"}),
        ("parity", {"scored": "last"}),
        ("dyck", {"kinds": 3}),
    ],
)
def test_baseline_is_what_guessing_scores(name, changed):
    task = tasks.make(name, **changed)
    n = 400
    score = task.score(Guesser(task), seeded(2), n)
    assert score["loss"] == pytest.approx(task.baseline_loss, rel=1e-5)
    # At least one answer a sequence; answers within one are independent.
    assert abs(score[task.metric] - task.baseline) < 4 * math.sqrt(task.baseline * (1 - task.baseline) / n)
    assert f"{task.baseline_loss:.4g}" in task.baseline_text or "0.6931" in task.baseline_text
    assert not task.solved(score)


def test_baselines_by_hand():
    assert tasks.make("variable-copy", delay=10, recall=2).baseline_loss == pytest.approx(2 * math.log(8) / 14)
    assert tasks.make("variable-copy", scored="recall").baseline_loss == pytest.approx(math.log(8))
    assert tasks.make("selective-copy", length=10, scored="all").baseline_loss == pytest.approx(2 * math.log(8) / 12)
    assert tasks.make("delayed-recall", n_symbols=5).baseline == 1 / 5
    assert tasks.make("associative-recall", n_values=3).baseline_loss == pytest.approx(math.log(3))
    assert tasks.make("temporal-order").baseline == 1 / 4
    assert tasks.make("temporal-order", variant="3-bit").baseline_loss == pytest.approx(math.log(8))
    assert tasks.make("parity", length=4).baseline == (1 + 0.5 * 3) / 4
    assert tasks.make("parity", length=4).baseline_loss == pytest.approx(math.log(2) * 3 / 4)
    assert tasks.make("parity", length=4, scored="last").baseline == 1 / 2
    assert tasks.make("dyck", kinds=5).baseline_loss == pytest.approx(math.log(5))


@pytest.mark.parametrize("name", READERS)
def test_all_answers_are_equally_frequent(name):
    task = tasks.make(name, **SMALL[name])
    batch = task.batch(20_000, seeded(3))
    due = batch.targets[scoring.due(task, batch)] if name != "parity" else batch.targets[0]
    counts = torch.bincount(due).double()
    counts = counts[counts > 0]
    expected = due.numel() / len(counts)
    assert len(counts) == (task.n_outputs - 1 if "copy" in name else task.n_outputs)
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


def test_the_windows_of_1997():
    assert temporal_order.windows(100, "2-symbol") == [(10, 20), (50, 60)]
    assert temporal_order.windows(100, "3-bit") == [(10, 20), (33, 43), (66, 76)]


def test_noise_has_the_deviation_asked_for():
    batch = tasks.make("noisy-recall", delay=40, noise=0.7).batch(2000, seeded())
    noise = batch.inputs[1:, :, 0].double()
    assert float(noise.std()) == pytest.approx(0.7, rel=0.02)
    assert abs(float(noise.mean())) < 4 * 0.7 / noise.numel() ** 0.5
    assert (batch.inputs[1:, :, 1] == 0).all()


def balanced(length, depth):
    """All balanced sequences, by trying every one: 1 opens, 0 closes."""
    found = []
    for number in range(2**length):
        bits = [number >> step & 1 for step in range(length)]
        heights = np.cumsum([1 if bit else -1 for bit in bits])
        if heights.min() >= 0 and heights[-1] == 0 and heights.max() <= depth:
            found.append(tuple(bits))
    return found


@pytest.mark.parametrize(("length", "depth"), [(8, 2), (8, 4), (6, 1)])
def test_every_balanced_sequence_is_equally_likely(length, depth):
    task = tasks.make("dyck", length=length, depth=depth)
    opens = (task.batch(20_000, seeded(4)).inputs < task.settings["kinds"]).long().T.tolist()
    every = balanced(length, depth)
    counts = dict.fromkeys(every, 0)
    for sequence in opens:
        counts[tuple(sequence)] += 1
    expected = 20_000 / len(every)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


def test_long_brackets_do_not_overflow():
    batch = tasks.make("dyck", length=3000, depth=1500).batch(2, seeded())
    height = torch.where(batch.inputs < 2, 1, -1).cumsum(0)
    assert int(height.min()) == 0
    assert (height[-1] == 0).all()
    # A uniformly drawn path of 2n steps rises to about sqrt(pi n) (de Bruijn, Knuth, Rice 1972).
    assert 30 < int(height.max()) < 150


def test_one_delay_alone():
    task = delayed_recall.at_delay(tasks.make("delayed-recall", delay=10), 7)
    batch = task.batch(5, seeded())
    assert batch.inputs.shape == (8, 5)
    assert (batch.inputs[0] > 0).all()
    assert task.distances.tolist() == [7]


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("variable-copy", {"delay": 0}, "`delay` must be a whole number of at least 1; got 0."),
        ("variable-copy", {"delay": 5, "shortest": 6}, "`shortest` must be a whole number from 1 to 5; got 6."),
        ("variable-copy", {"scored": "last"}, "`scored` has no 'last'. Pass one of: all, recall."),
        ("selective-copy", {"length": 3, "recall": 4}, "`recall` must be a whole number from 1 to 3; got 4."),
        ("selective-copy", {"n_symbols": 1}, "`n_symbols` must be a whole number of at least 2; got 1."),
        ("delayed-recall", {"delay": 2.5}, "`delay` must be a whole number of at least 1; got 2.5."),
        ("delayed-recall", {"shortest": 0}, "`shortest` must be a whole number from 1 to 40; got 0."),
        ("noisy-recall", {"noise": 0}, "`noise` must be a finite number above 0; got 0."),
        ("noisy-recall", {"delay": True}, "`delay` must be a whole number of at least 1; got True."),
        ("temporal-order", {"length": 9}, "`length` must be a whole number of at least 10; got 9."),
        (
            "temporal-order",
            {"variant": "3bit"},
            "`variant` has no '3bit'. Did you mean '3-bit'? Pass one of: 2-symbol, 3-bit, 2-symbol-wide.",
        ),
        (
            "temporal-order",
            {"length": 16, "variant": "2-symbol-wide"},
            "`length` must be a whole number of at least 17; got 16.",
        ),
        ("associative-recall", {"pairs": 9}, "`pairs` must be a whole number from 1 to 8; got 9."),
        ("associative-recall", {"length": 11}, "`length` must be a whole number of at least 12; got 11."),
        ("associative-recall", {"n_values": 1}, "`n_values` must be a whole number of at least 2; got 1."),
        ("parity", {"length": 1}, "`length` must be a whole number of at least 2; got 1."),
        ("parity", {"scored": "lst"}, "`scored` has no 'lst'. Did you mean 'last'? Pass one of: all, last."),
        ("dyck", {"length": 7}, "`length` must be even, every bracket has its partner; got 7."),
        ("dyck", {"kinds": 1}, "`kinds` must be a whole number of at least 2; got 1."),
        ("dyck", {"depth": 0}, "`depth` must be a whole number of at least 1; got 0."),
    ],
)
def test_bad_settings_are_one_clear_sentence(name, changed, message):
    with pytest.raises(InputError) as caught:
        tasks.make(name, **changed)
    assert str(caught.value) == message
