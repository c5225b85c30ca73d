"""Gradients known with a pencil, to distances where float64 itself has long underflowed."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rnnvg import gradient_profile
from rnnvg.bptt import Diagonal
from rnnvg.bptt.cells.min_rnn import MinGRUCell
from rnnvg.bptt.cells.state_space import LRUCell

STEPS = 5000


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def assert_line(log_norm: np.ndarray, start: float, rate: float, first: int = 0) -> None:
    """log_norm[k] = start + rate (k - first) from `first` on, to 1e-9 of the norm."""
    expected = start + rate * np.arange(len(log_norm) - first)
    np.testing.assert_allclose(log_norm[first:], expected, rtol=0, atol=1e-9)


def scalar_chain(weight: float, nonlinearity: str = "relu") -> nn.RNN:
    module = nn.RNN(1, 1, nonlinearity=nonlinearity, bias=False, dtype=torch.float64)
    nn.init.constant_(module.weight_hh_l0, weight)
    nn.init.ones_(module.weight_ih_l0)
    return module


def orthogonal_rnn(size: int, scale: float, nonlinearity: str) -> nn.RNN:
    """W = scale * orthogonal, the input added as it is."""
    torch.manual_seed(0)
    module = nn.RNN(size, size, nonlinearity=nonlinearity, bias=False, dtype=torch.float64)
    nn.init.orthogonal_(module.weight_hh_l0, gain=scale)
    nn.init.eye_(module.weight_ih_l0)
    return module


@pytest.mark.parametrize("weight", [0.5, 0.999, -0.7, 1.0])
def test_relu_chain(weight):
    ones = torch.ones(STEPS, 1, 1, dtype=torch.float64)
    found = gradient_profile(scalar_chain(weight), ones, output_grad=-3 * ones).log_norm[0, :, 0]
    assert len(found) == STEPS + 1
    assert_line(found, math.log(3), math.log(abs(weight)))


@pytest.mark.parametrize("weight", [0.5, -1.7])
def test_linear_chain_as_a_step_function(weight):
    """The states explode for |w| > 1 unless they stay at 0."""
    inputs, state = torch.zeros(STEPS, 1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    found = gradient_profile(lambda x, h: weight * h + x, inputs, state)
    assert_line(found.log_norm[0, :, 0], 0, math.log(abs(weight)))


@pytest.mark.parametrize("weight", [0.3, -1.5])
def test_tanh_chain_at_zero(weight):
    zeros = torch.zeros(STEPS, 1, 1, dtype=torch.float64)
    assert_line(gradient_profile(scalar_chain(weight, "tanh"), zeros).log_norm[0, :, 0], 0, math.log(abs(weight)))


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.3])
def test_scaled_orthogonal_tanh_at_zero(scale):
    """h = 0 throughout, so every slope is 1 and the Jacobian is the matrix."""
    found = gradient_profile(orthogonal_rnn(7, scale, "tanh"), torch.zeros(STEPS, 3, 7, dtype=torch.float64)).log_norm
    for b in range(3):
        assert_line(found[0, :, b], 0, math.log(scale))


@pytest.mark.parametrize("scale", [0.5, 0.95])
def test_scaled_orthogonal_relu_kept_positive(scale):
    """x = 1 - W 1 holds h at 1, where relu is the identity."""
    module = orthogonal_rnn(6, scale, "relu")
    inputs = (1 - module.weight_hh_l0.detach().sum(dim=1)).expand(STEPS, 2, 6)
    found = gradient_profile(module, inputs, torch.ones(1, 2, 6, dtype=torch.float64)).log_norm
    for b in range(2):
        assert_line(found[0, :, b], 0, math.log(scale))


def forced_lstm(hidden: int, forget: float, output: float = 0.0) -> nn.LSTM:
    """No weights on h: the gates are what the biases say, the forget gate's bias moved by the input."""
    module = nn.LSTM(1, hidden, dtype=torch.float64)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        _, f, _, o = module.bias_ih_l0.chunk(4)
        f.fill_(forget)
        o.fill_(output)
        module.weight_ih_l0[hidden : 2 * hidden] = 1
    return module


