"""Lyapunov spectra of maps with known exponents, of networks against explicit Jacobians, and their certificate."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.special import digamma
from torch import nn

from rnnvg.bptt.cells.diagonal import Diagonal
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.spectrum import LyapunovSpectrum, frames, lyapunov_spectrum
from rnnvg.bptt.spectrum.lyapunov import entropy_rate, kaplan_yorke
from rnnvg.errors import InputError
from tests.reference_causes import naive_exponents, step_jacobians

WIDE = torch.float64


def nothing(steps: int, batch: int = 1) -> torch.Tensor:
    return torch.zeros(steps, batch, 1, dtype=WIDE)


def linear_map(matrix) -> object:
    weight = torch.as_tensor(matrix, dtype=WIDE)
    return lambda x, s: s @ weight.t()


def given_matrices(size: int):
    """s_t = x_t s_{t-1}: the matrices are the inputs, [T, B, size * size]."""
    return lambda x, s: (x.view(len(s), size, size) @ s.unsqueeze(-1)).squeeze(-1)


def uniform(batch: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, size, generator=torch.Generator().manual_seed(seed), dtype=WIDE)


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values))


def test_logistic_map_at_4_has_ln_2():
    found = lyapunov_spectrum(lambda x, s: 4 * s * (1 - s), nothing(260, 400), uniform(400, 1), burn_in=60)
    mean, error = mean_and_error(found.exponents)
    assert error[0] < 1e-3
    assert abs(mean[0] - math.log(2)) < 4 * error[0]
    assert np.abs(found.log_det_residual).max() < 1e-12


def test_henon_map():
    def step(x, s):
        return torch.stack([1 - 1.4 * s[:, 0] ** 2 + s[:, 1], 0.3 * s[:, 0]], -1)

    found = lyapunov_spectrum(step, nothing(300, 400), 0.1 * uniform(400, 2), burn_in=60)
    mean, error = mean_and_error(found.exponents)
    assert error.max() < 2e-3
    assert np.abs(mean - [0.4192, -1.6232]).max() < 4 * error.max()
    np.testing.assert_allclose(found.exponents.sum(1), math.log(0.3), rtol=1e-12)
    assert np.abs(found.log_det_residual).max() < 1e-12
    assert found.kaplan_yorke_dimension.mean() == pytest.approx(1.258, abs=0.004)
    np.testing.assert_array_equal(found.entropy_rate, found.exponents[:, 0])
    partial = lyapunov_spectrum(step, nothing(300, 4), 0.1 * uniform(4, 2), n_exponents=1, burn_in=60)
    assert np.isnan(partial.kaplan_yorke_dimension).all()
    assert np.isnan(partial.entropy_rate).all()


@pytest.mark.parametrize(
    ("exponents", "complete", "dimension", "entropy"),
    [
        ([-0.1, -0.5], True, 0.0, 0.0),
        ([0.2, 0.1], True, 2.0, 0.3),
        ([0.2, 0.1], False, np.nan, np.nan),
        ([0.2, -0.1, -0.3], False, 2 + 0.1 / 0.3, 0.2),
        ([0.0, -0.5], True, 1.0, 0.0),
        ([0.3, -np.inf], True, 1.0, 0.3),
        ([np.nan, np.nan], True, np.nan, np.nan),
    ],
)
def test_dimension_and_entropy_of_a_spectrum(exponents, complete, dimension, entropy):
    given = np.array([exponents])
    np.testing.assert_allclose(kaplan_yorke(given, complete), [dimension])
    np.testing.assert_allclose(entropy_rate(given, complete), [entropy])


def test_cat_map():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=WIDE)
    found = lyapunov_spectrum(lambda x, s: (s @ matrix) % 1, nothing(120), uniform(1, 2), burn_in=30)
    exact = math.log((3 + math.sqrt(5)) / 2)
    np.testing.assert_allclose(found.exponents, [[exact, -exact]], rtol=1e-12)
    assert found.stderr.max() < 1e-12


def test_jordan_block_grows_before_it_decays():
    """J^k = 0.9^k [[1, k/0.9], [0, 1]]: the volume is exact, the leading exponent comes down to ln 0.9 like ln(k)/k."""
    block = [[0.9, 1.0], [0.0, 0.9]]
    found = lyapunov_spectrum(linear_map(block), nothing(400), torch.ones(1, 2, dtype=WIDE))
    np.testing.assert_allclose(found.exponents.sum(), 2 * math.log(0.9), rtol=1e-12)
    frame = frames.random_frame(linearize(linear_map(block), nothing(1), torch.ones(1, 2, dtype=WIDE)), 2)[0].numpy()
    power = 0.9**400 * np.array([[1, 400 / 0.9], [0, 1]])
    np.testing.assert_allclose(found.exponents[0, 0], math.log(np.linalg.norm(power @ frame[:, 0])) / 400, rtol=1e-12)
    assert found.exponents[0, 0] > math.log(0.9) + 0.01


def test_linear_network_has_the_logs_of_its_eigenvalues_moduli():
    torch.manual_seed(0)
    module = nn.RNN(2, 5, bias=False, dtype=WIDE)
    values = torch.tensor([1.4, -0.9, 0.5, 0.2, -0.03], dtype=WIDE)
    basis = torch.randn(5, 5, dtype=WIDE)
    module.weight_hh_l0.data = basis @ torch.diag(values) @ torch.linalg.inv(basis)
    inputs = torch.zeros(150, 1, 2, dtype=WIDE)  # the state stays at 0, where tanh is the identity
    found = lyapunov_spectrum(module, inputs, burn_in=90)
    np.testing.assert_allclose(found.exponents[0], values.abs().log(), rtol=1e-9, atol=1e-9)
    assert abs(found.log_det_residual[0]) < 1e-12


@pytest.mark.parametrize("size", [1, 3])
def test_independent_gaussian_matrices(size):
    """lambda_i = (ln 2 + psi((N - i + 1) / 2)) / 2 for standard normal entries (Newman 1986)."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(120, 300, size * size, generator=generator, dtype=WIDE)
    found = lyapunov_spectrum(given_matrices(size), inputs, uniform(300, size), burn_in=20)
    exact = (math.log(2) + digamma((size - np.arange(size)) / 2)) / 2
    mean, error = mean_and_error(found.exponents)
    assert error.max() < 0.01
    assert (np.abs(mean - exact) < 4 * error).all()
    # Each sequence's standard error against the spread over sequences.
    spread = found.exponents.std(0, ddof=1)
    np.testing.assert_allclose(np.sqrt((found.stderr**2).mean(0)), spread, rtol=0.15)


