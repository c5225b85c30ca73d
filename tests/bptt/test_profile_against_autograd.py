"""gradient_profile against recurrences unrolled by hand and differentiated by float64 autograd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnvg import gradient_profile
from tests.reference import (
    assert_same,
    gradients,
    initial_parts,
    log_norms,
    resolve,
    restarted_log_norms,
    time_first,
    unrollable,
)

CASES = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": 2}),
    "gru": (nn.GRU, {}),
}
CELLS = {
    "tanh": (nn.RNNCell, {}),
    "relu": (nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTMCell, {}),
    "gru": (nn.GRUCell, {}),
}


def random_state(module: nn.Module, batch: int):
    """An initial state that is not zero, as the module takes it."""
    lead = () if isinstance(module, nn.RNNCellBase) else (module.num_layers,)
    width = getattr(module, "proj_size", 0) or module.hidden_size
    h = torch.randn(*lead, batch, width, dtype=torch.float64)
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return h, torch.randn(*lead, batch, module.hidden_size, dtype=torch.float64)
    return h


@st.composite
def problems(draw, cases):
    """(module, inputs, state, output_grad, sources, lengths, wrt, layer), everything float64 and seeded."""
    kind, keywords = cases[draw(st.sampled_from(sorted(cases)))]
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    is_cell = issubclass(kind, nn.RNNCellBase)
    shape = {} if is_cell else {"num_layers": draw(st.integers(1, 3)), "batch_first": draw(st.booleans())}
    width = draw(st.integers(1, 3))
    hidden = draw(st.integers(3 if "proj_size" in keywords else 1, 6))
    module = kind(width, hidden, bias=draw(st.booleans()), dtype=torch.float64, **shape, **keywords)
    scale = draw(st.sampled_from([0.3, 1.0, 1.5]))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)
    steps, batch = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    inputs = time_first(module, torch.randn(steps, batch, width, dtype=torch.float64))
    state = random_state(module, batch) if draw(st.booleans()) else None
    output_grad = torch.randn(steps, batch, keywords.get("proj_size", hidden), dtype=torch.float64)
    if draw(st.booleans()):
        output_grad *= torch.rand(steps, batch, 1) < 0.5
    sources = draw(
        st.sampled_from(["last", "all"])
        | st.integers(1, steps)
        | st.lists(st.integers(-steps, steps - 1), min_size=1, max_size=3)
    )
    shortest = sources if isinstance(sources, int) else 1
    lengths = draw(st.none() | st.lists(st.integers(shortest, steps), min_size=batch, max_size=batch))
    wrt = draw(st.sampled_from(["state", "hidden", "input"] + ["cell"] * isinstance(module, (nn.LSTM, nn.LSTMCell))))
    layers = st.integers(0, 0 if is_cell else module.num_layers - 1)
    layer = None if wrt == "input" else draw(st.none() | layers)
    return module, inputs, state, time_first(module, output_grad), sources, lengths, wrt, layer


def check(problem) -> None:
    module, inputs, state, output_grad, sources, lengths, wrt, layer = problem
    asked = {"output_grad": output_grad, "sources": sources, "lengths": lengths, "wrt": wrt, "layer": layer}
    profile = gradient_profile(module, inputs, state, **asked)
    assert_same(profile.log_norm, log_norms(module, inputs, state, **asked))
    steps, batch = time_first(module, inputs).shape[:2]
    full, _ = resolve(sources, steps, [steps] * batch)
    np.testing.assert_array_equal(profile.sources, full)
    np.testing.assert_array_equal(profile.distance, np.arange(max(full) + 2))
    assert (profile.wrt, profile.layer) == (wrt, layer)
    np.testing.assert_array_equal(profile.first_nonfinite, np.full(batch, -1))


@given(problems(CASES))
@settings(max_examples=350, deadline=None, derandomize=True)
def test_modules(problem):
    check(problem)


@given(problems(CELLS))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_cells(problem):
    check(problem)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_many_sources_at_once(case, layers):
    """Dozens of adjoints under way together, which may be multiplied in another way than one."""
    kind, keywords = CASES[case]
    torch.manual_seed(13)
    module = kind(2, 4, layers, dtype=torch.float64, **keywords)
    inputs, state = torch.randn(32, 2, 2, dtype=torch.float64), random_state(module, 2)
    output_grad = torch.randn(32, 2, keywords.get("proj_size", 4), dtype=torch.float64)
    for wrt in ("state", "input"):
        asked = {"output_grad": output_grad, "sources": "all", "lengths": [32, 29], "wrt": wrt}
        found = gradient_profile(module, inputs, state, **asked).log_norm
        assert_same(found, log_norms(module, inputs, state, **asked))


@pytest.mark.parametrize("case", CASES)
@given(seed=st.integers(0, 10**6), layers=st.integers(1, 3), steps=st.integers(1, 7), batch=st.integers(1, 3))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_against_the_fused_layer_restarted_from_its_own_states(case, seed, layers, steps, batch):
    kind, keywords = CASES[case]
    torch.manual_seed(seed)
    module = kind(2, 4, layers, dtype=torch.float64, **keywords)
    inputs = torch.randn(steps, batch, 2, dtype=torch.float64)
    output_grad = torch.randn(steps, batch, keywords.get("proj_size", 4), dtype=torch.float64)
    found = gradient_profile(module, inputs, output_grad=output_grad).log_norm[0, 1:]
    np.testing.assert_allclose(found, restarted_log_norms(module, inputs, output_grad[-1], steps - 1), atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_steps_as_pytorch_does(case):
    kind, keywords = CASES[case]
    torch.manual_seed(0)
    module = kind(2, 4, 3, dtype=torch.float64, **keywords)
    inputs, state = torch.randn(6, 2, 2, dtype=torch.float64), random_state(module, 2)
    parts, plain, outputs = initial_parts(module, inputs, state), unrollable(module), []
    for x in inputs:
        output, parts = plain.step(x, parts)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs), module(inputs, state)[0].detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CELLS)
@pytest.mark.parametrize("with_state", [False, True])
def test_cells_equal_their_modules(case, with_state):
    kind, keywords = CELLS[case]
    torch.manual_seed(1)
    cell = kind(3, 4, dtype=torch.float64, **keywords)
    module = CASES[case][0](3, 4, dtype=torch.float64, **CASES[case][1])
    module.load_state_dict({f"{name}_l0": weight for name, weight in cell.state_dict().items()})
    inputs = torch.randn(12, 3, 3, dtype=torch.float64)
    state = random_state(cell, 3) if with_state else None
    stacked = tuple(part[None] for part in state) if isinstance(state, tuple) else state
    stacked = state[None] if isinstance(state, torch.Tensor) else stacked
    for wrt in ("state", "input"):
        of_cell = gradient_profile(cell, inputs, state, sources="all", wrt=wrt).log_norm
        of_module = gradient_profile(module, inputs, stacked, sources="all", wrt=wrt).log_norm
        assert_same(of_cell, of_module, 1e-12)


def test_h_and_c_are_independent_coordinates():
    """dL/dc_t holds h_t fixed: a cell loop's own c_t.grad, which sees h_t as a function of c_t, is another number."""
    torch.manual_seed(2)
    cell = nn.LSTMCell(1, 1, dtype=torch.float64)
    inputs = torch.randn(2, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        h, c = cell(inputs[0])
    h, c = h.requires_grad_(), c.requires_grad_()
    (to_h, to_c) = torch.autograd.grad(cell(inputs[1], (h, c))[0].sum(), (h, c))
    grad = torch.ones(2, 1, 1, dtype=torch.float64)
    for wrt, expected in (("hidden", to_h), ("cell", to_c)):
        found = gradient_profile(cell, inputs, output_grad=grad, wrt=wrt).log_norm[0, 1, 0]
        assert found == pytest.approx(math.log(abs(expected.item())), abs=1e-12)
    both = gradient_profile(cell, inputs, output_grad=grad).log_norm[0, 1, 0]
    assert both == pytest.approx(math.log(math.hypot(to_h.item(), to_c.item())), abs=1e-12)


def test_distance_zero_and_the_initial_state():
    """k = 0 is output_grad on the top layer's h and nothing else; k = source + 1 the initial state, nan for the input."""
    torch.manual_seed(3)
    module = nn.LSTM(2, 4, num_layers=3, dtype=torch.float64)
    inputs, grad = torch.randn(6, 3, 2, dtype=torch.float64), torch.randn(6, 3, 4, dtype=torch.float64)

    def profile(**asked):
        return gradient_profile(module, inputs, output_grad=grad, sources=[2, 5], **asked).log_norm

    own = grad[[2, 5]].norm(dim=-1).log().numpy()
    for asked in ({}, {"wrt": "hidden"}, {"layer": 2}, {"wrt": "hidden", "layer": 2}):
        np.testing.assert_allclose(profile(**asked)[:, 0], own, rtol=1e-14)
    for asked in (
        {"wrt": "cell"},
        {"wrt": "cell", "layer": 2},
        {"layer": 0},
        {"layer": 1},
        {"wrt": "hidden", "layer": 0},
    ):
        assert (profile(**asked)[:, 0] == -np.inf).all()
        assert np.isfinite(profile(**asked)[1, 3:]).all()
    assert np.isfinite(profile()[0, :4]).all()
    assert np.isnan(profile()[0, 4:]).all()
    to_input = profile(wrt="input")
    assert np.isfinite(to_input[0, :3]).all()
    assert np.isnan(to_input[0, 3:]).all()
    assert np.isfinite(to_input[1, :6]).all()
    assert np.isnan(to_input[1, 6:]).all()


def test_layers_and_kinds_add_up_to_the_whole_state():
    torch.manual_seed(4)
    module = nn.LSTM(2, 5, num_layers=2, proj_size=3, dtype=torch.float64)
    inputs = torch.randn(15, 2, 2, dtype=torch.float64)

    def squares(**asked):
        return np.exp(2 * gradient_profile(module, inputs, sources="all", **asked).log_norm)

    whole = squares()
    np.testing.assert_allclose(squares(wrt="hidden") + squares(wrt="cell"), whole, rtol=1e-12)
    np.testing.assert_allclose(squares(layer=0) + squares(layer=1), whole, rtol=1e-12)
    np.testing.assert_allclose(
        squares(wrt="cell", layer=0) + squares(wrt="cell", layer=1), squares(wrt="cell"), rtol=1e-12
    )


def test_a_source_is_followed_on_its_own():
    """A scalar chain with a loss at every step: 0.5^k from each source, never the 2.0 of the summed adjoint."""
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float64)
    nn.init.constant_(module.weight_hh_l0, 0.5)
    nn.init.ones_(module.weight_ih_l0)
    ones = torch.ones(50, 1, 1, dtype=torch.float64)
    found = gradient_profile(module, ones, output_grad=ones, sources="all").log_norm
    assert found[49, 50, 0] == pytest.approx(50 * math.log(0.5), rel=1e-12)
    for source in range(50):
        np.testing.assert_allclose(found[source, : source + 2, 0], np.arange(source + 2) * math.log(0.5), rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_a_padded_sequence_is_the_short_sequence(case):
    kind, keywords = CASES[case]
    torch.manual_seed(5)
    module = kind(2, 4, 2, dtype=torch.float64, **keywords)
    inputs = torch.randn(10, 3, 2, dtype=torch.float64)
    output_grad = torch.randn(10, 3, keywords.get("proj_size", 4), dtype=torch.float64)
    lengths = [10, 4, 7]
    for sources in ("last", [-1, -4], 4):
        padded = gradient_profile(module, inputs, output_grad=output_grad, sources=sources, lengths=lengths).log_norm
        for b, length in enumerate(lengths):
            alone = gradient_profile(
                module, inputs[:length, b : b + 1], output_grad=output_grad[:length, b : b + 1], sources=sources
            ).log_norm
            np.testing.assert_allclose(padded[:, : alone.shape[1], b], alone[:, :, 0], rtol=1e-12, atol=1e-12)
            assert np.isnan(padded[:, alone.shape[1] :, b]).all()


@pytest.mark.parametrize("case", ["tanh", "lstm", "gru"])
def test_batch_first_is_the_same_profile(case):
    kind, keywords = CASES[case]
    torch.manual_seed(6)
    module = kind(2, 3, 2, dtype=torch.float64, **keywords)
    turned = kind(2, 3, 2, dtype=torch.float64, batch_first=True, **keywords)
    turned.load_state_dict(module.state_dict())
    inputs, grad = torch.randn(7, 4, 2, dtype=torch.float64), torch.randn(7, 4, 3, dtype=torch.float64)
    state = random_state(module, 4)  # [layers, B, H] in both
    for asked in ({}, {"lengths": [7, 2, 5, 1]}):
        one = gradient_profile(module, inputs, state, output_grad=grad, sources="all", **asked)
        other = gradient_profile(
            turned, inputs.transpose(0, 1), state, output_grad=grad.transpose(0, 1), sources="all", **asked
        )
        assert_same(other.log_norm, one.log_norm, 1e-12)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("case", CASES)
def test_float32_stays_near_float64(case):
    """Rounding enters once a step: within 2e-7 per step of the float64 profile, on networks that are not chaotic."""
    kind, keywords = CASES[case]
    torch.manual_seed(7)
    module = kind(3, 16, 2, **keywords)
    inputs = torch.randn(300, 4, 3)
    output_grad = torch.randn(300, 4, keywords.get("proj_size", 16))
    single = gradient_profile(module, inputs, output_grad=output_grad, sources=[50, 299])
    double = gradient_profile(module.double(), inputs.double(), output_grad=output_grad.double(), sources=[50, 299])
    assert single.log_norm.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(single.log_norm), np.isnan(double.log_norm))
    bound = 2e-7 * (1 + np.arange(301)[:, None])
    assert np.nanmax(np.abs(single.log_norm - double.log_norm) / bound) < 1
    assert np.nanmin(double.log_norm) < -95  # a float32 gradient would be 0 by then, and its square long before


