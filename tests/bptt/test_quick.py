"""Few operations a step give the numbers of the general sweep: trajectory from the outputs that were seen, runs of pulls."""

import numpy as np
import pytest
import torch
from seen_calls import watched
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import rnnvg
from rnnvg.bptt.cells import Buffers, read_cells
from rnnvg.bptt.handed_on import both_ways, profile_seen
from rnnvg.bptt.passes import chosen_passes
from rnnvg.bptt.quick import quick_both_ways, quick_profile
from rnnvg.bptt.sequences import collected, reached_chains
from rnnvg.bptt.watched import linearised, profile_at

CELLS = {
    "tanh": nn.RNN,
    "relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "projected": lambda *a, **k: nn.LSTM(*a, proj_size=4, **k),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("how", ["whole", "packed", "ends", "dropout"])
def test_the_same_numbers_as_the_general_sweep(cell, layers, how):
    torch.manual_seed(0)
    dropout = 0.4 if how == "dropout" and layers > 1 else 0.0
    module = CELLS[cell](3, 6, layers, dropout=dropout, dtype=torch.float64)
    lengths = torch.tensor([70, 31, 52]) if how == "packed" else None
    recorder, plain, found = watched(module, 70, snapshot=True, lengths=lengths, ends=how == "ends")
    for sources in ([0, 12, 30, 51, 69], [50, 20], "last", 4):
        whole = profile_at(linearised(recorder, plain, found), sources)
        quick = quick_profile(recorder, recorder.calls, found, sources)
        assert quick is not None
        np.testing.assert_array_equal(quick.sources, whole.sources)
        np.testing.assert_allclose(quick.log_norm, whole.log_norm, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 0.3, 4.0])
@pytest.mark.parametrize("cell", ["tanh", "relu", "lstm", "gru"])
def test_gradients_of_any_size_in_single_precision(cell, scale):
    """Gains from 10^-600 to beyond 10^40 in 100 steps; an exact zero stays one."""
    torch.manual_seed(0)
    module = CELLS[cell](3, 6)
    with torch.no_grad():
        module.weight_hh_l0 *= scale
        if cell == "relu":
            module.bias_ih_l0 += 1
        if cell == "lstm":
            module.bias_ih_l0[6:12] -= 8
    recorder, plain, found = watched(module, 40, snapshot=True)
    quick = quick_profile(recorder, recorder.calls, found, [10, 39])
    assert quick is not None
    wide = module.double()
    inputs, grad = found.inputs.double(), found.output_grad.double()
    exact = rnnvg.gradient_profile(wide, inputs, output_grad=grad, sources=[10, 39])
    np.testing.assert_array_equal(np.isneginf(quick.log_norm), np.isneginf(exact.log_norm))
    seen = np.isfinite(exact.log_norm)
    assert seen.sum() > 30
    np.testing.assert_allclose(quick.log_norm[seen], exact.log_norm[seen], rtol=2e-4, atol=2e-3)
    assert profile_at(linearised(recorder, plain, found), [10, 39]).log_norm.shape == quick.log_norm.shape