def test_the_order_of_the_product():
    """First a quarter turn, then a stretch; the other way round the leading direction is another one."""
    turn, stretch = (
        torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=WIDE),
        torch.diag(torch.tensor([8.0, 1.0], dtype=WIDE)),
    )
    matrices = torch.stack([stretch] * 20 + [turn] + [stretch] * 5).view(26, 1, 4)
    found = lyapunov_spectrum(given_matrices(2), matrices, torch.ones(1, 2, dtype=WIDE), burn_in=20)
    # The frame is the stretch's own by then; the turn gives its long direction to the short one, for five steps.
    np.testing.assert_allclose(found.exponents[0], [5 * math.log(8) / 6, 0], atol=1e-9)
    backwards = lyapunov_spectrum(given_matrices(2), matrices.flip(0), torch.ones(1, 2, dtype=WIDE), burn_in=20)
    np.testing.assert_allclose(backwards.exponents[0], [math.log(8), 0], atol=1e-9)


MODULES = {
    "tanh": lambda: nn.RNN(3, 6, dtype=WIDE),
    "deep tanh": lambda: nn.RNN(3, 4, num_layers=2, dtype=WIDE),
    "lstm": lambda: nn.LSTM(3, 5, dtype=WIDE),
    "projected lstm": lambda: nn.LSTM(3, 5, proj_size=2, num_layers=2, dtype=WIDE),
    "gru": lambda: nn.GRU(3, 6, dtype=WIDE),
    "gru cell": lambda: nn.GRUCell(3, 6, dtype=WIDE),
}