@pytest.mark.parametrize("f", [0.5, 0.9, 0.9999])
def test_forced_forget_gate(f):
    """With g = 0 the cell stays at 0: dh_t/dc_t = o = 1/2, dc_t/dc_{t-1} = f, nothing goes through h."""
    module, zeros = forced_lstm(4, logit(f)), torch.zeros(STEPS, 2, 1, dtype=torch.float64)
    for wrt in ("state", "cell"):
        found = gradient_profile(module, zeros, wrt=wrt).log_norm
        for b in range(2):
            assert_line(found[0, :, b], math.log(0.5 * f), math.log(f), first=1)
    through_h = gradient_profile(module, zeros, wrt="hidden").log_norm
    np.testing.assert_allclose(through_h[0, 0], 0, atol=1e-14)
    assert (through_h[0, 1:] == -np.inf).all()


def test_forget_gate_that_moves_with_the_input():
    """The product of the steps' own gates, each at its own distance: ln f_S + ln f_{S-1} + ..."""
    torch.manual_seed(1)
    inputs = torch.randn(STEPS, 2, 1, dtype=torch.float64)
    grad = torch.full((STEPS, 2, 4), 0.5, dtype=torch.float64)  # norm 1
    found = gradient_profile(forced_lstm(4, 1.0), inputs, output_grad=grad, sources=[STEPS - 1, 2999]).log_norm
    log_gate = torch.nn.functional.logsigmoid(1.0 + inputs)[:, :, 0].numpy()
    for s, source in enumerate((STEPS - 1, 2999)):
        expected = math.log(0.5) + np.cumsum(log_gate[source::-1], axis=0)
        np.testing.assert_allclose(found[s, 1 : source + 2], expected, rtol=0, atol=1e-9)
        assert np.isnan(found[s, source + 2 :]).all()


def test_constant_error_carousel():
    """f = 1 in float64: the gradient at c never decays, and the horizon says that it has no end in sight."""
    profile = gradient_profile(forced_lstm(2, 60.0), torch.zeros(STEPS, 1, 1, dtype=torch.float64))
    np.testing.assert_allclose(profile.log_gain()[0, 1:, 0], 0, atol=1e-12)
    horizon = profile.horizon()
    assert (horizon.last, horizon.first_below, horizon.censored, horizon.e_fold) == (STEPS, None, True, None)


def forced_gru(hidden: int, update: float) -> nn.GRU:
    module = nn.GRU(1, hidden, dtype=torch.float64)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        module.bias_ih_l0[hidden : 2 * hidden] = update
        module.weight_ih_l0[hidden : 2 * hidden] = 1
    return module


@pytest.mark.parametrize("z", [0.5, 0.97, 0.9999])
def test_forced_update_gate(z):
    found = gradient_profile(forced_gru(4, logit(z)), torch.zeros(STEPS, 2, 1, dtype=torch.float64)).log_norm
    for b in range(2):
        assert_line(found[0, :, b], 0, math.log(z))


def test_update_gate_that_moves_with_the_input():
    torch.manual_seed(2)
    inputs = torch.randn(STEPS, 2, 1, dtype=torch.float64)
    found = gradient_profile(forced_gru(3, 0.5), inputs).log_norm[0]
    log_gate = torch.nn.functional.logsigmoid(0.5 + inputs)[:, :, 0].numpy()
    np.testing.assert_allclose(found[1:], np.cumsum(log_gate[::-1], axis=0), rtol=0, atol=1e-9)


def test_gradient_at_the_input():
    """x_t enters h_t itself: k = 0 holds W_ih alone, and the initial state's distance has no input."""
    module = scalar_chain(0.8)
    nn.init.constant_(module.weight_ih_l0, 0.25)
    found = gradient_profile(module, torch.ones(STEPS, 1, 1, dtype=torch.float64), wrt="input").log_norm[0, :, 0]
    assert_line(found[:-1], math.log(0.25), math.log(0.8))
    assert np.isnan(found[-1])


