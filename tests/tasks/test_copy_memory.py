"""Copy memory against the published generators written out slowly, a walking decoder, and a simulated guesser."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rnnvg import tasks
from rnnvg.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def published(symbols, delay, delimiter, n_symbols):
    """Input and target as the papers list them, symbol by symbol: blank 0, symbols 1..K, delimiter K + 1."""
    sign, count = n_symbols + 1, len(symbols)
    if delimiter == "single":  # Arjovsky 2016: S entries, T - 1 blanks, one delimiter, S blanks
        inputs = [*symbols, *[0] * (delay - 1), sign, *[0] * count]
        targets = [0] * (delay + count) + [*symbols]
    else:  # locuslab/TCN: S entries, T - 1 zeros, S + 1 nines; S placeholders, T zeros, S entries
        inputs = [*symbols, *[0] * (delay - 1), *[sign] * (count + 1)]
        targets = [*[0] * count, *[0] * delay, *symbols]
    return inputs, targets


def recall_slowly(inputs, n_symbols):
    """What a reader with a perfect memory says at each step, knowing nothing of lengths: (answers, distances)."""
    queue, answers, distances, told = [], [], [], False
    for step, token in enumerate(inputs):
        if 1 <= token <= n_symbols:
            assert not told
            queue.append((step, token))
        # Told one step earlier: the sign itself is still answered with a blank.
        if told and queue:
            seen, symbol = queue.pop(0)
            answers.append(symbol)
            distances.append(step - seen)
        else:
            answers.append(0)
        told = told or token == n_symbols + 1
    assert not queue
    return answers, distances


class Guesser(nn.Module):
    """Remembers nothing but the time: blanks, then all symbols equally likely."""

    def __init__(self, task, symbol=0.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(60.0))
        self.task, self.symbol = task, symbol

    def forward(self, inputs):
        steps, size = inputs.shape
        logits = torch.zeros(steps, size, self.task.n_outputs)
        due = steps - self.task.settings["recall"]
        logits[:due, :, 0] = self.scale
        logits[due:, :, 0] = -self.scale
        # A hair towards one symbol, so that the most likely answer is not a tie.
        logits[due:, :, 1] = 1e-6
        return logits, None


settings = {
    "delay": st.integers(1, 12),
    "n_symbols": st.integers(2, 9),
    "recall": st.integers(1, 6),
    "delimiter": st.sampled_from(["single", "row"]),
    "scored": st.sampled_from(["all", "recall"]),
}


@given(size=st.integers(1, 9), seed=st.integers(0, 2**31), **settings)
def test_every_sequence_is_the_published_one_and_can_be_recalled(size, seed, **chosen):
    task = tasks.make("copy", **chosen)
    delay, recall, n_symbols = chosen["delay"], chosen["recall"], chosen["n_symbols"]
    batch = task.batch(size, seeded(seed))
    assert task.steps == delay + 2 * recall
    assert batch.inputs.shape == batch.targets.shape == (task.steps, size)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    for sequence in range(size):
        inputs, targets = batch.inputs[:, sequence].tolist(), batch.targets[:, sequence].tolist()
        symbols = inputs[:recall]
        assert all(1 <= symbol <= n_symbols for symbol in symbols)
        assert (inputs, targets) == published(symbols, delay, chosen["delimiter"], n_symbols)
        answers, distances = recall_slowly(inputs, n_symbols)
        assert answers == targets
        assert distances == task.distances.tolist() == [delay + recall] * recall
    assert int(batch.inputs.max()) < task.n_inputs
    assert int(batch.targets.max()) < task.n_outputs
    if chosen["scored"] == "all":
        assert batch.weight is None
    else:
        assert batch.weight is not None
        assert batch.weight.tolist() == [[0.0] * size] * (task.steps - recall) + [[1.0] * size] * recall


def test_symbols_are_uniform():
    counts = torch.bincount(tasks.make("copy", n_symbols=5).batch(50_000, seeded()).inputs[0])
    assert counts[0] == 0
    assert ((counts[1:] - 10_000).abs() < 5 * (50_000 * 0.2 * 0.8) ** 0.5).all()
    assert len(counts) == 6


@pytest.mark.parametrize("delimiter", ["single", "row"])
@pytest.mark.parametrize("scored", ["all", "recall"])
@pytest.mark.parametrize("recall", [1, 4])
def test_baseline_is_what_guessing_scores(delimiter, scored, recall):
    task = tasks.make("copy", delay=6, n_symbols=4, recall=recall, delimiter=delimiter, scored=scored)
    n = 20_000
    score = task.score(Guesser(task), seeded(1), n)
    assert score["loss"] == pytest.approx(task.baseline_loss, rel=1e-5)
    assert abs(score["recall_accuracy"] - task.baseline) < 4 * (0.25 * 0.75 / (n * recall)) ** 0.5
    expected = math.log(4) if scored == "recall" else recall * math.log(4) / (6 + 2 * recall)
    assert task.baseline_loss == pytest.approx(expected, rel=1e-15)
    assert task.baseline == 1 / 4


def test_baseline_of_the_published_sizes():
    # Arjovsky 2016: 10 ln 8 / (T + 20); at T = 1000 the 0.0204 that locuslab/TCN's table has for LSTM.
    task = tasks.make("copy", delay=1000, recall=10)
    assert task.baseline_loss == pytest.approx(0.020387, abs=5e-7)
    assert task.steps == 1020
    assert (task.n_inputs, task.n_outputs) == (10, 9)


def test_a_perfect_memory_scores_nothing_and_is_solved():
    class Memory(nn.Module):
        def forward(self, inputs):
            answers = torch.tensor([recall_slowly(column, 8)[0] for column in inputs.T.tolist()]).T
            return 60.0 * nn.functional.one_hot(answers, 9).float(), None

    task = tasks.make("copy", recall=3)
    score = task.score(Memory(), seeded(), 20)
    assert score == {"loss": pytest.approx(task.best_loss, abs=1e-6), "recall_accuracy": 1.0}
    assert task.solved(score)
    assert not task.solved({"loss": 0.0, "recall_accuracy": 0.985})


def test_loss_is_a_mean_over_scored_steps_alone():
    task = tasks.make("copy", delay=2, recall=1, scored="recall", n_symbols=2)
    batch = task.batch(5, seeded())
    outputs = torch.randn(4, 5, 3, generator=seeded(1))
    slowly = [-float(outputs[3, b].log_softmax(0)[batch.targets[3, b]]) for b in range(5)]
    assert float(task.loss(outputs, batch)) == pytest.approx(sum(slowly) / 5, rel=1e-5)


@given(**settings)
def test_probe_is_four_times_as_long_by_delay_alone(**chosen):
    task = tasks.make("copy", **chosen)
    probe = task.probe(2, seeded())
    assert probe.inputs.shape == (4 * task.steps, 2)
    inputs, targets = probe.inputs[:, 0].tolist(), probe.targets[:, 0].tolist()
    answers, distances = recall_slowly(inputs, task.settings["n_symbols"])
    assert answers == targets
    assert len(distances) == task.settings["recall"]
    assert (inputs.count(task.settings["n_symbols"] + 1) == 1) == (task.settings["delimiter"] == "single")


def test_same_seed_same_batch_and_the_same_on_every_machine():
    batch = tasks.make("copy", recall=5, delay=1).batch(3, seeded(7))
    assert batch.inputs[:5].tolist() == [[8, 5, 2], [7, 4, 4], [8, 8, 5], [2, 7, 8], [1, 2, 7]]


def test_settings_give_the_same_task_again():
    chosen = {"delay": 3, "n_symbols": 4, "recall": 2, "delimiter": "row", "scored": "recall"}
    assert tasks.make("copy", **chosen).settings == chosen
    assert list(tasks.settings("copy")) == list(chosen)
    assert {name: default for name, (default, _) in tasks.settings("copy").items()} == tasks.make("copy").settings


def test_example_shows_symbols_sign_and_answer():
    assert tasks.make("copy").example() == ONE
    assert tasks.make("copy", recall=3, delay=4, delimiter="row", scored="recall").example() == ROW


ONE = """\
step     0 1 … 19 20 21
input    5 . …  .  !  .
target   . . …  .  .  5