@pytest.mark.parametrize("name", MODULES)
def test_networks_against_explicit_jacobians(name):
    torch.manual_seed(2)
    module = MODULES[name]()
    for parameter in module.parameters():
        parameter.data *= 2.0
    inputs = torch.randn(60, 1, 3, dtype=WIDE)
    found = lyapunov_spectrum(module, inputs, burn_in=10)
    frame = frames.random_frame(linearize(module, inputs), found.exponents.shape[1])[0].numpy()
    wanted = naive_exponents(step_jacobians(module, inputs), frame, burn_in=10)
    np.testing.assert_allclose(found.exponents[0], np.sort(wanted)[::-1], rtol=1e-9, atol=1e-9)
    assert abs(found.log_det_residual[0]) < 1e-9


def test_the_certificate_sees_a_wrong_jacobian(monkeypatch):
    """With every pushforward 1 % too long it is off by N ln 1.01, whatever the trajectory."""
    torch.manual_seed(0)
    module, push = nn.LSTM(3, 4, dtype=WIDE), frames.push
    monkeypatch.setattr(frames, "push", lambda linear, t, frame: 1.01 * push(linear, t, frame))
    found = lyapunov_spectrum(module, torch.randn(30, 2, 3, dtype=WIDE))
    np.testing.assert_allclose(found.log_det_residual, 8 * math.log(1.01), rtol=1e-9)


def test_partial_spectrum_is_the_leading_part_of_the_full_one():
    torch.manual_seed(3)
    module = nn.GRU(3, 8, dtype=WIDE)
    inputs = torch.randn(80, 3, 3, dtype=WIDE)
    full = lyapunov_spectrum(module, inputs, burn_in=10)
    part = lyapunov_spectrum(module, inputs, n_exponents=3, burn_in=10)
    assert part.log_det_residual is None
    np.testing.assert_allclose(np.sort(part.exponents), np.sort(full.exponents[:, :3]), atol=5e-2)
    alone = lyapunov_spectrum(module, inputs[:, 1:2], burn_in=10)
    np.testing.assert_allclose(alone.exponents[0], full.exponents[1], rtol=1e-9)


def test_seldom_factorised_is_the_same_and_is_seldom_factorised(monkeypatch):
    torch.manual_seed(0)
    module = nn.RNN(1, 12, bias=False, dtype=WIDE)
    nn.init.orthogonal_(module.weight_hh_l0)
    inputs = 0.05 * torch.randn(160, 1, 1, dtype=WIDE)
    calls, factor = [], frames.factor
    monkeypatch.setattr(frames, "factor", lambda vectors, eps: calls.append(0) or factor(vectors, eps))
    seldom = lyapunov_spectrum(module, inputs)
    assert len(calls) < 60
    monkeypatch.setattr("rnnvg.bptt.spectrum.lyapunov.LONGEST_INTERVAL", 1)
    often = lyapunov_spectrum(module, inputs)
    np.testing.assert_allclose(seldom.exponents, often.exponents, rtol=1e-10, atol=1e-11)


def test_an_interval_that_was_too_long_is_taken_again():
    """Isometries let the interval grow to 16 steps; then the directions part by 1e5 a step and must be told apart.

    Rounding in a column of length 1 is eps beside an R_ii of 1, 1e-5 and 1e-10, times the three terms of a sum: so much is
    open in each step's logarithm, and no more in their mean. An interval that is kept has all three within 1e-16 of each
    other after two steps, and the last exponent would be wrong by whole nats.
    """
    generator = torch.Generator().manual_seed(0)
    turns = torch.linalg.qr(torch.randn(200, 3, 3, generator=generator, dtype=WIDE))[0]
    matrices = turns.contiguous().clone()
    matrices[100:] = turns[100:] @ torch.diag(torch.tensor([1.0, 1e-5, 1e-10], dtype=WIDE))
    found = lyapunov_spectrum(given_matrices(3), matrices.view(200, 1, 9), torch.ones(1, 3, dtype=WIDE))
    frame = frames.random_frame(
        linearize(given_matrices(3), matrices.view(200, 1, 9), torch.ones(1, 3, dtype=WIDE)), 3
    )[0].numpy()
    rounding = 3 * np.finfo(float).eps / np.array([1.0, 1e-5, 1e-10])
    assert (abs(found.exponents[0] - naive_exponents(matrices.numpy(), frame)) <= rounding).all()


