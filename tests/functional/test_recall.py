"""Accuracy against delay, and a latch built by hand: it remembers for ever, and its gradient is gone at once."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import tasks
from rnnvg.bench import measure
from rnnvg.errors import InputError
from rnnvg.functional.context import ContextLoss, effective_context
from rnnvg.functional.quadrants import BOTH, LATCHED, NEITHER, quadrant
from rnnvg.functional.recall import recall_curve, spread
from rnnvg.models import SequenceModel

TASK = tasks.make("delayed-recall", delay=40, n_symbols=2)


def one_unit(weight, drive, cell="rnn"):
    """h = tanh(weight h + x), driven up by one symbol and down by the other; blanks and the query do nothing."""
    model = SequenceModel(cell=cell, kind="tokens", n_inputs=4, n_outputs=2, hidden=1, embed=1)
    values = {
        "encoder.weight": [[0.0], [-drive], [drive], [0.0]],
        "core.weight_ih_l0": [[1.0]],
        "core.weight_hh_l0": [[weight]],
        "core.bias_ih_l0": [0.0],
        "core.bias_hh_l0": [0.0],
        "readout.weight": [[-5.0], [5.0]],
        "readout.bias": [0.0, 0.0],
    }
    model.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    return model


def both_horizons(model, task=TASK):
    """(gradient, functional) in steps, inf where censored, as a results directory would hold them."""
    probe = task.probe(16, torch.Generator().manual_seed(0))
    gradient = measure.profile(model, task, probe, "state", 0).horizon()
    found = recall_curve(model, task, n=100).horizon()
    return math.inf if gradient.censored else gradient.last, math.inf if found.censored else found.d50


def test_a_latch_remembers_without_gradient():
    gradient, functional = both_horizons(one_unit(weight=3.0, drive=6.0))
    # At the fixed point h = tanh(3 h) a step keeps 3 (1 - h^2) = 0.03 of the gradient.
    assert gradient <= 2
    assert functional == math.inf
    assert quadrant(gradient, functional, reach=40) == LATCHED


def test_a_stronger_latch_has_less_gradient_and_as_much_memory():
    rates = []
    for weight in (1.5, 2.0, 3.0):
        model = one_unit(weight, drive=6.0)
        h = 1.0
        for _ in range(500):
            h = math.tanh(weight * h)
        probe = TASK.probe(4, torch.Generator().manual_seed(0))
        found = measure.profile(model, TASK, probe, "state", 0).curve()
        late = found[(found["distance"] > 20) & (found["distance"] < 60)]["log10_gain"].to_numpy()
        rate = np.diff(late).mean() * math.log(10)
        assert rate == pytest.approx(math.log(weight * (1 - h * h)), rel=1e-4)
        rates.append(rate)
        assert recall_curve(model, TASK, n=50).horizon().censored
    assert rates[0] > rates[1] > rates[2]


def test_a_fading_unit_has_neither_and_an_integrator_both():
    # A hundredth is left at each step: after some twenty float32 has lost even the sign.
    gradient, functional = both_horizons(one_unit(weight=0.01, drive=6.0))
    assert 15 < functional < 30
    assert quadrant(gradient, functional, reach=40) == NEITHER
    keeper = SequenceModel(cell="rnn-relu", kind="tokens", n_inputs=4, n_outputs=2, hidden=1, embed=1)
    keeper.load_state_dict(one_unit(1.0, 1.0).state_dict())
    with torch.no_grad():
        keeper.readout.bias.copy_(torch.tensor([2.5, -2.5]))
        keeper.encoder.weight.copy_(torch.tensor([[0.0], [0.0], [1.0], [0.0]]))
    # An identity recurrence keeps value and gradient; with the units that stay at 0 left out, the gain is 1 for ever.
    gradient, functional = both_horizons(keeper)
    assert functional == math.inf
    assert quadrant(gradient, functional, reach=40) == BOTH


class ForgetsAt(nn.Module):
    """Knows the symbol for `limit` steps, then says the first class."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, inputs):
        steps, size = inputs.shape
        outputs = torch.zeros(steps, size, 8)
        outputs[..., 0] = 1.0
        place = (inputs[0] > 0).nonzero()[:, 0]
        assert len(place) == size  # the symbol stands at the first step of every sequence
        if steps - 1 <= self.limit:
            outputs[-1, torch.arange(size), inputs[0] - 1] = 9.0
        return outputs, None