The symbol at the start is due after the sign '!', 21 steps after being seen ('.' is a blank)."""
ROW = """\
step     0 1 2 3 4 5 6 7 8 9
input    5 8 6 . . . ! ! ! !
target                 5 8 6

The 3 symbols at the start are due after the sign '!', 7 steps after being seen ('.' is a blank)."""


def test_baseline_text_names_the_price():
    assert tasks.make("copy").baseline_text == (
        "Blanks until the recall and then a guess among 8 symbols recalls 1 in 8 at ln 8 / 22 = 0.09452 nats a step."
    )
    assert tasks.make("copy", scored="recall").baseline_text == (
        "Blanks until the recall and then a guess among 8 symbols recalls 1 in 8 at ln 8 = 2.079 nats a step."
    )


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"delay": 0}, "`delay` must be a whole number of at least 1; got 0."),
        ({"delay": -3}, "`delay` must be a whole number of at least 1; got -3."),
        ({"n_symbols": 1}, "`n_symbols` must be a whole number of at least 2; got 1."),
        ({"recall": True}, "`recall` must be a whole number of at least 1; got True."),
        ({"delimiter": "rows"}, "`delimiter` has no 'rows'. Did you mean 'row'? Pass one of: single, row."),
        ({"scored": "reccall"}, "`scored` has no 'reccall'. Did you mean 'recall'? Pass one of: all, recall."),
    ],
)
def test_bad_settings_are_one_clear_sentence(chosen, message):
    with pytest.raises(InputError) as caught:
        tasks.make("copy", **chosen)
    assert str(caught.value) == message