def test_dead_units_are_exactly_minus_infinity():
    torch.manual_seed(0)
    module = nn.RNN(1, 6, nonlinearity="relu", dtype=WIDE)
    module.weight_hh_l0.data = torch.randn(6, 6, dtype=WIDE)
    module.weight_ih_l0.data.zero_()
    module.weight_hh_l0.data[:4] = module.weight_hh_l0.data[:4].abs() * 0.2
    module.bias_ih_l0.data = torch.tensor([1.0, 1.0, 1.0, 1.0, -1e6, -1e6], dtype=WIDE)
    found = lyapunov_spectrum(module, nothing(40, 2))
    assert np.isfinite(found.exponents[:, :4]).all()
    assert np.isneginf(found.exponents[:, 4:]).all()
    assert np.isnan(found.stderr[:, 4:]).all()
    assert found.log_det_residual.tolist() == [0, 0]


def test_a_matrix_of_low_rank_in_floating_point():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(5, 2, generator=generator, dtype=WIDE) for _ in range(2))
    found = lyapunov_spectrum(linear_map(left @ right.t()), nothing(60), torch.ones(1, 5, dtype=WIDE), burn_in=40)
    small = torch.linalg.eigvals(right.t() @ left).abs().log().sort(descending=True).values
    np.testing.assert_allclose(found.exponents[0, :2].sum(), small.sum(), rtol=1e-9)
    assert np.isneginf(found.exponents[0, 2:]).all()
    assert found.log_det_residual.tolist() == [0]


def test_slopes_of_very_different_size_in_one_jacobian():
    """tanh'(z) from 1 down to 4 exp(-80): ln |det J| = ln |det W| + sum ln tanh' exactly."""
    torch.manual_seed(0)
    module = nn.RNN(1, 5, dtype=WIDE)
    nn.init.orthogonal_(module.weight_hh_l0)
    z = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0], dtype=WIDE)
    module.bias_hh_l0.data.zero_()
    module.bias_ih_l0.data = z - module.weight_hh_l0.data @ torch.tanh(z)  # tanh(z) is the fixed point
    found = lyapunov_spectrum(module, nothing(30), torch.tanh(z).view(1, 1, 5))
    slopes = np.log(4) - 2 * z.numpy() - 2 * np.log1p(np.exp(-2 * z.numpy()))
    np.testing.assert_allclose(found.exponents.sum(), slopes.sum(), rtol=1e-9)
    assert abs(found.log_det_residual[0]) < 1e-9


def test_float32_modules_are_analysed_in_float64():
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, num_layers=2)
    inputs = torch.randn(30, 2, 3)
    narrow = lyapunov_spectrum(module, inputs)
    wide = lyapunov_spectrum(module.double(), inputs.double())
    np.testing.assert_array_equal(narrow.exponents, wide.exponents)
    assert np.abs(narrow.log_det_residual).max() < 1e-9


def test_diagonal_complex_recurrence():
    values = torch.tensor([0.9j, 0.5, -0.2 + 0.1j], dtype=torch.complex128)
    found = lyapunov_spectrum(Diagonal(), values.expand(80, 1, 3), burn_in=40)
    np.testing.assert_allclose(found.exponents[0], values.abs().log(), rtol=1e-9)
    assert abs(found.log_det_residual[0]) < 1e-12


