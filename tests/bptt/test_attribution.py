"""attribute_decay: the split adds up to the log gain, each path and each counterfactual against autograd, closed forms."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnvg.bptt import gradient_profile
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.why.attribution import attribute_decay
from rnnvg.errors import InputError
from tests.reference_causes import cell_step, changed_log_norms, kind_of, layer_weights, path_gradients

WIDE = torch.float64
CASES = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "projected lstm": (nn.LSTM, {"proj_size": 3}),
    "gru": (nn.GRU, {}),
    "gru without bias": (nn.GRU, {"bias": False}),
}
GATED = [name for name in CASES if name not in ("tanh", "relu")]


def make(case: str, layers: int, seed: int, scale: float = 1.5):
    kind, keywords = CASES[case]
    torch.manual_seed(seed)
    module = kind(3, 5, num_layers=layers, dtype=WIDE, **keywords)
    for parameter in module.parameters():
        parameter.data *= scale
    return module


def trajectory(module, inputs):
    """States before every step and after the last, layer by layer, from zeros; [(h, c), ...] a step."""
    kind, layers = kind_of(module), layer_weights(module)
    states = []
    for weights in layers:
        cell = len(weights["weight_hh"]) // 4 if kind == "lstm" else 0
        h = inputs.new_zeros(inputs.shape[1], weights["weight_hh"].shape[1])
        states.append((h, inputs.new_zeros(inputs.shape[1], cell) if cell else None))
    found = [states]
    for x in inputs:
        after = []
        for weights, (h, c) in zip(layers, found[-1], strict=True):
            after.append(cell_step(kind, weights, x, h, c))
            x = after[-1][0]
        found.append(after)
    return found


@pytest.mark.parametrize("case", CASES)
@given(
    layers=st.integers(1, 3),
    steps=st.integers(1, 8),
    batch=st.integers(1, 3),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
@settings(max_examples=8, deadline=None)
def test_parts_add_up_to_the_profile(case, layers, steps, batch, seed, data):
    module = make(case, layers, seed)
    inputs = torch.randn(steps, batch, 3, dtype=WIDE)
    source = data.draw(st.integers(-steps, steps - 1))
    output_grad = torch.randn(steps, batch, 3 if "projected" in case else 5, dtype=WIDE)
    found = attribute_decay(module, inputs, output_grad=output_grad, source=source)
    profile = gradient_profile(module, inputs, output_grad=output_grad, sources=[source])
    assert found.source == source % steps
    np.testing.assert_allclose(found.log_norm, profile.log_norm[0], rtol=1e-9, atol=1e-9)
    if found.parts:
        assert list(found.parts) == ["saturation", "matrix"]
        assert not found.shares
        assert (found.parts["saturation"][1:] <= 1e-15).all() or np.isneginf(found.log_norm).any()
        total = found.parts["saturation"] + found.parts["matrix"]
        with np.errstate(invalid="ignore"):
            wanted = np.diff(found.log_norm, axis=0)
        np.testing.assert_allclose(total[1:], wanted, rtol=1e-9, atol=1e-12)
        assert np.isnan(total[0]).all()
    else:
        np.testing.assert_allclose(sum(found.shares.values())[1:], 1, rtol=1e-12)


def test_split_of_a_vanilla_rnn_written_out():
    module = make("tanh", 1, 0)
    inputs = torch.randn(12, 2, 3, dtype=WIDE)
    found = attribute_decay(module, inputs)
    weight = module.weight_hh_l0.detach()
    adjoint = torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(0), dtype=WIDE)[0]
    adjoint /= adjoint.norm(dim=-1, keepdim=True)
    states = trajectory(module, inputs)
    for k in range(1, 13):
        after = states[13 - k][0][0]
        through = (1 - after**2) * adjoint
        back = through @ weight
        np.testing.assert_allclose(found.parts["saturation"][k], (through.norm(dim=-1) / adjoint.norm(dim=-1)).log())
        np.testing.assert_allclose(found.parts["matrix"][k], (back.norm(dim=-1) / through.norm(dim=-1)).log())
        adjoint = back


def test_split_of_a_stack_written_out():
    """Upper slopes, upper matrices, lower slopes, lower matrix; the whole state's norm after each."""
    module = make("tanh", 2, 1)
    inputs = torch.randn(5, 1, 3, dtype=WIDE)
    found = attribute_decay(module, inputs)
    states = trajectory(module, inputs)
    low = torch.zeros(1, 5, dtype=WIDE)
    high = torch.randn(1, 1, 5, generator=torch.Generator().manual_seed(0), dtype=WIDE)[0]
    high /= high.norm()
    for k in range(1, 6):
        (h_low, _), (h_high, _) = states[6 - k]
        norms = [torch.cat([low, high], -1).norm()]
        high = (1 - h_high**2) * high
        norms.append(torch.cat([low, high], -1).norm())
        low, high = low + high @ module.weight_ih_l1.detach(), high @ module.weight_hh_l1.detach()
        norms.append(torch.cat([low, high], -1).norm())
        low = (1 - h_low**2) * low
        norms.append(torch.cat([low, high], -1).norm())
        low = low @ module.weight_hh_l0.detach()
        norms.append(torch.cat([low, high], -1).norm())
        logs = np.diff(np.log([float(norm) for norm in norms]))
        assert found.parts["saturation"][k, 0] == pytest.approx(logs[0] + logs[2], rel=1e-9)
        assert found.parts["matrix"][k, 0] == pytest.approx(logs[1] + logs[3], rel=1e-9)


