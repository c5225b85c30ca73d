"""diagnose() inside and along recurrent layers: planted faults by name, no alarm on healthy models, numbers by hand."""

import math
import random

import numpy as np
import pytest
import torch
from recurrent_models import (
    FAULTY,
    Last,
    PackedTagger,
    Stepped,
    Tagger,
    Translator,
    crossed,
    drawn,
    healthy,
    make,
    not_finite,
    pairs,
    scaled,
    squared,
    started,
    unequal,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence

import rnnvg
from rnnvg.depth.recurrent import Call, courses
from rnnvg.depth.verdict import THRESHOLDS

HEALTHY = healthy()
# PyTorch's own, for an LSTM with projections on the CPU.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")


def verdict(factory, seed):
    model, batch, loss = make(factory, seed)
    return rnnvg.diagnose(model, batch, loss)


@pytest.mark.parametrize("name", HEALTHY)
def test_no_alarm_on_a_healthy_model(name):
    found = verdict(HEALTHY[name], 0)
    assert found.healthy, str(found)


@pytest.mark.parametrize("name", FAULTY)
def test_a_planted_fault_is_named(name):
    right, factory = FAULTY[name]
    found = verdict(factory, 0)
    assert found.verdict == right, str(found)
    assert found.findings[0].value != found.findings[0].threshold


@pytest.mark.acceptance
@pytest.mark.parametrize("name", HEALTHY)
def test_no_alarm_in_twenty_of_twenty_seeds(name):
    assert [verdict(HEALTHY[name], seed).verdict for seed in range(20)] == ["healthy"] * 20


@pytest.mark.acceptance
@pytest.mark.parametrize("name", FAULTY)
def test_a_planted_fault_is_named_in_twenty_of_twenty_seeds(name):
    right, factory = FAULTY[name]
    assert [verdict(factory, seed).verdict for seed in range(20)] == [right] * 20


# Numbers ------------------------------------------------------------------------------------------------------------------


def test_growth_is_that_of_the_matrix():
    torch.manual_seed(0)
    model = started(Last("RNN", nonlinearity="relu"), "identity", "rnn-relu")
    with torch.no_grad():
        model.rnn.weight_hh_l0.mul_(1.3)
        model.rnn.weight_ih_l0.abs_()
    x = torch.rand(8, 60, 3)  # every unit open at every step: the gradient grows by exactly 1.3 a step
    found = rnnvg.diagnose(model, (x, torch.zeros(8, 1)), squared)
    assert found.layers[0].log10_growth == pytest.approx(59 * math.log10(1.3), abs=1e-3)
    assert found.findings[0].evidence == (
        "Going back over 60 steps the gradient of rnn grows to 10^7 times what it is at the last ones."
    )


def by_autograd(module, x, lengths, direction):
    """ln gain of the state of one direction, [K, B], by autograd through cells in float64, each sequence on its own."""
    kind = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}[type(module).__name__]
    cell = kind(module.input_size, module.hidden_size, dtype=torch.float64)
    suffix = "_l0_reverse" if direction else "_l0"
    with torch.no_grad():
        for name, parameter in cell.named_parameters():
            parameter.copy_(getattr(module, name + suffix))
    generator = torch.Generator().manual_seed(0)
    covectors = torch.randn(1, len(lengths), module.hidden_size, generator=generator, dtype=torch.float64)[0]
    gains = np.full((max(lengths) + 1, len(lengths)), np.nan)
    for b, length in enumerate(lengths):
        sequence = x[b, :length].double()
        sequence = sequence.flip(0) if direction else sequence
        parts = 2 if kind is nn.LSTMCell else 1
        state = tuple(torch.zeros(1, module.hidden_size, dtype=torch.float64) for _ in range(parts))
        leaves = []
        for t in range(length):
            leaves.append([torch.zeros_like(each, requires_grad=True) for each in state])
            passed = tuple(each + leaf for each, leaf in zip(state, leaves[-1], strict=True))
            new = cell(sequence[t : t + 1], passed if parts == 2 else passed[0])
            state = new if parts == 2 else (new,)
        grads = torch.autograd.grad((state[0][0] * covectors[b]).sum(), [each for leaf in leaves for each in leaf])
        norms = [
            math.sqrt(sum(float(g.square().sum()) for g in grads[parts * t : parts * (t + 1)])) for t in range(length)
        ]
        gains[1 : length + 1, b] = np.log(norms[::-1])
    return gains - gains[1]


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_packed_bidirectional_course_is_autograds(kind):
    torch.manual_seed(0)
    module = getattr(nn, kind)(3, 5, batch_first=True, bidirectional=True, dtype=torch.float64)
    x, lengths = torch.randn(4, 9, 3, dtype=torch.float64), [4, 9, 2, 7]
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    found = courses(module, [Call(packed, None)])
    assert [each.where for each in found] == ["forward", "backward"]
    for direction, course in enumerate(found):
        expected = np.nanmean(by_autograd(module, x, lengths, direction)[1:], axis=1) / math.log(10)
        # Twenty products of float64 and their logs.
        np.testing.assert_allclose(course.log10_gain[1:], expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_the_second_layer_is_run_on_what_the_first_gives_out(kind):
    """A stack taken apart is two modules of one layer, the second on the first one's outputs in both directions."""
    torch.manual_seed(0)
    module = getattr(nn, kind)(3, 5, 2, bidirectional=True, dtype=torch.float64)
    x, state = torch.randn(7, 4, 3, dtype=torch.float64), torch.randn(4, 4, 5, dtype=torch.float64)
    layers = [getattr(nn, kind)(size, 5, bidirectional=True, dtype=torch.float64) for size in (3, 10)]
    with torch.no_grad():
        for number, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                parameter.copy_(getattr(module, name.replace("_l0", f"_l{number}")))
    parts = [(half, half) if kind == "LSTM" else half for half in (state[:2], state[2:])]
    y = layers[0](x, parts[0])[0]
    expected = [*courses(layers[0], [Call(x, parts[0])]), *courses(layers[1], [Call(y, parts[1])])]
    found = courses(module, [Call(x, (state, state) if kind == "LSTM" else state)])
    assert [each.where for each in found] == [
        "layer 1, forward",
        "layer 1, backward",
        "layer 2, forward",
        "layer 2, backward",
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.log10_gain[1:], other.log10_gain[1:], atol=1e-10)


def test_shares_of_stuck_gates_are_counted_and_a_held_memory_is_none():
    torch.manual_seed(0)
    cell = nn.LSTMCell(3, 6)
    with torch.no_grad():
        cell.bias_ih.copy_(torch.tensor([-20.0, 20.0, 0.0, 0.0]).repeat_interleave(6))
        cell.bias_ih[6:9] = -20.0  # half of the units hold, the others forget and are shut to their inputs
        cell.bias_ih[18:20] = 20.0
        cell.weight_ih[12:18] *= 0.1
        cell.weight_hh[12:18] *= 0.1
    x, h, c = torch.randn(40, 3), torch.randn(40, 6), torch.randn(40, 6)
    (course,) = courses(cell, [Call(x, (h, c)), Call(x, None)])
    assert course.stuck == {
        "input gate": 0.5,
        "forget gate": 0.5,
        "candidate": 0.0,
        "output gate": pytest.approx(2 / 6),
    }
    assert course.all_stuck == pytest.approx((0.5 + 0.5 + 2 / 6) / 4)


def test_numbers_stand_in_the_frame():
    torch.manual_seed(0)
    frame = rnnvg.diagnose(Last("LSTM"), drawn(scale=100.0), squared).to_frame().set_index("name")
    assert frame.loc["rnn", "stuck_gates"] > THRESHOLDS["stuck"]
    assert frame.loc["rnn", "log10_first_step"] < 0
    assert math.isnan(frame.loc["out", "log10_growth"])


def test_what_the_loss_looks_at_decides_whether_a_vanilla_network_vanishes():
    torch.manual_seed(0)
    model = Tagger("RNN")
    found = rnnvg.diagnose(model, drawn(60, tags=True), squared)
    assert found.healthy
    assert found.notes[0].startswith("The first of 60 steps of rnn get 10^-")
    x, y = drawn(60, tags=True)
    late = rnnvg.diagnose(model, (x, y), lambda m, b: F.mse_loss(m(b[0])[:, -5:], b[1][:, -5:]))
    assert late.verdict == "vanishing-through-time"


# What is not finite, and where first --------------------------------------------------------------------------------------


def test_the_place_in_the_batch_is_named():
    x, y = not_finite(math.nan)
    for batch, name in (((x, y), "batch[0]"), ({"x": x, "y": y}, "batch['x']")):
        first = rnnvg.diagnose(
            Last("LSTM"), batch, lambda m, b: squared(m, list(b.values()) if isinstance(b, dict) else b)
        )
        assert first.findings[0].evidence == (
            f"1 of 1440 values of {name} are not finite, the first is nan at [3, 7, 1], so the loss is nan."
        )


def test_the_weight_that_is_not_finite_is_named():
    model = Last("GRU")
    with torch.no_grad():
        model.out.bias.fill_(math.inf)
    found = rnnvg.diagnose(model, drawn(), squared)
    assert found.verdict == "non-finite-weights"
    assert found.findings[0].layers == ("out",)
    assert found.findings[0].evidence == "1 of 1 values of out.bias are not finite, the first is inf at [0]."


def test_the_layer_that_is_first_not_finite_is_named():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1))
    with torch.no_grad():
        nn.init.ones_(model[0].weight)  # sums of 3 and more, whatever the biases: times 3e38 beyond float32
        model[1].weight.fill_(3e38)
    found = rnnvg.diagnose(model, (torch.ones(8, 3), torch.zeros(8, 1)), squared)
    assert found.verdict == "non-finite-loss"
    assert found.findings[0].layers == ("1",)
    assert "of the output of 1 are not finite" in found.findings[0].evidence


