"""Closed forms of modern recurrences against autograd of the papers' equations, and against transformers' own code."""

import math

import modern_equations as equations
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import assert_same

from rnnvg import gradient_profile, lyapunov_spectrum, temporal_contributions
from rnnvg.bptt import linearize
from rnnvg.bptt.cells import read_cells
from rnnvg.bptt.cells.linear_attention import DeltaNetCell, GLACell
from rnnvg.bptt.cells.min_rnn import MinGRUCell, MinLSTMCell
from rnnvg.bptt.cells.oscillators import CoRNNCell, LEMCell
from rnnvg.bptt.cells.selective import S6Cell
from rnnvg.bptt.cells.state_space import LRUCell, S4DCell, S5Cell
from rnnvg.bptt.cells.xlstm import MLSTMCell, SLSTMCell

KINDS = {
    MinGRUCell: equations.min_gru,
    MinLSTMCell: equations.min_lstm,
    LRUCell: equations.lru,
    S5Cell: equations.s5,
    S4DCell: equations.s4d,
    S6Cell: equations.s6,
    GLACell: equations.gla,
    DeltaNetCell: equations.delta_net,
    MLSTMCell: equations.mlstm,
    SLSTMCell: equations.slstm,
    LEMCell: equations.lem,
    CoRNNCell: equations.cornn,
}
MATRICES = (GLACell, DeltaNetCell, MLSTMCell)
COMPLEX = (LRUCell, S5Cell, S4DCell)


def made(kind, inputs, size, other=2, seed=0):
    torch.manual_seed(seed)
    cell = kind(inputs, size, other) if kind in MATRICES else kind(inputs, size)
    cell = cell.double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return cell


def random_state(cell, batch):
    """A state like one on the way, [B, width] a part: sLSTM's n is positive."""
    dtype = read_cells(cell)[0].state_dtype
    parts = [torch.randn(batch, part.width, dtype=dtype) for part in read_cells(cell)[0].parts]
    if isinstance(cell, SLSTMCell):
        parts[2] = parts[2].abs() + 0.5
    return tuple(parts) if len(parts) > 1 else parts[0]