@pytest.mark.parametrize("case", GATED)
@pytest.mark.parametrize("layers", [1, 2])
def test_shares_against_a_copy_of_the_state_for_every_path(case, layers):
    module = make(case, layers, 3, scale=3.0)
    inputs = torch.randn(7, 2, 3, dtype=WIDE)
    found = attribute_decay(module, inputs)
    kind, weights, states = kind_of(module), layer_weights(module), trajectory(module, inputs)
    linear = linearize(module, inputs)
    width = linear.output.stop - linear.output.start
    adjoint = torch.zeros(2, linear.size, dtype=WIDE)
    adjoint[:, linear.output] = torch.randn(1, 2, width, generator=torch.Generator().manual_seed(0), dtype=WIDE)[0]
    for k in range(1, 8):
        paths = path_gradients(kind, weights, inputs[7 - k], states[7 - k], adjoint)
        total = sum(paths.values())
        assert set(paths) == set(found.shares)
        for name, path in paths.items():
            share = (path * total).sum(-1) / total.square().sum(-1)
            np.testing.assert_allclose(found.shares[name][k], share, rtol=1e-8, atol=1e-12)
        adjoint = total


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layers", [1, 2])
def test_counterfactuals_against_autograd_with_changed_derivatives(case, layers):
    module = make(case, layers, 5, scale=2.0)
    inputs = torch.randn(9, 2, 3, dtype=WIDE)
    width = 3 if "projected" in case else 5
    output_grad = torch.randn(9, 2, width, dtype=WIDE)
    found = attribute_decay(module, inputs, output_grad=output_grad)
    for change, log_norm in found.counterfactuals.items():
        wanted = changed_log_norms(module, inputs, output_grad[-1], change)
        np.testing.assert_allclose(log_norm, wanted, rtol=1e-9, atol=1e-9)
    expected = {
        "rnn": ["tanh slopes 1"],
        "lstm": ["tanh slopes 1", "gates held", "forget gate open", "all gates open"],
        "gru": ["tanh slopes 1", "gates held", "reset gate open", "all gates open"],
    }
    assert list(found.counterfactuals) == expected[type(module).__name__.lower()]