def test_jordan_block_grows_before_it_decays():
    """W = [[.9, 1], [0, .9]] has spectral radius .9; from e_1 the adjoint after k steps is (.9^k, k .9^(k-1))."""
    module = orthogonal_rnn(2, 1.0, "tanh")
    module.weight_hh_l0.data = torch.tensor([[0.9, 1.0], [0.0, 0.9]], dtype=torch.float64)
    grad = torch.zeros(STEPS, 1, 2, dtype=torch.float64)
    grad[..., 0] = 1
    profile = gradient_profile(module, torch.zeros(STEPS, 1, 2, dtype=torch.float64), output_grad=grad)
    k = np.arange(STEPS + 1)
    expected = k * math.log(0.9) + 0.5 * np.log1p((k / 0.9) ** 2)
    np.testing.assert_allclose(profile.log_norm[0, :, 0], expected, rtol=0, atol=1e-9)
    assert math.exp(profile.log_norm.max()) == pytest.approx(3.9, abs=0.05)


def test_a_structural_zero_is_not_the_end():
    """Two units that swap, read and written through the first alone: the input's gradient is zero at every odd lag."""
    module = nn.RNN(1, 2, nonlinearity="relu", bias=False, dtype=torch.float64)
    module.weight_hh_l0.data = torch.tensor([[0.0, 0.9], [0.9, 0.0]], dtype=torch.float64)
    module.weight_ih_l0.data = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    ones, grad = torch.ones(2000, 1, 1, dtype=torch.float64), torch.zeros(2000, 1, 2, dtype=torch.float64)
    grad[..., 0] = 1
    state = torch.ones(1, 1, 2, dtype=torch.float64)  # every unit positive from the start
    found = gradient_profile(module, ones, state, output_grad=grad, wrt="input").log_norm[0, :-1, 0]
    assert (found[1::2] == -np.inf).all()
    np.testing.assert_allclose(found[::2], np.arange(0, 2000, 2) * math.log(0.9), rtol=0, atol=1e-9)


def test_a_dead_unit_is_the_end():
    """relu below 0 at step 60: the gradient is exactly zero from there back, and finite after it."""
    inputs = torch.ones(100, 1, 1, dtype=torch.float64)
    inputs[60] = -10
    found = gradient_profile(scalar_chain(0.5), inputs).log_norm[0, :, 0]
    assert_line(found[:40], 0, math.log(0.5))  # distances 0 to 39 are states of steps 99 to 60
    assert (found[40:] == -np.inf).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_diagonal(dtype):
    """A diagonal recurrence of one unit: the product of |d_t|, phases leave no trace."""
    torch.manual_seed(3)
    factors = 0.2 + torch.rand(STEPS, 2, 1, dtype=torch.float64)
    turned = factors * torch.exp(2j * math.pi * torch.rand_like(factors)) if dtype.is_complex else -factors
    found = gradient_profile(Diagonal(), turned).log_norm[0]
    expected = np.cumsum(factors[:, :, 0].log().numpy()[::-1], axis=0)
    np.testing.assert_allclose(found[0], 0, atol=1e-12)
    np.testing.assert_allclose(found[1:], expected, rtol=0, atol=1e-9)


def test_diagonal_of_many_units_and_sources():
    """Each unit on its own; the slowest carries the gradient in the end."""
    decay = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    grad = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64).expand(400, 1, 3)
    profile = gradient_profile(Diagonal(), decay.expand(400, 1, 3), output_grad=grad, sources=[150, -1])
    for s, source in enumerate((150, 399)):
        k = np.arange(source + 2)[:, None]
        expected = 0.5 * np.log(((grad[0].numpy() * decay.numpy() ** k) ** 2).sum(axis=1))
        np.testing.assert_allclose(profile.log_norm[s, : source + 2, 0], expected, rtol=0, atol=1e-9)


def test_diagonal_with_its_decay_computed_from_the_inputs():
    """The minGRU's decay factor is 1 - z(x)."""
    torch.manual_seed(4)
    gate = nn.Linear(3, 1, dtype=torch.float64)
    inputs = torch.randn(50, 2, 3, dtype=torch.float64)
    found = gradient_profile(Diagonal(lambda x: torch.sigmoid(-gate(x))), inputs).log_norm[0]
    kept = torch.sigmoid(-gate(inputs)).detach()[:, :, 0].log().numpy()
    np.testing.assert_allclose(found[1:], np.cumsum(kept[::-1], axis=0), rtol=0, atol=1e-9)