def test_units_that_are_off_pass_an_exact_zero():
    module = nn.RNN(3, 6, nonlinearity="relu")
    nn.init.zeros_(module.weight_hh_l0)
    recorder, _, found = watched(module, 40, snapshot=True)
    quick = quick_profile(recorder, recorder.calls, found, "last")
    assert np.isneginf(quick.log_norm[0, 1:]).all()
    assert np.isfinite(quick.log_norm[0, 0]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_a_trajectory_retraced_from_its_outputs_is_the_one_that_was_run(cell):
    torch.manual_seed(0)
    module = CELLS[cell](3, 6, dtype=torch.float64)
    (layer,) = read_cells(module)
    x = torch.randn(20, 4, 3, dtype=torch.float64)
    first = tuple(torch.randn(4, part.width, dtype=torch.float64) for part in layer.parts)
    run = layer.run(x, first, Buffers())
    again = layer.retrace(x, run.states[0][1:].clone(), first, Buffers())
    for one, other in zip((*run.states, *run.values), (*again.states, *again.values), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_outputs_that_the_weights_do_not_give_are_left_to_the_general_check():
    torch.manual_seed(0)
    module = nn.LSTM(3, 6)
    recorder, _, found = watched(module, 30, snapshot=True)
    assert quick_profile(recorder, recorder.calls, found, "last") is not None
    recorder.calls[0].weights["weight_hh_l0"][5] += 0.01
    assert quick_profile(recorder, recorder.calls, found, "last") is None


def test_a_gradient_that_overflows_within_a_step_is_left_to_the_general_sweep():
    module = nn.RNN(1, 2, nonlinearity="relu", bias=False)
    with torch.no_grad():
        module.weight_hh_l0.copy_(torch.tensor([[0.0, 0.0], [3e38, 0.0]]))
        module.weight_ih_l0.fill_(1e-38)
    x = torch.ones(6, 2, 1)
    with rnnvg.watch(module, snapshot=True) as watcher:
        module(x)[0][-1].mul(torch.tensor([0.0, 3e38])).sum().backward()
    recorder = next(iter(watcher.recorders.values()))
    chosen = chosen_passes(recorder, None)
    plain, found = collected(recorder, reached_chains(recorder, chosen), chosen)
    quick = quick_profile(recorder, recorder.calls, found, "last")
    whole = profile_at(linearised(recorder, plain, found), "last")
    assert quick is None or np.allclose(quick.log_norm, whole.log_norm, rtol=1e-4, equal_nan=True)


class Count(TorchDispatchMode):
    operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("cell", "per_step"), [("tanh", 2), ("gru", 3), ("lstm", 6)])
def test_a_step_more_costs_a_pull_more(cell, per_step):
    """Beside those of a run's end; of an LSTM, which carries a cell that nobody saw, one more."""
    found = {}
    for steps in (32, 96):
        torch.manual_seed(0)
        module = CELLS[cell](3, 6)
        monitor = rnnvg.GradientMonitor(module, every=1)
        module(torch.randn(steps, 2, 3))[0].square().mean().backward()
        with Count() as count:
            assert "horizon" in monitor.metrics()
        monitor.close()
        found[steps] = count.operations
    assert 64 * per_step <= found[96] - found[32] <= 64 * per_step + 160


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lengths", [None, [30, 7, 19, 1]])
@pytest.mark.parametrize("h_n", [False, True])
def test_both_directions_of_a_layer_have_the_numbers_of_the_general_sweep(cell, lengths, h_n):
    torch.manual_seed(0)
    module = CELLS[cell](3, 6, bidirectional=True, dtype=torch.float64)
    x = torch.randn(30, 4, 3, dtype=torch.float64)
    with rnnvg.watch(module, snapshot=True) as watcher:
        given = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        output, state = module(given)
        last = (state if len(state) == 2 and isinstance(state, tuple) else [state])[0]
        (last if h_n else output if lengths is None else output.data).square().sum().backward()
    recorder = next(iter(watcher.recorders.values()))
    chosen = chosen_passes(recorder, None)
    plain, found = both_ways(recorder, reached_chains(recorder, chosen), chosen)
    sources = [0, 29] if h_n else [0, 6, 18, 29]
    profiles = quick_both_ways(recorder, recorder.calls, found, sources)
    assert profiles is not None
    for direction, profile in zip(("forward", "backward"), profiles, strict=True):
        wanted = profile_seen(plain, found, sources=sources, direction=direction)
        for distance in profile.distance:
            at = np.flatnonzero(wanted.distance == (distance if direction == "forward" else -distance))
            seen = profile.log_norm[:, distance]
            np.testing.assert_allclose(seen, wanted.log_norm[:, at[0]], rtol=1e-9, atol=1e-9)