@pytest.mark.parametrize("case", CASES)
def test_unchanged_factors_are_the_equations(case):
    """The named factors of every step, written out from the gates."""
    module = make(case, 1, 0)
    inputs = torch.randn(4, 2, 3, dtype=WIDE)
    linear = linearize(module, inputs)
    (segment,) = linear.segments()
    (factors,), (path,) = segment.factors, segment.paths
    before, after = path.states[0][:-1], path.states[0][1:]
    if case in ("tanh", "relu"):
        wanted = {"slopes": 1 - after**2 if case == "tanh" else (after > 0).to(WIDE)}
    elif "lstm" in case:
        i, f, g, o = path.values.gates.unbind(-2)
        cell = path.states[1]
        wanted = {
            "slope": o * (1 - torch.tanh(cell[1:]) ** 2),
            "into_cell": torch.stack([g * i * (1 - i), cell[:-1] * f * (1 - f), i * (1 - g**2)], -2),
            "into_output": torch.tanh(cell[1:]) * o * (1 - o),
            "forget": f,
        }
    else:
        (r, z), n, hn = path.values.gates.chunk(2, -1), path.values.candidates, path.values.from_h[..., 10:]
        into_n = (1 - z) * (1 - n**2)
        wanted = {
            "into": torch.stack([into_n, into_n * hn * r * (1 - r), (before - n) * z * (1 - z), into_n * r], -2),
            "update": z,
        }
    assert list(factors._fields) == list(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(getattr(factors, name), value, rtol=1e-11, atol=1e-14)


def forgetful_lstm(bias: float, hidden: int = 4) -> nn.LSTM:
    """All weights zero: the cell is multiplied by sigmoid(bias) each step, nothing else comes back."""
    module = nn.LSTM(2, hidden, dtype=WIDE)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    module.bias_ih_l0.data[hidden : 2 * hidden] = bias
    return module


def test_an_lstm_that_only_forgets():
    found = attribute_decay(forgetful_lstm(2.0), torch.randn(60, 3, 2, dtype=WIDE))
    constant = -1 / math.log(1 / (1 + math.exp(-2.0)))
    assert found.time_constant == pytest.approx(constant, rel=1e-12)
    forget = found.gates[1]
    assert (forget.name, forget.layer) == ("forget gate", 0)
    assert forget.time_constant == pytest.approx(constant, rel=1e-12)
    assert forget.longest_time_constant == pytest.approx(constant, rel=1e-12)
    assert forget.mean == pytest.approx(1 / (1 + math.exp(-2.0)), rel=1e-12)
    assert (forget.closed, forget.open) == (0, 0)
    assert found.gates[0].time_constant is None
    np.testing.assert_allclose(found.shares["cell"][1:], 1, rtol=1e-12)
    np.testing.assert_allclose(found.log_gain("forget gate open")[1:], found.log_gain()[1] + 1 / constant, rtol=1e-12)
    assert str(found) == (
        f"over 60 steps: {found.log_gain()[-1]:+.1f} nats, arriving 100 % by the cell; it would be "
        f"{found.log_gain('tanh slopes 1')[-1]:+.1f} with tanh slopes 1, {found.log_gain()[-1]:+.1f} with gates held, "
        f"{found.log_gain('forget gate open')[-1]:+.1f} with forget gate open, "
        f"{found.log_gain('all gates open')[-1]:+.1f} with all gates open"
    )


def test_saturated_tanh_units_are_said_to_saturate():
    """At |z| = 2 the slopes take 2.65 nats a step, and an orthogonal matrix nothing."""
    module = nn.RNN(1, 6, dtype=WIDE)
    nn.init.orthogonal_(module.weight_hh_l0)
    z = torch.tensor([2.0, -2.0] * 3, dtype=WIDE)
    module.bias_hh_l0.data.zero_()
    module.bias_ih_l0.data = z - module.weight_hh_l0.data @ torch.tanh(z)
    found = attribute_decay(module, torch.zeros(50, 1, 1, dtype=WIDE), torch.tanh(z).view(1, 1, 6))
    taken = 50 * math.log(1 - math.tanh(2.0) ** 2)
    assert found.nats() == pytest.approx({"saturation": taken, "matrix": 0}, abs=1e-9)
    assert found.steps == 50
    assert str(found) == "over 50 steps: -132.5 nats saturation, +0.0 nats recurrent matrix".replace(
        "+0.0", f"{0.0:+.1f}"
    )
    np.testing.assert_allclose(found.log_gain("tanh slopes 1"), 0, atol=1e-9)
    (activation,) = found.gates
    assert (activation.name, activation.open, activation.closed) == ("activation", 1, 0)
    assert activation.mean == pytest.approx(math.tanh(2.0))


def test_a_gradient_that_dies_in_dead_units():
    """The slopes take everything at one step: -inf saturation there, nothing to split behind it."""
    module = nn.RNN(1, 2, nonlinearity="relu", bias=False, dtype=WIDE)
    module.weight_hh_l0.data = torch.eye(2, dtype=WIDE)
    module.weight_ih_l0.data = torch.ones(2, 1, dtype=WIDE)
    inputs = torch.ones(6, 1, 1, dtype=WIDE)
    inputs[2] = -100.0
    found = attribute_decay(module, inputs)
    assert np.isfinite(found.parts["saturation"][1:4]).all()
    assert np.isneginf(found.parts["saturation"][4, 0])
    assert found.parts["matrix"][4, 0] == 0
    assert np.isneginf(found.log_norm[4:]).all()
    assert np.isnan(found.parts["saturation"][5:]).all()
    found.plot()
    assert str(found) == "over 6 steps: -inf nats saturation, +0.0 nats recurrent matrix"


@pytest.mark.parametrize("case", ["tanh", "gru"])
def test_no_gradient_and_a_state_that_is_not_finite(case):
    module = make(case, 1, 0)
    inputs = torch.randn(5, 2, 3, dtype=WIDE)
    found = attribute_decay(module, inputs, output_grad=torch.zeros(5, 2, 5, dtype=WIDE))
    assert np.isneginf(found.log_norm).all()
    assert np.isnan(found.log_gain()).all()
    assert found.time_constant is None
    found.plot()
    assert str(found).startswith("over 5 steps: +0.0" if case == "tanh" else "over 5 steps: +nan nats")
    growing = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=WIDE)
    for parameter in growing.parameters():
        nn.init.constant_(parameter, 1e200)
    lost = attribute_decay(growing, torch.ones(5, 1, 1, dtype=WIDE))
    assert np.isnan(lost.log_norm[1:]).all()
    lost.plot()


