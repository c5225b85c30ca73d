"""Bidirectional modules: each direction's states, and the input on both sides of a source, against autograd."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnvg
from rnnvg.errors import InputError
from tests.reference import gru_equation, lstm_equation, rnn_equation

WIDE = torch.float64
T, B, I, H = 9, 3, 2, 4
KINDS = {
    "rnn": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": 3}),
    "gru": (nn.GRU, {}),
    "gru without bias": (nn.GRU, {"bias": False}),
}
SOURCES = [0, 3, T - 1]


def make(kind: str, layers: int, seed: int = 0, **more):
    torch.manual_seed(seed)
    cls, settings = KINDS[kind]
    module = cls(I, H, layers, bidirectional=True, dtype=WIDE, **settings, **more)
    for parameter in module.parameters():
        parameter.data *= 1.7
    return module


def width(module) -> int:
    return module.proj_size or module.hidden_size


def unrolled(module, inputs, lengths):
    """Outputs by step, and the leaves of what every step of every direction passes on: (layer, way, step) -> parts.

    PyTorch's equations written out, sequence by sequence; the initial states are zeros, at step -1 and at the length.
    """
    found, leaves = [], {}
    for b in range(inputs.shape[1]):
        rows = list(inputs[: lengths[b], b])
        for layer in range(module.num_layers):
            sides = []
            for way in (0, 1):
                suffix = f"_l{layer}" + "_reverse" * way
                zero = torch.zeros(1, dtype=WIDE)
                weights = {
                    short: getattr(module, f"{long}{suffix}", zero)
                    for short, long in (
                        ("ih", "weight_ih"),
                        ("hh", "weight_hh"),
                        ("b_ih", "bias_ih"),
                        ("b_hh", "bias_hh"),
                    )
                }
                if not module.bias:
                    weights |= dict.fromkeys(("b_ih", "b_hh"), torch.zeros(len(weights["ih"]), dtype=WIDE))
                if module.proj_size:
                    weights["hr"] = getattr(module, f"weight_hr{suffix}")
                parts = [torch.zeros(width(module), dtype=WIDE, requires_grad=True)]
                if isinstance(module, nn.LSTM):
                    parts.append(torch.zeros(H, dtype=WIDE, requires_grad=True))
                steps = range(lengths[b])
                leaves[layer, way, lengths[b] if way else -1, b] = parts
                outputs = {}
                for t in reversed(steps) if way else steps:
                    if isinstance(module, nn.LSTM):
                        after = list(lstm_equation(weights, rows[t], *parts))
                    elif isinstance(module, nn.GRU):
                        after = [gru_equation(weights, rows[t], *parts)]
                    else:
                        after = [rnn_equation(weights, module.nonlinearity, rows[t], *parts)]
                    outputs[t] = after[0]
                    added = [torch.zeros_like(part, requires_grad=True) for part in after]
                    leaves[layer, way, t, b] = added
                    parts = [part + leaf for part, leaf in zip(after, added, strict=True)]
                sides.append([outputs[t] for t in steps])
            rows = [torch.cat(pair) for pair in zip(*sides, strict=True)]
        found.append(rows)
    return found, leaves


def log(square: float) -> float:
    return -np.inf if square == 0 else 0.5 * np.log(square)


def reference(module, inputs, grad, lengths, source, b, wrt, way, distance, layer=None):
    """ln ||dL/d(wrt)|| at each of `distance` for one source and sequence; nan outside the sequence."""
    x = inputs[:, b : b + 1].clone().requires_grad_()
    (outputs,), leaves = unrolled(module, x, lengths[b : b + 1])
    loss = (outputs[source] * grad[source, b]).sum()
    if wrt == "input":
        (gradient,) = torch.autograd.grad(loss, x)
        steps = [source - k for k in distance]
        return np.array([log(float(gradient[t, 0].square().sum())) if 0 <= t < lengths[b] else np.nan for t in steps])
    every = [part for parts in leaves.values() for part in parts]
    gradients = dict(zip(map(id, every), torch.autograd.grad(loss, every, allow_unused=True), strict=True))
    result = []
    for t in (source - k for k in distance):
        if (0, way, t, 0) not in leaves:
            result.append(np.nan)
            continue
        square = 0.0
        for each in range(module.num_layers):
            if layer not in (None, each):
                continue
            parts = leaves[each, way, t, 0]
            chosen = {"state": range(len(parts)), "hidden": [0], "cell": [1]}[wrt]
            for index in chosen:
                gradient = gradients[id(parts[index])]
                gradient = torch.zeros_like(parts[index]) if gradient is None else gradient
                if index == 0 and each == module.num_layers - 1 and t == source:  # what the loss reads itself
                    gradient = gradient + grad[source, b][way * width(module) : (way + 1) * width(module)]
                square += float(gradient.square().sum())
        result.append(log(square))
    return np.array(result)


def check(found, module, inputs, grad, lengths, wrt, way, layer=None):
    for row, source in enumerate(found.sources):
        for b in range(inputs.shape[1]):
            if source >= lengths[b]:
                assert np.isnan(found.log_norm[row, :, b]).all()
                continue
            wanted = reference(module, inputs, grad, lengths, source, b, wrt, way, found.distance, layer)
            np.testing.assert_allclose(found.log_norm[row, :, b], wanted, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_input_on_both_sides(kind, layers):
    module, inputs = make(kind, layers), torch.randn(T, B, I, dtype=WIDE)
    grad = torch.randn(T, B, 2 * width(module), dtype=WIDE)
    found = rnnvg.gradient_profile(module, inputs, output_grad=grad, sources=SOURCES, wrt="input")
    assert found.distance.tolist() == list(range(-(T - 1), T + 1))
    check(found, module, inputs, grad, [T] * B, "input", None)
    assert found.verify(12).residual < 1e-10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_states_of_one_direction(kind, layers, direction):
    module, inputs = make(kind, layers, 1), torch.randn(T, B, I, dtype=WIDE)
    grad = torch.randn(T, B, 2 * width(module), dtype=WIDE)
    way = ["forward", "backward"].index(direction)
    for wrt in ("state", "hidden", "cell") if "lstm" in kind or kind == "projected" else ("state",):
        settings = {"output_grad": grad, "sources": SOURCES, "wrt": wrt, "direction": direction}
        found = rnnvg.gradient_profile(module, inputs, **settings)
        check(found, module, inputs, grad, [T] * B, wrt, way)
        assert found.verify(12).residual < 1e-10
        for layer in range(layers):
            one = rnnvg.gradient_profile(module, inputs, **settings, layer=layer)
            check(one, module, inputs, grad, [T] * B, wrt, way, layer)


@pytest.mark.parametrize("wrt", ["input", "state"])
@pytest.mark.parametrize("layers", [1, 2])
def test_unequal_lengths_are_read_as_packed_sequences(wrt, layers):
    module, inputs = make("lstm", layers, 2), torch.randn(T, B, I, dtype=WIDE)
    lengths = [T, 5, 1]
    grad = torch.randn(T, B, 2 * H, dtype=WIDE)
    for way, direction in enumerate(("forward", "backward")):
        found = rnnvg.gradient_profile(
            module, inputs, output_grad=grad, sources=[0, 2, 4], lengths=lengths, wrt=wrt,
            direction=None if wrt == "input" else direction,
        )  # fmt: skip
        check(found, module, inputs, grad, lengths, wrt, way)
        assert found.verify(16).residual < 1e-10
    last = rnnvg.gradient_profile(module, inputs, output_grad=grad, lengths=lengths, wrt="input")
    x = inputs.clone().requires_grad_()
    output, _ = pad_packed_sequence(module(pack_padded_sequence(x, lengths))[0])
    for b, length in enumerate(lengths):
        (gradient,) = torch.autograd.grad((output[length - 1, b] * grad[length - 1, b]).sum(), x, retain_graph=True)
        wanted = gradient[:length, b].norm(dim=-1).log().flip(0)
        seen = last.log_norm[0, last.distance >= 0, b][:length]
        np.testing.assert_allclose(seen, wanted, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_forward_part_of_one_layer_is_that_of_a_one_way_module_bit_for_bit(kind, dtype):
    both = make(kind, 1, 3).to(dtype)
    cls, settings = KINDS[kind]
    one = cls(I, H, dtype=dtype, **settings)
    one.load_state_dict({name: value for name, value in both.state_dict().items() if "reverse" not in name})
    inputs, grad = torch.randn(40, B, I, dtype=dtype), torch.randn(40, B, 2 * width(both), dtype=dtype)
    for wrt in ("state", "hidden"):
        found = rnnvg.gradient_profile(both, inputs, output_grad=grad, sources=5, wrt=wrt, direction="forward")
        wanted = rnnvg.gradient_profile(one, inputs, output_grad=grad[..., : width(both)], sources=5, wrt=wrt)
        np.testing.assert_array_equal(found.distance, wanted.distance)
        np.testing.assert_array_equal(found.log_norm, wanted.log_norm)


def test_a_long_sequence_in_single_precision_reaches_far_below_its_range():
    module = make("gru", 2, 4).float()
    for parameter in module.parameters():
        parameter.data *= 0.05
    inputs = torch.randn(400, 2, I)
    found = rnnvg.gradient_profile(module, inputs, sources=[200], wrt="input")
    assert np.isfinite(found.log_norm[0, found.distance < 200]).all()
    wide = rnnvg.gradient_profile(module.double(), inputs.double(), sources=[200], wrt="input")
    np.testing.assert_allclose(found.log_norm, wide.log_norm, rtol=1e-3)
    assert found.log_norm[0, found.distance == 199].max() < -103
    assert found.log_norm[0, found.distance == -199].max() < -103


def test_many_sources_in_pieces_are_the_same(monkeypatch):
    module, inputs = make("rnn", 2, 5), torch.randn(T, B, I, dtype=WIDE)
    whole = rnnvg.gradient_profile(module, inputs, sources="all", wrt="input")
    monkeypatch.setattr("rnnvg.bptt.bidirectional.KEEP_BYTES", 1)
    np.testing.assert_allclose(
        rnnvg.gradient_profile(module, inputs, sources="all", wrt="input").log_norm, whole.log_norm, rtol=1e-13
    )


def test_horizons_each_way_and_a_profile_that_only_looks_ahead():
    module, inputs = make("gru", 1, 6), torch.randn(60, 4, I, dtype=WIDE)
    found = rnnvg.gradient_profile(module, inputs, sources=[30], wrt="input")
    assert found.horizon().last >= 1
    assert found.horizon(reference=-1).last >= 1
    ahead = rnnvg.gradient_profile(module, inputs, sources=[30], direction="backward")
    assert ahead.distance.tolist() == list(range(-30, 1))
    assert ahead.horizon() == ahead.horizon(reference=-1)
    assert (ahead.curve()["n"] > 0).sum() == 30
    ahead.plot()
    found.plot()


def test_batch_first_initial_states_and_random_covectors():
    module = make("lstm", 2, 7, batch_first=True)
    inputs = torch.randn(B, T, I, dtype=WIDE)
    state = tuple(torch.randn(4, B, H, dtype=WIDE) for _ in range(2))
    found = rnnvg.gradient_profile(module, inputs, state, sources=2, wrt="input")
    assert found.verify(12).residual < 1e-10
    assert rnnvg.gradient_profile(module, inputs, state, direction="backward").verify(12).residual < 1e-10


def test_dropout_between_layers_is_left_out_and_said():
    module, inputs = make("gru", 2, 8, dropout=0.5), torch.randn(T, B, I, dtype=WIDE)
    training = rnnvg.gradient_profile(module, inputs, wrt="input")
    assert training.note == "Dropout 0.5 between the layers is analysed as off: only a watched call has masks."
    evaluated = rnnvg.gradient_profile(module.eval(), inputs, wrt="input")
    assert evaluated.note == ""
    np.testing.assert_array_equal(training.log_norm, evaluated.log_norm)


def test_a_state_that_is_not_finite_hides_what_lies_behind_it():
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False, bidirectional=True)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 1.0)
    nn.init.constant_(module.weight_hh_l0, 1e20)
    inputs = torch.ones(6, 1, 1)
    found = rnnvg.gradient_profile(module, inputs, sources=[0, 5], wrt="input")
    assert found.first_nonfinite.tolist() == [2]
    assert np.isfinite(found.log_norm[0, found.distance < 0, 0][-5:]).all()
    assert np.isnan(found.log_norm[1]).all()


REFUSALS = [
    ({}, "`recurrence` is bidirectional: pass direction='forward' or direction='backward' for the states of one direction, "
     "or wrt='input' for both sides of each source."),
    ({"direction": "left"}, "`direction` has no 'left'. Pass one of: forward, backward."),
    ({"wrt": "input", "direction": "forward"},
     "`direction` and `layer` pick states, and `wrt` is 'input'; pass None for both."),
    ({"wrt": "input", "layer": 0}, "`direction` and `layer` pick states, and `wrt` is 'input'; pass None for both."),
    ({"wrt": "cell", "direction": "forward"},
     "`wrt` is 'cell', but this recurrence has no cell state; pass 'state' or 'hidden'."),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), REFUSALS)
def test_refusals(settings, message):
    with pytest.raises(InputError) as error:
        rnnvg.gradient_profile(make("gru", 1), torch.randn(T, B, I, dtype=WIDE), **settings)
    assert str(error.value) == message


def test_a_direction_of_a_module_that_runs_one_way():
    with pytest.raises(InputError, match="`direction` is 'forward' and `recurrence` runs one way; pass direction=None"):
        rnnvg.gradient_profile(nn.GRU(2, 3), torch.randn(4, 1, 2), direction="forward")