def test_a_state_of_several_tensors():
    def step(x, state):
        h, c = state
        return 0.5 * h + c, 0.25 * c

    start = (torch.ones(1, 1, dtype=WIDE), torch.ones(1, 1, dtype=WIDE))
    found = lyapunov_spectrum(step, nothing(80), start, burn_in=50)
    np.testing.assert_allclose(found.exponents[0], [math.log(0.5), math.log(0.25)], rtol=1e-9)


def test_a_state_that_is_not_finite_is_nan_and_leaves_the_others_alone():
    def step(x, s):
        return x * s

    inputs = torch.ones(50, 2, 1, dtype=WIDE)
    inputs[:, 0] = 1e200
    found = lyapunov_spectrum(step, 1.0 * inputs, torch.ones(2, 1, dtype=WIDE))
    assert np.isnan(found.exponents[0]).all()
    assert math.isnan(found.log_det_residual[0])
    assert found.exponents[1].tolist() == [0]
    lost = lyapunov_spectrum(step, inputs[:, :1], torch.ones(1, 1, dtype=WIDE))
    assert str(lost) == "over 50 steps: no exponent, the state is not finite"


def test_few_steps_have_no_standard_error():
    found = lyapunov_spectrum(linear_map([[0.5]]), nothing(9), torch.ones(1, 1, dtype=WIDE))
    assert np.isnan(found.stderr).all()
    assert found.exponents.tolist() == [[pytest.approx(math.log(0.5), rel=1e-14)]]


def test_frame_figure_and_sentence():
    found = lyapunov_spectrum(
        linear_map([[2.0, 0.0], [0.0, 0.5]]), nothing(60, 2), torch.ones(2, 2, dtype=WIDE), burn_in=40
    )
    frame = found.to_frame()
    assert list(frame.columns) == ["sequence", "index", "exponent", "stderr", "half_life"]
    assert frame["sequence"].tolist() == [0, 0, 1, 1]
    assert frame["index"].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(frame["exponent"], np.tile([math.log(2), -math.log(2)], 2), rtol=1e-9)
    assert str(found) == (
        "over 20 steps: perturbations grow, +0.6931 nats a step at most, -0.6931 along direction 2 (means of 2 sequences)"
    )
    ax = found.plot()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found.exponents[0])
    assert ax.get_title().replace("\n", " ") == str(found)
    one = lyapunov_spectrum(linear_map([[0.5]]), nothing(3), torch.ones(1, 1, dtype=WIDE))
    assert str(one) == "over 3 steps: perturbations die, -0.6931 nats a step at most"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_exponents": 4}, "`n_exponents` must be a whole number from 1 to 3; got 4."),
        ({"n_exponents": 0}, "`n_exponents` must be a whole number from 1 to 3; got 0."),
        ({"n_exponents": 1.5}, "`n_exponents` must be a whole number from 1 to 3; got 1.5."),
        ({"burn_in": 10}, "`burn_in` is 10 and `inputs` has 10 steps; pass fewer."),
        ({"burn_in": -1}, "`burn_in` must be a whole number of at least 0; got -1."),
    ],
)
def test_misuse_is_said_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        lyapunov_spectrum(nn.GRU(2, 3), torch.zeros(10, 1, 2), **settings)


def test_a_map_that_is_not_square_is_refused():
    message = (
        "`recurrence` changes the state's shape at step 0: it was given [1, 2] and returned [1, 3]; return the same."
    )
    with pytest.raises(InputError, match=re.escape(message)):
        lyapunov_spectrum(lambda x, s: torch.ones(1, 3, dtype=WIDE), nothing(5), torch.ones(1, 2, dtype=WIDE))


def test_a_half_life_stands_beside_every_exponent():
    """At ln 2 a step below 0 a perturbation halves in a step; at 0 and above never, at -inf at once."""
    exponents = np.array([[0.3, 0.0, -math.log(2), -np.inf, np.nan]])
    found = LyapunovSpectrum(exponents, np.zeros_like(exponents), None, n_steps=10, burn_in=0)
    np.testing.assert_allclose(found.to_frame()["half_life"], [np.inf, np.inf, 1, 0, np.nan], rtol=1e-12)