def test_nothing_of_the_callers_is_touched():
    torch.manual_seed(8)
    module = nn.LSTM(2, 3, num_layers=2)
    inputs = torch.randn(6, 2, 2, requires_grad=True)
    grad = torch.randn(6, 2, 3)
    state = (torch.zeros(2, 2, 3, requires_grad=True), torch.zeros(2, 2, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    kept = inputs.detach().clone(), grad.clone()
    random_numbers = torch.get_rng_state()
    gradient_profile(module, inputs, state, output_grad=grad, sources="all")
    gradient_profile(module, inputs, state, sources="all")
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert module.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert inputs.grad is None
    assert state[0].grad is None
    assert torch.equal(inputs.detach(), kept[0])
    assert torch.equal(grad, kept[1])
    assert not module._forward_hooks
    assert torch.is_grad_enabled()


def test_frozen_weights_and_no_grad_give_the_same():
    torch.manual_seed(9)
    module = nn.GRU(2, 3, dtype=torch.float64)
    inputs = torch.randn(6, 2, 2, dtype=torch.float64)
    expected = gradient_profile(module, inputs).log_norm
    with torch.no_grad():
        np.testing.assert_array_equal(gradient_profile(module, inputs).log_norm, expected)
    with torch.inference_mode():
        np.testing.assert_array_equal(gradient_profile(module, inputs).log_norm, expected)
    np.testing.assert_array_equal(gradient_profile(module.requires_grad_(False), inputs).log_norm, expected)
    np.testing.assert_array_equal(gradient_profile(module.eval(), inputs).log_norm, expected)


def test_the_reference_itself_by_finite_differences():
    torch.manual_seed(10)
    module = nn.LSTM(2, 3, num_layers=2, dtype=torch.float64)
    inputs, covector = torch.randn(5, 1, 2, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    found = gradients(module, inputs, None, covector, 4)
    plain = unrollable(module)

    def loss(t: int, part: int, unit: int, nudge: float) -> float:
        parts = initial_parts(module, inputs, None)
        output = None
        for step, x in enumerate(inputs):
            if step == t:
                parts[part] = parts[part].clone()
                parts[part][0, unit] += nudge
            output, parts = plain.step(x, parts)
        return (output * covector).sum().item()

    for t in range(5):
        for part in range(4):
            for unit in range(3):
                slope = (loss(t, part, unit, 1e-5) - loss(t, part, unit, -1e-5)) / 2e-5
                assert found.state[part][5 - t, 0, unit].item() == pytest.approx(slope, abs=1e-9)
