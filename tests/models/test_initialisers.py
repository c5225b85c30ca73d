"""Initialisers against what their papers say, gate by gate."""

import math

import pytest
import torch
from scipy import stats

from rnnvg import models, tasks

TASK = tasks.make("adding", length=100)
# Which block of PyTorch's stacked weights is which gate.
LSTM = {"input": 0, "forget": 1, "candidate": 2, "output": 3}
GRU = {"reset": 0, "update": 1, "candidate": 2}


def block(core, name, gate):
    return getattr(core, name).detach().view(-1, core.hidden_size, *getattr(core, name).shape[1:])[gate]


def summed_bias(core, gate, layer=0):
    return block(core, f"bias_ih_l{layer}", gate) + block(core, f"bias_hh_l{layer}", gate)


def built(cell, init, hidden=64, seed=0, **more):
    torch.manual_seed(seed)
    return models.build(TASK, cell, hidden=hidden, init=init, **more).core


@pytest.mark.parametrize("cell", models.CELLS)
def test_default_is_pytorchs_uniform(cell):
    core = built(cell, "default")
    for parameter in core.parameters():
        assert stats.kstest(parameter.detach().flatten(), stats.uniform(-1 / 8, 2 / 8).cdf).pvalue > 1e-4


@pytest.mark.parametrize("cell", models.CELLS)
def test_orthogonal_makes_each_gates_recurrent_matrix_orthogonal(cell):
    core = built(cell, "orthogonal", layers=2)
    for layer in range(2):
        matrices = getattr(core, f"weight_hh_l{layer}").detach().double().split(64)
        for matrix in matrices:
            torch.testing.assert_close(matrix @ matrix.T, torch.eye(64, dtype=torch.double), atol=1e-5, rtol=0)
        assert len({float(matrix.sum()) for matrix in matrices}) == len(matrices)


@pytest.mark.parametrize(
    ("cell", "init", "changed"),
    [
        ("gru", "orthogonal", {"weight_hh_l0", "weight_hh_l1"}),
        (
            "rnn",
            "identity",
            {f"{each}_l{k}" for each in ("weight_hh", "weight_ih", "bias_ih", "bias_hh") for k in (0, 1)},
        ),
        ("lstm", "forget-bias", {f"bias_{each}_l{k}" for each in ("ih", "hh") for k in (0, 1)}),
        ("lstm", "chrono", {f"bias_{each}_l{k}" for each in ("ih", "hh") for k in (0, 1)}),
        ("gru", "chrono", {f"bias_{each}_l{k}" for each in ("ih", "hh") for k in (0, 1)}),
    ],
)
def test_with_one_seed_two_initialisers_differ_in_what_the_recipe_names_alone(cell, init, changed):
    def model(init):
        torch.manual_seed(5)
        return models.build(TASK, cell, hidden=8, layers=2, embed=3, init=init)

    plain, other = model("default"), dict(model(init).named_parameters())
    assert {name for name, each in plain.named_parameters() if not torch.equal(each, other[name])} == {
        f"core.{name}" for name in changed
    }


@pytest.mark.parametrize("cell", ["rnn", "rnn-relu"])
def test_identity_is_irnn(cell):
    core = built(cell, "identity", layers=2)
    for layer in range(2):
        assert torch.equal(getattr(core, f"weight_hh_l{layer}").detach(), torch.eye(64))
        assert getattr(core, f"bias_ih_l{layer}").abs().max() == 0
        assert getattr(core, f"bias_hh_l{layer}").abs().max() == 0
    assert core.weight_ih_l1.std().item() == pytest.approx(0.001, rel=0.05)


def test_an_irnn_remembers_and_passes_its_gradient_back_whole():
    core = built("rnn-relu", "identity", hidden=8)
    start = torch.rand(1, 1, 8, requires_grad=True)
    _, end = core(torch.zeros(500, 1, 2), start)
    torch.testing.assert_close(end, start)
    end.sum().backward()
    assert torch.equal(start.grad, torch.ones(1, 1, 8))


def test_forget_bias_sums_to_one_over_pytorchs_two_biases_in_every_layer():
    core, plain = built("lstm", "forget-bias", layers=2), built("lstm", "default", layers=2)
    for layer in range(2):
        assert torch.equal(summed_bias(core, LSTM["forget"], layer), torch.ones(64))
        for gate in ("input", "candidate", "output"):
            assert torch.equal(summed_bias(core, LSTM[gate], layer), summed_bias(plain, LSTM[gate], layer))