def by_autograd(cell, inputs, state, covector, source):
    """dL/ds and dL/dx of <covector, state at source> by distance, [source + 2, B, N] and [source + 1, B, I]."""
    plain, parameters = KINDS[type(cell)], dict(cell.named_parameters())
    xs = [x.clone().requires_grad_() for x in inputs[: source + 1]]
    parts = [state] if isinstance(state, torch.Tensor) else list(state)
    leaves = []
    for x in xs:
        leaves.append([torch.zeros_like(part, requires_grad=True) for part in parts])
        passed = [part + leaf for part, leaf in zip(parts, leaves[-1], strict=True)]
        after = plain(parameters, x, tuple(passed) if len(passed) > 1 else passed[0])
        parts = list(after) if isinstance(after, tuple) else [after]
    whole = torch.cat(parts, -1)
    loss = (whole * covector.to(whole.dtype).conj()).sum()
    flat = [leaf for step in leaves for leaf in step] + xs
    found = torch.autograd.grad(loss.real if loss.is_complex() else loss, flat)
    count = len(parts)
    states = [torch.cat(found[t * count : t * count + count], -1) for t in range(source + 1)]
    return torch.stack([covector.to(whole.dtype), *states[::-1]]), torch.stack(found[len(leaves) * count :][::-1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_profiles_against_autograd_of_the_papers_equations(data):
    kind = data.draw(st.sampled_from(list(KINDS)))
    steps, batch, inputs, size, other = (data.draw(st.integers(1, high)) for high in (12, 3, 4, 5, 3))
    cell = made(kind, inputs, size, other, data.draw(st.integers(0, 99)))
    x, state = torch.randn(steps, batch, inputs, dtype=torch.float64), random_state(cell, batch)
    wrt = data.draw(st.sampled_from(["state", "input"]))
    found = gradient_profile(cell, x, state, sources=data.draw(st.sampled_from(["last", "all"])), wrt=wrt)
    for row, source in enumerate(found.sources):
        by_state, by_input = by_autograd(cell, x, state, found.origin.covectors[row], int(source))
        expected = np.full(found.log_norm.shape[1:], np.nan)
        grads = by_state if wrt == "state" else by_input
        with np.errstate(divide="ignore"):
            expected[: len(grads)] = np.log(grads.norm(dim=-1).numpy())
        assert_same(found.log_norm[row], expected, relative=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_computes_the_papers_equations(kind):
    cell = made(kind, 3, 4)
    x, state = torch.randn(2, 3, dtype=torch.float64), random_state(cell, 2)
    found, expected = cell(x, state), KINDS[kind](dict(cell.named_parameters()), x, state)
    for a, b in zip(*((each,) if isinstance(each, torch.Tensor) else each for each in (found, expected)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    if kind is not SLSTMCell:  # whose n starts at 0
        from_zero = cell(x, None)
        zeros = tuple(torch.zeros_like(part) for part in state) if isinstance(state, tuple) else torch.zeros_like(state)
        again = cell(x, zeros)
        torch.testing.assert_close(from_zero, again)


@pytest.mark.parametrize("kind", KINDS)
def test_tangents_are_the_transpose_of_adjoints(kind):
    cell = made(kind, 3, 4)
    x, state = torch.randn(6, 2, 3, dtype=torch.float64), random_state(cell, 2)
    linear = linearize(cell, x, state)
    a, v = (torch.randn(5, 2, linear.size, dtype=linear.dtype) for _ in range(2))
    for t in range(6):
        left = (linear.pullback(t, a).conj() * v).sum(-1)
        right = (a.conj() * linear.pushforward(t, v)).sum(-1)
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_tangents(kind):
    """The part of a layer's tangent that comes from below, by a difference along the input."""
    cell = made(kind, 3, 4)
    x, state = torch.randn(1, 2, 3, dtype=torch.float64), random_state(cell, 2)
    linear = linearize(cell, x, state)
    (layer,), segment = linear.layers, next(iter(linear.segments()))
    v_x = torch.randn(1, 2, 3, dtype=torch.float64)
    zero = tuple(torch.zeros(1, 2, part.width, dtype=layer.state_dtype) for part in layer.parts)
    step = type(segment.factors[0])(*(each[0] for each in segment.factors[0]))
    found = torch.cat(layer.push(step, zero, v_x), -1)[0]

    def after(amount):
        state_after = cell(x[0] + amount * v_x[0], state)
        return state_after if isinstance(state_after, torch.Tensor) else torch.cat(state_after, -1)

    h = 1e-4
    expected = (8 * (after(h) - after(-h)) - (after(2 * h) - after(-2 * h))) / (12 * h)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_add_up_to_the_gradient(kind):
    cell = made(kind, 3, 4)
    x, state = torch.randn(7, 2, 3, dtype=torch.float64), random_state(cell, 2)
    grad = torch.randn(7, 2, linearize(cell, x, state).n_outputs, dtype=torch.float64)
    if kind in COMPLEX:
        pytest.skip("output gradients are real numbers; `test_verify` adds these up")
    found = temporal_contributions(cell, x, state, output_grad=grad)
    assert max(found.verify().weights.values()) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_verify(kind):
    cell = made(kind, 3, 4)
    found = gradient_profile(cell, torch.randn(9, 2, 3, dtype=torch.float64), random_state(cell, 2), sources=2)
    certificate = found.verify(12)
    assert certificate.residual < 1e-9
    assert max(certificate.weights.values()) < 1e-9
    assert set(certificate.weights) == {name for name, _ in cell.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_spectrum(kind):
    cell = made(kind, 3, 4)
    x = torch.randn(60, 2, 3, dtype=torch.float64)
    found = lyapunov_spectrum(cell, x, random_state(cell, 2))
    assert np.abs(found.log_det_residual).max() < 1e-8
    if kind in COMPLEX:
        decays = read_cells(cell)[0].decay.abs().log()
        np.testing.assert_allclose(found.exponents.sum(1), float(decays.sum()), atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_paths_add_up_to_the_pullback(kind):
    cell = made(kind, 3, 4)
    linear = linearize(cell, torch.randn(5, 2, 3, dtype=torch.float64), random_state(cell, 2))
    (layer,), segment = linear.layers, next(iter(linear.segments()))
    a = torch.randn(5, 2, linear.size, dtype=linear.dtype)
    (local,) = segment.local(linear.view(a), 0, 5)
    paths = layer.paths(local.factors, local.states, local.delta, None)
    total = [
        sum((path[part] for path in paths.values() if path[part] is not None), torch.zeros(()))
        for part in range(len(layer.parts))
    ]
    expected = torch.stack([linear.pullback(t, a[t : t + 1])[0] for t in range(5)])
    torch.testing.assert_close(torch.cat(total, -1), expected, rtol=1e-10, atol=1e-12)


# published implementations ----------------------------------------------------------------------------------------------


def states(cell, x):
    return next(linearize(cell, x).states())[1]


def test_s6_is_transformers_mamba():
    modeling = pytest.importorskip("transformers.models.mamba.modeling_mamba")
    cell = made(S6Cell, 4, 3)
    x = torch.randn(11, 2, 4, dtype=torch.float64)
    channels_first = x.permute(1, 2, 0)
    raw = channels_first.transpose(1, 2) @ cell.weight_low.T @ cell.weight_dt.T
    if not hasattr(modeling, "mamba_selective_scan"):
        pytest.skip("this version of transformers scans inside its layer and has no function for it")
    scan = getattr(modeling.mamba_selective_scan, "__wrapped__", modeling.mamba_selective_scan)
    _, last = scan(
        channels_first,
        raw.transpose(1, 2),
        -cell.a_log.exp(),
        (channels_first.transpose(1, 2) @ cell.weight_b.T).transpose(1, 2),
        torch.zeros(2, 3, 11, dtype=torch.float64),
        delta_bias=cell.bias_dt,
        delta_softplus=True,
        return_last_state=True,
    )
    torch.testing.assert_close(states(cell, x)[-1], last.flatten(1).double(), rtol=1e-5, atol=1e-6, check_dtype=False)


def test_delta_net_is_transformers_delta_rule():
    modeling = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    cell = made(DeltaNetCell, 4, 5, 3)
    x = torch.randn(11, 2, 4, dtype=torch.float64)
    (layer,) = read_cells(cell)
    values = layer.drive(x)
    batch_first = [each.transpose(0, 1).unsqueeze(2) for each in (values.k, values.v)]
    b = values.b.transpose(0, 1)
    _, last = modeling.torch_recurrent_gated_delta_rule(
        batch_first[0], *batch_first, torch.zeros_like(b), b, output_final_state=True
    )
    torch.testing.assert_close(states(cell, x)[-1], last.flatten(1).double(), rtol=1e-5, atol=1e-5, check_dtype=False)


def test_mlstm_is_transformers_xlstm():
    modeling = pytest.importorskip("transformers.models.xlstm.modeling_xlstm")
    if not hasattr(modeling, "mlstm_recurrent_step_native"):
        pytest.skip("the package xlstm takes its place")
    cell = made(MLSTMCell, 4, 5, 3)
    x = torch.randn(11, 2, 4, dtype=torch.float64)
    c, n, m = (torch.zeros(2, 1, *shape, dtype=torch.float64) for shape in ((5, 3), (5,), (1,)))
    for each in x:
        k, v = (each @ cell.weight_k.T / math.sqrt(5))[:, None], (each @ cell.weight_v.T)[:, None]
        i, f = (each @ cell.weight_gates.T + cell.bias_gates).unsqueeze(1).chunk(2, -1)
        _, (c, n, m) = modeling.mlstm_recurrent_step_native(k, k, v, i, f, c, n, m, dtype_state=torch.float64)
    unscaled = torch.cat([c, n.unsqueeze(-1)], -1) * m.exp().unsqueeze(-1)
    torch.testing.assert_close(states(cell, x)[-1], unscaled.flatten(1).detach(), rtol=1e-10, atol=1e-12)