@pytest.mark.parametrize("case", ["lstm", "gru"])
def test_gate_statistics_written_out(case):
    module = make(case, 2, 7, scale=4.0)
    inputs = torch.randn(20, 3, 3, dtype=WIDE)
    found = attribute_decay(module, inputs)
    states = trajectory(module, inputs)
    for layer in range(2):
        rows = {each.name: each for each in found.gates if each.layer == layer}
        weights = layer_weights(module)[layer]
        values = []
        for t in range(20):
            x = inputs[t] if layer == 0 else states[t + 1][0][0]
            h = states[t][layer][0]
            into = x @ weights["weight_ih"].t() + weights["bias_ih"] + h @ weights["weight_hh"].t() + weights["bias_hh"]
            values.append(torch.sigmoid(into))
        gate = torch.stack(values)[..., 5:10]  # forget of i, f, g, o; update of r, z, n
        mine = rows["forget gate" if case == "lstm" else "update gate"]
        assert mine.mean == pytest.approx(float(gate.mean()), rel=1e-9)
        assert mine.closed == pytest.approx(float((gate < 0.1).double().mean()))
        assert mine.open == pytest.approx(float((gate > 0.9).double().mean()))
        constants = -1 / gate.log().mean((0, 1))
        assert mine.time_constant == pytest.approx(float(constants.median()), rel=1e-9)
        assert mine.longest_time_constant == pytest.approx(float(constants.max()), rel=1e-9)
        first = rows["input gate" if case == "lstm" else "reset gate"]
        assert first.mean == pytest.approx(float(torch.stack(values)[..., :5].mean()), rel=1e-9)
    if case == "gru":
        recovered = []
        for t in range(20):  # h' = (1 - z) n + z h
            h, after = states[t][0][0], states[t + 1][0][0]
            weights = layer_weights(module)[0]
            z = torch.sigmoid(
                (
                    inputs[t] @ weights["weight_ih"].t()
                    + weights["bias_ih"]
                    + h @ weights["weight_hh"].t()
                    + weights["bias_hh"]
                )[:, 5:10]
            )
            recovered.append(((after - z * h) / (1 - z)).abs())
        assert found.gates[2].mean == pytest.approx(float(torch.stack(recovered).mean()), rel=1e-6)