def test_chrono_lstm_spreads_memory_uniformly_up_to_the_longest_dependency():
    core = built("lstm", "chrono", hidden=2000)
    forget, into = summed_bias(core, LSTM["forget"]), summed_bias(core, LSTM["input"])
    assert torch.equal(into, -forget)
    # The longest dependency of adding is from the first step to the last: 99.
    assert stats.kstest(forget.exp(), stats.uniform(1, 97).cdf).pvalue > 1e-3
    assert forget.min() >= 0
    assert forget.max() <= math.log(98)
    for gate in ("candidate", "output"):
        assert summed_bias(core, LSTM[gate]).abs().max() <= 2 / math.sqrt(2000)


def test_chrono_gru_biases_the_gate_that_keeps_upwards():
    core = built("gru", "chrono", hidden=2000, t_max=501)
    update = summed_bias(core, GRU["update"])
    assert stats.kstest(update.exp(), stats.uniform(1, 499).cdf).pvalue > 1e-3
    for gate in ("reset", "candidate"):
        assert summed_bias(core, GRU[gate]).abs().max() <= 2 / math.sqrt(2000)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_chrono_unit_leaks_one_part_in_its_time_constant_a_step(cell):
    """With weights 0 a unit keeps sigmoid(b) = u/(1+u) of its memory, u = exp(b): a time constant of 1 + u steps."""
    core = built(cell, "chrono", hidden=16, t_max=50)
    u = summed_bias(core, LSTM["forget"] if cell == "lstm" else GRU["update"]).exp()
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            if name.startswith("weight"):
                parameter.zero_()
    memory = torch.rand(1, 1, 16).requires_grad_()
    state = (torch.zeros(1, 1, 16), memory) if cell == "lstm" else memory
    _, after = core(torch.zeros(1, 1, 2), state)
    after = after[1] if cell == "lstm" else after
    (kept,) = torch.autograd.grad(after.sum(), memory)
    torch.testing.assert_close(kept.flatten(), u / (1 + u))


def test_t_max_may_be_given_or_is_the_longest_distance():
    assert models.build(TASK, "lstm", hidden=4, init="chrono").spec["t_max"] == 99
    assert models.build(TASK, "lstm", hidden=4, init="chrono", t_max=7).spec["t_max"] == 7
    assert torch.equal(summed_bias(built("lstm", "chrono", hidden=4, t_max=2), LSTM["forget"]), torch.zeros(4))


def uniform_p_value(values, limit):
    return stats.kstest(values.flatten(), stats.uniform(-limit, 2 * limit).cdf).pvalue


@pytest.mark.parametrize("cell", models.CELLS)
def test_keras_draws_over_all_gates_at_once(cell):
    core = built(cell, "keras", layers=2)
    n_gates = {"lstm": 4, "gru": 3}.get(cell, 1)
    for layer, width in ((0, 2), (1, 64)):
        limit = math.sqrt(6 / (width + n_gates * 64))
        assert uniform_p_value(getattr(core, f"weight_ih_l{layer}").detach(), limit) > 1e-4
        recurrent = getattr(core, f"weight_hh_l{layer}").detach().double()
        torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(64, dtype=torch.double), atol=1e-5, rtol=0)
        bias = getattr(core, f"bias_ih_l{layer}") + getattr(core, f"bias_hh_l{layer}")
        expected = torch.zeros_like(bias)
        if cell == "lstm":
            expected[64:128] = 1
        assert torch.equal(bias, expected)


@pytest.mark.parametrize("cell", models.CELLS)
def test_xavier_draws_gate_by_gate(cell):
    core = built(cell, "xavier", layers=2)
    for layer, width in ((0, 2), (1, 64)):
        for name, columns in (("weight_ih", width), ("weight_hh", 64)):
            matrix = getattr(core, f"{name}_l{layer}").detach()
            assert uniform_p_value(matrix, math.sqrt(6 / (columns + 64))) > 1e-4
        assert not getattr(core, f"bias_ih_l{layer}").any()
        assert not getattr(core, f"bias_hh_l{layer}").any()