def test_a_cliff_is_found_where_it_is():
    curve = recall_curve(ForgetsAt(24), tasks.make("delayed-recall", delay=20), n=200)
    assert curve.delay.tolist() == spread(20)
    assert curve.delay[-1] == 80
    assert curve.chance == 1 / 8
    assert (curve.accuracy[curve.delay <= 24] == 1).all()
    assert (np.abs(curve.accuracy[curve.delay > 24] - 1 / 8) < 0.1).all()
    inside, outside = curve.delay[curve.delay <= 24].max(), curve.delay[curve.delay > 24].min()
    assert inside <= curve.horizon().d50 <= outside
    frame = curve.to_frame()
    assert list(frame) == ["delay", "right", "n", "accuracy", "fitted"]
    assert (frame["fitted"] - frame["accuracy"]).abs().max() < 0.12


def test_the_curve_is_drawn():
    ax = recall_curve(ForgetsAt(24), tasks.make("delayed-recall", delay=20), n=50).plot()
    labels = [line.get_label() for line in ax.get_lines()]
    assert labels[:2] == ["measured", "logistic fit"]
    assert labels[2].startswith("50 %: 2")
    assert ax.get_xlabel() == "delay between symbol and query (steps)"


def test_chosen_delays_and_the_same_questions_again():
    task = tasks.make("delayed-recall", delay=20)
    one, other = (recall_curve(ForgetsAt(3), task, [5, 2, 9, 2], n=40) for _ in range(2))
    assert one.delay.tolist() == [2, 5, 9]
    assert one.right.tolist() == other.right.tolist()
    at_the_limit = recall_curve(ForgetsAt(7), task, [6, 7, 8], n=40).accuracy
    assert at_the_limit[:2].tolist() == [1.0, 1.0]
    assert at_the_limit[2] < 0.5


def test_bad_input():
    model = ForgetsAt(3)
    for call, message in (
        (
            lambda: recall_curve(model, tasks.make("adding")),
            "`task` must be delayed-recall, whose delays can be chosen one by one; got 'adding'.",
        ),
        (
            lambda: recall_curve(model, TASK, [3]),
            "`delays` must hold at least two different numbers of steps; got [3].",
        ),
        (lambda: recall_curve(model, TASK, [0, 3]), "`delays` must be a whole number of at least 1; got 0."),
        (lambda: recall_curve(model, TASK, n=0), "`n` must be a whole number of at least 1; got 0."),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == message


def context(increases):
    loss = np.full(50, 3.0)
    return ContextLoss(loss, {"dropped": {k: loss + more for k, more in increases.items()}, "shuffled": {}})


def test_the_effective_context_is_where_a_percent_of_perplexity_is_lost():
    assert effective_context(context({1: 0.5, 2: 0.2, 5: 0.009, 10: 0.0})) == (5, False)
    assert effective_context(context({1: 0.5, 2: 0.2, 5: 0.009, 10: 0.0}), tolerance=0.5) == (2, False)
    # Enough once and not later is not enough.
    assert effective_context(context({1: 0.0, 2: 0.2, 5: 0.0, 10: 0.0})) == (5, False)
    assert effective_context(context({1: 0.5, 2: 0.2})) == (2, True)
    with pytest.raises(InputError) as caught:
        effective_context(context({1: 0.5}), tolerance=0)
    assert str(caught.value) == "`tolerance` must be a finite number above 0; got 0."