def test_long_sequences_and_many_segments_and_float32():
    torch.manual_seed(0)
    module = nn.GRU(3, 16, batch_first=True)
    inputs = torch.randn(2, 3000, 3)
    found = attribute_decay(module, inputs)
    profile = gradient_profile(module, inputs)
    np.testing.assert_allclose(found.log_norm, profile.log_norm[0], rtol=1e-6, atol=1e-3)
    assert found.log_norm[-1].max() < -1000
    np.testing.assert_allclose(sum(found.shares.values())[1:], 1, rtol=1e-4)


def test_frames():
    found = attribute_decay(make("lstm", 1, 0), torch.randn(10, 2, 3, dtype=WIDE))
    frame = found.to_frame()
    assert list(frame.columns) == ["distance", "sequence", "quantity", "part", "value"]
    shares = frame[frame["quantity"] == "share"]
    assert set(shares["part"]) == {"cell", "input gate", "forget gate", "candidate", "output gate"}
    assert shares.groupby(["distance", "sequence"])["value"].sum().to_numpy() == pytest.approx(1)
    assert len(frame[frame["quantity"] == "log_norm"]) == 22
    assert set(frame[frame["quantity"] == "counterfactual"]["part"]) == set(found.counterfactuals)
    assert list(found.gate_frame()["name"]) == ["input gate", "forget gate", "candidate", "output gate"]
    parts = attribute_decay(make("tanh", 1, 0), torch.randn(10, 2, 3, dtype=WIDE)).to_frame()
    assert set(parts[parts["quantity"] == "nats"]["part"]) == {"saturation", "matrix"}


def test_areas_of_a_vanilla_rnn_end_at_the_log_gain():
    found = attribute_decay(make("tanh", 1, 0, scale=2.5), torch.randn(30, 4, 3, dtype=WIDE))
    ax = found.plot()
    line = next(line for line in ax.lines if line.get_label() == "log gain")
    np.testing.assert_allclose(line.get_ydata(), found.log_gain()[1:])
    bottoms, tops = [], []
    for area in ax.collections:
        points = area.get_paths()[0].vertices
        at_end = points[np.isclose(points[:, 0], 30), 1]
        bottoms.append(at_end.min())
        tops.append(at_end.max())
    assert min(*bottoms, 0) + max(*tops, 0) == pytest.approx(found.log_gain()[-1])
    assert ax.get_legend_handles_labels()[1][-1] == "log gain"


def test_areas_of_a_gated_cell_have_every_path():
    found = attribute_decay(make("gru", 1, 0), torch.randn(30, 4, 3, dtype=WIDE))
    ax = found.plot()
    assert ax.get_legend_handles_labels()[1] == ["carry", "reset gate", "update gate", "candidate"]


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (
            nn.Linear(1, 1),
            {},
            "`module` is a Linear; pass an nn.RNN, nn.LSTM, nn.GRU or one of their cells, whose gates are known.",
        ),
        (nn.GRU(1, 2), {"source": "first"}, "`source` is 'first'; pass 'last' or a step from -3 to 2."),
        (nn.GRU(1, 2), {"source": 3}, "`source` must be a whole number from -3 to 2; got 3."),
        (
            nn.GRU(1, 2),
            {"output_grad": torch.ones(3, 1, 1)},
            "`output_grad` is [3, 1, 1]; pass dL_t/d(output_t) shaped like the output, [3, 1, 2].",
        ),
        (
            nn.LSTM(1, 2, bidirectional=True),
            {},
            "`module` is bidirectional: its output looks both ways, so 'distance' has no single meaning; pass a module with "
            "bidirectional=False.",
        ),
    ],
)
def test_misuse_is_said_in_one_sentence(module, settings, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        attribute_decay(module, torch.ones(3, 1, 1), **settings)