def test_what_the_loss_does_not_see_is_a_note():
    (x, lengths), y = unequal()
    for b, length in enumerate(lengths):
        x[b, length:] = math.nan
    found = rnnvg.diagnose(PackedTagger("LSTM"), ((x, lengths), y), lambda m, b: m(b[0]).square().mean())
    assert found.healthy
    assert found.notes[-1].endswith("; the loss does not see it.")


def test_a_learning_rate_that_is_too_long_is_told_from_an_assumed_one():
    model = Last("LSTM")
    wild = torch.optim.SGD(model.parameters(), lr=1e30)
    found = rnnvg.diagnose(model, drawn(), squared, optimizer=wild)
    assert found.verdict == "non-finite-loss"
    assert found.findings[0].evidence.endswith("after 5 updates of the optimiser.")
    assert rnnvg.diagnose(model, drawn(), squared, lr=1e30).healthy


# Models as people have them -----------------------------------------------------------------------------------------------


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(3, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_model_is_not_judged():
    model = torch.jit.script(Scripted())
    found = rnnvg.diagnose(model, torch.randn(20, 8, 3), lambda m, x: m(x).square().mean())
    assert not found.healthy
    assert str(found) == (
        "not-judged: `model` is scripted by torch.jit, so no layer, gate or step inside can be watched; pass the nn.Module "
        "that it was made from."
    )
    part = Scripted()
    part.rnn = torch.jit.script(nn.LSTM(3, 16))
    assert str(rnnvg.diagnose(part, torch.randn(20, 8, 3), lambda m, x: m(x).square().mean())).startswith(
        "not-judged: `rnn` is scripted by torch.jit"
    )


@pytest.mark.parametrize("ran", [False, True])
@pytest.mark.parametrize(
    "how", [parametrizations.orthogonal, parametrizations.spectral_norm, parametrizations.weight_norm]
)
def test_parametrized_modules_are_copied_and_judged(how, ran):
    torch.manual_seed(0)
    model = Last("LSTM")
    how(model.rnn, "weight_hh_l0")
    if ran:
        model(drawn()[0])
    found = rnnvg.diagnose(model, drawn(), squared)
    assert found.healthy
    assert [each.name for each in found.layers] == ["rnn", "out"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_any_floating_type(dtype):
    torch.manual_seed(0)
    batch = tuple(each.to(dtype) for each in drawn(scale=100.0))
    assert rnnvg.diagnose(Last("GRU").to(dtype), batch, squared).verdict == "saturated-gates"


def test_an_unbatched_sequence_and_arguments_by_name():
    class Named(Scripted):
        def forward(self, x):
            state = torch.zeros(1, 16), torch.zeros(1, 16)
            return self.out(self.rnn(input=x, hx=state)[0][-1])

    torch.manual_seed(0)
    found = rnnvg.diagnose(Named(), 1000 * torch.randn(30, 3), lambda m, x: m(x).square().mean())
    assert found.verdict == "saturated-gates"
    assert found.notes == ()


def test_a_subclass_with_a_forward_of_its_own_is_not_followed():
    class Own(nn.LSTM):
        def forward(self, x, hx=None):
            return super().forward(x / 1000, hx)

    torch.manual_seed(0)
    model = Last("LSTM")
    model.rnn = Own(3, 32, batch_first=True)
    found = rnnvg.diagnose(model, drawn(scale=1000.0), squared)
    assert found.healthy  # by its weights alone every gate would be stuck
    assert math.isnan(found.layers[0].stuck_gates)


def test_what_starts_at_zero_on_purpose_has_not_collapsed():
    class Learned(Last):
        def __init__(self):
            super().__init__("GRU")
            self.first = nn.Parameter(torch.zeros(1, 1, 32))

        def forward(self, x):
            return self.out(self.rnn(x, self.first.expand(1, len(x), -1).contiguous())[0][:, -1])

    torch.manual_seed(0)
    assert rnnvg.diagnose(Learned(), drawn(), squared).healthy


# Nothing is changed -------------------------------------------------------------------------------------------------------


def test_every_random_state_and_the_gradients_of_others_are_left_alone():
    torch.manual_seed(0)
    model, beside = Translator("GRU", attention=True), nn.Linear(32, 32)
    model.embedding.weight.grad = torch.ones_like(model.embedding.weight)

    def loss(m, b):
        return crossed(m, b) + beside(m.embedding.weight).square().mean()

    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    weights = {name: each.clone() for name, each in model.state_dict().items()}
    rnnvg.diagnose(model, pairs_of(states[2]), loss)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(each.grad is None for each in beside.parameters())
    assert bool((model.embedding.weight.grad == 1).all())
    assert all(torch.equal(each, weights[name]) for name, each in model.state_dict().items())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def pairs_of(state):
    found = pairs()
    torch.set_rng_state(state)
    return found


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_inside_whatever_they_are_outside(mode):
    torch.manual_seed(0)
    with mode():
        model, batch = Stepped("GRUCell"), drawn()
        assert rnnvg.diagnose(model, batch, squared).healthy
        assert not torch.is_grad_enabled()
    model = scaled(Last("RNN"), "weight_hh", 0.2)
    with mode():
        assert rnnvg.diagnose(model, batch, squared).verdict == "vanishing-through-time"