def test_diagonal_by_what_a_step_adds_is_the_gradient_by_the_state():
    decay = 0.2 + torch.rand(60, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    by_state, by_input = (gradient_profile(Diagonal(), decay, sources=5, wrt=wrt) for wrt in ("state", "input"))
    for row, source in enumerate(by_input.sources):
        distances = slice(0, source + 1)
        np.testing.assert_allclose(
            by_input.log_norm[row, distances], by_state.log_norm[row, distances], rtol=0, atol=1e-12
        )
        assert np.isnan(by_input.log_norm[row, source + 1]).all()  # the state before the first step has no input
    assert by_input.note == "The input is what a step adds to the state."
    assert by_state.note == ""


@pytest.mark.parametrize("sources", ["last", "all"])
def test_diagonal_by_the_input_is_the_closed_form_of_the_cell(sources):
    """minGRU and LRU, by their decay and drive alone, from a state that is not zero."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(140, 2, 3, dtype=torch.float64, generator=generator)
    gru, lru = MinGRUCell(3, 4).double(), LRUCell(3, 4).double()

    def z(x):
        return F.linear(x, gru.weight_ih, gru.bias_ih).chunk(2, -1)

    b = torch.complex(lru.b_re, lru.b_im)
    eigenvalues = torch.exp(torch.complex(-lru.nu_log.exp(), lru.theta_log.exp()))
    cases = (
        (gru, Diagonal(lambda x: torch.sigmoid(-z(x)[0]), lambda x: torch.sigmoid(z(x)[0]) * z(x)[1]), torch.float64),
        (
            lru,
            Diagonal(
                lambda x: eigenvalues.expand(*x.shape[:2], -1), lambda x: lru.gamma_log.exp() * (x.to(b.dtype) @ b.T)
            ),
            torch.complex128,
        ),
    )
    for cell, diagonal, dtype in cases:
        state = torch.randn(2, 4, dtype=dtype, generator=generator)
        wanted = gradient_profile(cell, inputs, state, sources=sources, wrt="input")
        found = gradient_profile(diagonal, inputs, state, sources=sources, wrt="input")
        np.testing.assert_allclose(found.log_norm, wanted.log_norm, rtol=0, atol=1e-10)
        assert found.verify().residual < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_coordinate_that_is_all_that_is_left_in_the_end(dtype):
    """One is e^-1000 of the other for a while, and then the other way round: each has a scale of its own."""
    small, one = math.exp(-5), 1.0
    decay = torch.tensor([[one, small]] * 300 + [[small, one]] * 200, dtype=dtype).unsqueeze(1)
    found = gradient_profile(Diagonal(), decay, output_grad=torch.ones(500, 1, 2, dtype=dtype)).log_norm[0, :, 0]
    atol = max(1e-9, 2 * torch.finfo(dtype).eps)  # of the covector, which is in this dtype
    rate = float(decay[0, 0, 1].double().log())
    k = np.arange(501)
    first, second = rate * np.minimum(k, 200), rate * np.maximum(0, k - 200)
    np.testing.assert_allclose(found, np.logaddexp(2 * first, 2 * second) / 2, rtol=0, atol=atol)


def test_diagonal_zero_factor_is_an_exact_zero():
    factors = torch.full((10, 1, 2), 0.5, dtype=torch.float64)
    factors[4] = 0
    found = gradient_profile(Diagonal(), factors).log_norm[0, :, 0]
    assert_line(found[:6], 0, math.log(0.5))
    assert (found[6:] == -np.inf).all()


def test_float32_far_below_its_own_range():
    """0.5^k has no rounding: exact at k = 2000, where float32 is 0 from k = 150 and its square from 75."""
    ones = torch.ones(2000, 1, 1)
    found = gradient_profile(scalar_chain(0.5).float(), ones).log_norm[0, :, 0]
    assert_line(found, 0, math.log(0.5))
