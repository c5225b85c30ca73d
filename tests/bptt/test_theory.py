"""Mean field and wide limits against integration, closed forms of random matrices, and simulated wide networks."""

import itertools
import math
import re

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from rnnvg.bptt import gaussian, gradient_profile, theory
from rnnvg.bptt.cells import gru, lstm
from rnnvg.bptt.theory import prediction
from rnnvg.errors import InputError

SIGMA = 1 / math.sqrt(3)


def exact_mean(function, variance):
    """E f(sqrt(variance) z) by adaptive integration over pieces."""
    root, edges = math.sqrt(variance), [-14, -6, -2, -0.5, 0, 0.5, 2, 6, 14]
    pieces = [
        quad(lambda z: function(root * z) * math.exp(-z * z / 2), low, high, epsabs=1e-14, epsrel=1e-13)[0]
        for low, high in itertools.pairwise(edges)
    ]
    return sum(pieces) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("mean", [0.0, 1.5, -5.0, 30.0])
@pytest.mark.parametrize("variance", [0.0, 1e-6, 0.1, 1.0, 6.0, 25.0, 1e4, 1e8])
def test_quadrature_is_good_to_its_error_bound(variance, mean):
    """Against 30 digits. The bound is of rounding: n units for a sum of n terms in whatever order a machine adds them.

    What a mean 30 away leaves of a slope is e^-30 and less, and only absolutely right.
    """
    root, bound = mp.sqrt(mp.mpf(variance)), gaussian.quadrature_error(variance)
    for narrow, wide in (
        (gaussian.square(np.tanh), lambda z: mp.tanh(z) ** 2),
        (gaussian.square(gaussian.tanh_slope), lambda z: mp.sech(z) ** 4),
        (gaussian.sigmoid, lambda z: 1 / (1 + mp.exp(-z))),
        (gaussian.square(gaussian.sigmoid_slope), lambda z: (mp.sech(z / 2) ** 2 / 4) ** 2),
    ):
        with mp.workdps(30):
            step = [-mean / root + k / max(1, root) for k in (-30, -8, -2, 0, 2, 8, 30)] if root else []
            pieces = sorted([-12, -5, 0, 5, 12, *(z for z in step if abs(z) < 12)])
            exact = mp.quad(lambda z, f=wide: f(mean + root * z) * mp.exp(-z * z / 2), pieces) / mp.sqrt(2 * mp.pi)
        found = gaussian.gaussian_mean(narrow, variance, mean)
        assert abs(found - exact) <= bound * max(exact, 1e-9 if abs(mean) > 9 else 0)


@pytest.mark.parametrize("variance", [1e-6, 0.1, 1.0, 6.0, 25.0])
def test_quadrature(variance):
    squared = gaussian.gaussian_mean(gaussian.square(np.tanh), variance)
    assert squared == pytest.approx(exact_mean(lambda z: math.tanh(z) ** 2, variance), rel=1e-9)
    slope = gaussian.gaussian_mean(gaussian.square(gaussian.tanh_slope), variance)
    assert slope == pytest.approx(exact_mean(lambda z: math.cosh(z) ** -4, variance), rel=1e-7)
    shifted = gaussian.gaussian_mean(gaussian.sigmoid, variance, 1.5)
    assert shifted == pytest.approx(exact_mean(lambda z: 1 / (1 + math.exp(-z - 1.5)), variance), rel=1e-9)
    gate = gaussian.gaussian_mean(gaussian.sigmoid_slope, variance)
    assert gate == pytest.approx(exact_mean(lambda z: math.cosh(z / 2) ** -2 / 4, variance), rel=1e-9)


@pytest.mark.parametrize(("sigma_w", "input_variance"), [(0.5, 0.2), (1.0, 1.0), (1.001, 0.0), (2.0, 0.0), (5.0, 0.3)])
def test_mean_field_is_its_own_fixed_point(sigma_w, input_variance):
    found = theory.mean_field(sigma_w, input_variance)
    again = sigma_w**2 * exact_mean(lambda z: math.tanh(z) ** 2, found.q) + input_variance
    assert found.q == pytest.approx(again, rel=1e-9)
    assert found.q > 0
    assert found.chi == pytest.approx(sigma_w**2 * exact_mean(lambda z: math.cosh(z) ** -4, found.q), rel=1e-8)
    assert found.rate == pytest.approx(math.log(found.chi) / 2)


@pytest.mark.parametrize("sigma_w", [0.3, SIGMA, 1.0])
def test_without_inputs_below_the_edge_nothing_moves(sigma_w):
    found = theory.mean_field(sigma_w)
    assert found.q == 0
    assert found.chi == pytest.approx(sigma_w**2, rel=1e-12)
    assert found.warning is None
    assert found.side == ("below the edge" if sigma_w < 1 else "at the edge")
    assert str(found).endswith(", at the edge") == (sigma_w == 1)


def test_a_verdict_at_the_edge_has_room_for_rounding():
    """Above sigma_w = 1 without inputs chi - 1 is of second order: 1e-9 past it no digit of chi says so."""
    assert theory.mean_field(1 + 1e-9).side == "at the edge"
    for sigma_w, side in ((1 + 1e-4, "past the edge"), (1 - 1e-9, "below the edge")):
        assert theory.mean_field(sigma_w).side == side
    past = theory.mean_field(1 + 1e-4)
    assert f"(chi = 1 + {past.chi - 1:.2g} > 1)" in past.warning
    for s0 in (1e-6, 0.1, 50.0):
        found = theory.mean_field(theory.critical_sigma_w(s0), s0)
        assert 0 < found.chi_error < 1e-9
        assert abs(found.chi - 1) < 1e-9


@pytest.mark.parametrize("cell", ["rnn", "rnn-relu", "lstm", "gru"])
def test_every_cell_has_an_edge_with_room_for_rounding(cell):
    """A spectral radius at zero of 1 exactly, a hair to both sides of it and 1e-6 to both."""

    def predict(change):
        given = {"rnn": {"sigma_w": 1.0}, "rnn-relu": {"sigma_w": math.sqrt(2)}}.get(cell, {"sigma_w": 1 / 3})
        if cell == "lstm":  # sigmoid(b) = 1 - sigma_w / 4
            given["forget_bias"] = math.log((1 - 1 / 12) / (1 / 12))
        if cell == "gru":  # z + (1 - z) sigma_w / 2 is 1 at sigma_w = 2, whatever z
            given["sigma_w"] = 2.0
        given["sigma_w"] *= 1 + change
        return theory.predict(cell, hidden=64, input_size=1, input_variance=0.0, bias=False, **given)

    for change in (0.0, 2e-16, -2e-16):
        found = predict(change)
        assert found.side == "at the edge"
        assert found.warning is None
        assert ", at the edge" in str(found)
    assert predict(-1e-6).side == "below the edge"
    past = predict(1e-3)
    assert past.side == "past the edge"
    assert "past the edge" in past.warning


def test_a_bias_set_in_float32_is_at_the_edge_to_its_own_digits():
    module = nn.LSTM(2, 64)
    with torch.no_grad():
        module.bias_hh_l0.zero_()
        module.bias_ih_l0[64:128] = math.log((1 - SIGMA / 4) / (SIGMA / 4))
    found = theory.predict_for(module, torch.zeros(5, 1, 2))
    assert found.side == "at the edge"
    assert found.warning is None


def test_just_above_the_edge_the_state_is_small():
    """q = (sigma_w^2 - 1) / (2 sigma_w^2) to first order, from tanh^2 z = z^2 - 2 z^4 / 3 and E z^4 = 3 q^2."""
    epsilon = 1e-4
    found = theory.mean_field(math.sqrt(1 + epsilon))
    assert found.q == pytest.approx(epsilon / 2, rel=1e-3)


def test_critical_line():
    assert theory.critical_sigma_w() == 1
    lines = [theory.critical_sigma_w(s0) for s0 in (0.0, 1e-4, 0.01, 0.1, 1.0, 4.0)]
    assert lines == sorted(lines)
    for s0, sigma in zip((1e-4, 0.01, 0.1, 1.0, 4.0), lines[1:], strict=True):
        assert theory.mean_field(sigma, s0).chi == pytest.approx(1, abs=1e-9)
        assert theory.mean_field(sigma * 1.01, s0).chi > 1


def test_past_the_edge_is_said():
    found = theory.mean_field(1.5, 0.0)
    assert found.chi > 1
    assert found.warning == (
        f"sigma_w = 1.5 is past the edge (chi = {found.chi:.4g} > 1), so gradients grow; the edge is at 1."
    )
    assert str(found) == f"q = {found.q:.4g}, chi = {found.chi:.4g}: {found.rate:+.4g} nats a step"


def powers(carry: float, field: float, steps: int) -> np.ndarray:
    """ln sqrt(E ||(carry + W)^k v||^2), W random with entries of variance field^2 / N: sum_j C(k,j)^2 ..., k = 0..steps."""
    rows = []
    for k in range(steps + 1):
        terms = [
            2 * (math.lgamma(k + 1) - math.lgamma(j + 1) - math.lgamma(k - j + 1))
            + 2 * (k - j) * math.log(carry)
            + 2 * j * math.log(field)
            for j in range(k + 1)
        ]
        rows.append(np.logaddexp.reduce(terms) / 2)
    return np.array(rows)


@pytest.mark.parametrize("update_bias", [0.0, 1.0, -1.0])
def test_wide_gru_at_the_zero_state_is_powers_of_one_random_matrix(update_bias):
    """h' = z h + (1 - z) W h / 2: the same W at every step, so the rate tends to ln(z + (1 - z) sigma / 2)."""
    found = theory.predict("gru", hidden=10**12, input_size=1, forget_bias=update_bias, steps=300)
    z = 1 / (1 + math.exp(-update_bias))
    wanted = powers(z, (1 - z) * SIGMA / 2, 300)
    np.testing.assert_allclose(found.log_gain[1:], wanted[1:] - wanted[1], rtol=1e-7, atol=1e-7)
    assert found.edge == pytest.approx(z + (1 - z) * SIGMA / 2)
    assert found.log_gain[300] - found.log_gain[299] == pytest.approx(math.log(found.edge), abs=2e-3)


@pytest.mark.parametrize("forget_bias", [0.0, 1.0])
def test_wide_lstm_at_the_zero_state(forget_bias):
    """One step back dL/dc = f y and dL/dh = W^T y / 2 with y = dL/dc + dL/dh / 2, so y is multiplied by f + W^T / 4."""
    found = theory.predict("lstm", hidden=10**12, input_size=1, forget_bias=forget_bias, steps=200)
    f = 1 / (1 + math.exp(-forget_bias))
    y = powers(f, SIGMA / 4, 200)  # relative to y_0
    norms = 0.5 * np.log(np.exp(2 * y[:-1]) * (f**2 + (SIGMA / 2) ** 2))  # ||dc||^2 + ||dh||^2 one step further
    np.testing.assert_allclose(found.log_gain[1:], norms - norms[0], rtol=1e-7, atol=1e-7)
    assert found.edge == pytest.approx(f + SIGMA / 4)


def test_wide_rnn_loses_a_factor_of_root_three_a_step():
    found = theory.predict("rnn", hidden=10**12, input_size=1, steps=20)
    np.testing.assert_allclose(found.log_gain[1:], -np.arange(20) * math.log(3) / 2, rtol=1e-9)
    assert math.isnan(found.log_gain[0])
    assert (
        theory.predict("rnn", hidden=10**12, input_size=1, bias=False).q
        < theory.predict("rnn", hidden=10**12, input_size=1).q
    )
    relu = theory.predict("rnn-relu", hidden=64, input_size=1, steps=20)
    np.testing.assert_allclose(relu.log_gain[1:], -np.arange(20) * math.log(6) / 2, rtol=1e-12)


def test_norms_start_at_the_output_alone():
    """A covector on h reaches c through o tanh'(0) = 1/2: one step back ||dc|| = f / 2 and ||dh|| = sigma / 4."""
    moments = lstm.moments(SIGMA, 0.0, 0.0, 0.0)
    first = prediction.log_norms(moments, SIGMA, 2)[0]
    assert first == pytest.approx(math.log(math.hypot(0.5 / 2, SIGMA / 4)), rel=1e-9)
    second = prediction.log_norms(gru.moments(SIGMA, 0.0, 0.0, 0.0), SIGMA, 2)[0]
    assert second == pytest.approx(math.log(math.hypot(0.5, SIGMA / 4)), rel=1e-9)


def sampled(n: int, *variances_and_means: tuple[float, float]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(n, generator=generator, dtype=torch.float64) for _ in variances_and_means]
    return [
        (mean + math.sqrt(variance) * z).requires_grad_()
        for z, (variance, mean) in zip(drawn, variances_and_means, strict=True)
    ]


def test_moments_of_an_lstm_by_sampling_its_equations():
    sigma, inputs, bias, forget_bias = 1.0, 1.0, 0.5, 0.7
    found = lstm.moments(sigma, inputs, bias, forget_bias)
    assert found.q == pytest.approx(sigma**2 * found.state + inputs + bias, rel=1e-9)
    # E c^2 is a fixed point of c' = f c + i g; found by following the sampled equation.
    i, f, g, o = sampled(10**6, *[(found.q, mean) for mean in (0.0, forget_bias, 0.0, 0.0)])
    kept, added = torch.sigmoid(f).square().mean(), (torch.sigmoid(i) * torch.tanh(g)).square().mean()
    cell_square = float((added / (1 - kept)).detach())
    (c,) = sampled(10**6, (cell_square, 0.0))
    c = c.detach()[torch.randperm(10**6, generator=torch.Generator().manual_seed(1))].requires_grad_()
    after = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    to_i, to_f, to_g, to_c = torch.autograd.grad(after.sum(), (i, f, g, c))
    hidden = torch.sigmoid(o) * torch.tanh(c)
    to_o, to_cell = torch.autograd.grad(hidden.sum(), (o, c))
    wanted = {
        "state": hidden.detach().square().mean(),
        "carry": to_c.mean(),
        "carry_square": to_c.square().mean(),
        "candidate": to_g.mean(),
        "carry_candidate": (to_c * to_g).mean(),
        "all_factors": (to_i.square() + to_f.square() + to_g.square()).mean(),
        "slope": to_cell.mean(),
        "slope_square": to_cell.square().mean(),
        "output_path": to_o.square().mean(),
    }
    for name, value in wanted.items():
        assert getattr(found, name) == pytest.approx(float(value), rel=0.01), name


def test_moments_of_a_gru_by_sampling_its_equations():
    sigma, inputs, bias, update_bias = 1.0, 1.0, 1.0, 0.5
    found = gru.moments(sigma, inputs, bias, update_bias)
    assert found.q == pytest.approx(sigma**2 * found.state + inputs + bias, rel=1e-9)
    from_h = sigma**2 * found.state + bias / 2
    r, z, x, hn, h = sampled(
        10**6, (found.q, 0.0), (found.q, update_bias), (inputs + bias / 2, 0.0), (from_h, 0.0), (found.state, 0.0)
    )
    after = torch.sigmoid(-z) * torch.tanh(x + torch.sigmoid(r) * hn) + torch.sigmoid(z) * h
    to_r, to_z, to_hn, to_h = torch.autograd.grad(after.sum(), (r, z, hn, h))
    wanted = {
        "state": after.detach().square().mean(),
        "carry": to_h.mean(),
        "carry_square": to_h.square().mean(),
        "candidate": to_hn.mean(),
        "carry_candidate": (to_h * to_hn).mean(),
        "all_factors": (to_r.square() + to_z.square() + to_hn.square()).mean(),
    }
    for name, value in wanted.items():
        assert getattr(found, name) == pytest.approx(float(value), rel=0.01), name
    assert (found.slope, found.slope_square, found.output_path) == (1, 1, 0)


CELLS = {
    "rnn": nn.RNN,
    "rnn-relu": lambda *sizes: nn.RNN(*sizes, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


@pytest.mark.parametrize(
    ("cell", "input_size", "forget_bias"),
    [
        ("rnn", 2, 0.0),
        ("rnn", 384, 0.0),
        ("rnn-relu", 384, 0.0),
        ("lstm", 2, 0.0),
        ("lstm", 384, 0.0),
        ("lstm", 2, 1.0),
        ("lstm", 384, 1.0),
        ("gru", 2, 0.0),
        ("gru", 384, 0.0),
        ("gru", 2, 1.0),
    ],
)
def test_simulated_wide_networks(cell, input_size, forget_bias):
    """Five networks of 512 units: the rate within four standard errors plus 1 % (finite width, gates not quite white)."""
    hidden, steps, profiles = 512, 40, []
    for seed in range(5):
        torch.manual_seed(seed)
        module = CELLS[cell](input_size, hidden)
        if forget_bias:
            module.bias_ih_l0.data[hidden : 2 * hidden] += forget_bias
        inputs = torch.randn(steps + 30, 4, input_size)  # thirty steps bring the state to rest
        profiles.append(gradient_profile(module, inputs))
    prediction = theory.predict(cell, hidden=hidden, input_size=input_size, forget_bias=forget_bias, steps=steps)
    found = theory.overlay(profiles, prediction)
    assert prediction.warning is None
    assert found.rate_stderr < 0.006
    assert abs(found.rate - found.predicted_rate) < 4 * found.rate_stderr + 0.01 * abs(found.predicted_rate)


def test_inputs_make_the_prediction_another_one():
    """With inputs of the state's own size the tied zero-state formula would be off by many standard errors."""
    quiet = theory.predict("lstm", hidden=512, input_size=2)
    driven = theory.predict("lstm", hidden=512, input_size=384)
    assert driven.rate < quiet.rate - 0.04
    assert driven.q > 0.2 > 0.01 > quiet.q


def test_both_forget_biases_at_one_are_past_the_edge():
    edge = math.log((1 - SIGMA / 4) / (SIGMA / 4))  # sigmoid(b) + sigma_w / 4 = 1
    assert theory.predict("lstm", hidden=512, input_size=2, forget_bias=edge - 0.01).warning is None
    found = theory.predict("lstm", hidden=512, input_size=2, forget_bias=2.0)
    assert found.edge == pytest.approx(1 / (1 + math.exp(-2.0)) + SIGMA / 4)
    assert found.warning == (
        "a forget bias of 2, the sum of both bias vectors, is past the edge (1.025 > 1 a step at the zero state, which is "
        "unstable); keep it below 1.78."
    )
    assert str(found).endswith(f"({found.warning})")
    module = nn.LSTM(2, 256)
    module.bias_ih_l0.data[256:512] = 1.0
    module.bias_hh_l0.data[256:512] = 1.0
    assert "past the edge" in theory.predict_for(module, torch.randn(20, 4, 2)).warning


def test_prediction_for_a_module():
    torch.manual_seed(0)
    module = nn.GRU(3, 300, batch_first=True)
    inputs = 2.0 * torch.randn(8, 50, 3)
    found = theory.predict_for(module, inputs, steps=30)
    size = float(inputs.double().square().mean())
    bias = float((module.bias_ih_l0 + module.bias_hh_l0).detach()[300:600].double().mean())
    same = theory.predict("gru", hidden=300, input_size=3, input_variance=size, forget_bias=bias, steps=30)
    np.testing.assert_array_equal(found.log_gain, same.log_gain)
    assert found.warning is None
    relu = theory.predict_for(nn.RNN(3, 16, nonlinearity="relu", bias=False), torch.randn(9, 2, 3))
    assert relu.cell == "rnn-relu"
    module.weight_hh_l0.data *= 2
    other = theory.predict_for(module, inputs)
    assert other.warning == "the recurrent weights are 2 times as large as PyTorch's default, which the theory assumes."


def test_overlay_frames_figures_and_sentences():
    torch.manual_seed(0)
    profiles = [gradient_profile(nn.GRU(2, 32), torch.randn(20, 3, 2)) for _ in range(3)]
    prediction = theory.predict("gru", hidden=32, input_size=2, steps=15)
    found = theory.overlay(profiles, prediction)
    assert found.distance.tolist() == list(range(2, 16))
    rows = np.stack([profile.log_gain()[0].mean(1)[2:16] for profile in profiles])
    np.testing.assert_allclose(found.measured, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.stderr, rows.std(0, ddof=1) / math.sqrt(3), rtol=1e-12)
    np.testing.assert_allclose(found.z, (found.measured - prediction.log_gain[2:16]) / found.stderr, rtol=1e-12)
    assert found.rate_z == pytest.approx((found.rate - found.predicted_rate) / found.rate_stderr)
    assert found.predicted_rate == pytest.approx(prediction.rate)
    assert str(found) == (
        f"{found.rate:+.4f} +- {found.rate_stderr:.4f} nats a step measured, {found.predicted_rate:+.4f} predicted: "
        f"z = {found.rate_z:+.1f}"
    )
    assert list(found.to_frame().columns) == ["distance", "measured", "stderr", "predicted", "z"]
    ax = found.plot()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found.measured / math.log(10))
    np.testing.assert_allclose(ax.lines[1].get_ydata(), found.predicted / math.log(10))
    assert list(prediction.to_frame().columns) == ["distance", "log_gain", "log10_gain"]
    drawn = prediction.plot(ax)
    assert drawn is ax
    assert str(prediction) == f"wide gru: {prediction.rate:+.4g} nats a step over 15 steps"


def misuse():
    profile = gradient_profile(nn.RNN(1, 2), torch.ones(5, 1, 1))
    prediction = theory.predict("rnn", hidden=8, input_size=1)
    return {
        "`sigma_w` must be a finite number above 0; got 0. PyTorch's default initialisation has 1/sqrt(3) = 0.577.": (
            lambda: theory.mean_field(0.0)
        ),
        "`sigma_w` must be a finite number above 0; got -1. PyTorch's default initialisation has 1/sqrt(3) = 0.577.": (
            lambda: theory.predict("rnn", hidden=8, input_size=1, sigma_w=-1.0)
        ),
        "`input_variance` is a variance, at least 0; got -0.5.": lambda: theory.critical_sigma_w(-0.5),
        "`cell` has no 'lsmt'. Did you mean 'lstm'? Pass one of: rnn, rnn-relu, lstm, gru.": (
            lambda: theory.predict("lsmt", hidden=8, input_size=1)
        ),
        "`hidden` must be a whole number of at least 1; got 0.": lambda: theory.predict("rnn", hidden=0, input_size=1),
        "`steps` must be a whole number of at least 2; got 1.": (
            lambda: theory.predict("rnn", hidden=8, input_size=1, steps=1)
        ),
        "`forget_bias` is 1 and a rnn has no such gate; pass 0, or an lstm or gru.": (
            lambda: theory.predict("rnn", hidden=8, input_size=1, forget_bias=1.0)
        ),
        "`module` is a Linear; pass an nn.RNN, nn.LSTM or nn.GRU.": (
            lambda: theory.predict_for(nn.Linear(1, 1), torch.ones(3, 1, 1))
        ),
        "`module` has 2 layers and proj_size 0; the theory is for one layer without a projection: pass such a module.": (
            lambda: theory.predict_for(nn.GRU(1, 4, num_layers=2), torch.ones(3, 1, 1))
        ),
        "`profiles` holds 1 network; a standard error needs at least 2, initialised independently. With one, compare its "
        "curve() with prediction.to_frame().": lambda: theory.overlay([profile], prediction),
        "`profiles` and `prediction` have 1 distances from 2 on in common; pass profiles of longer sequences.": (
            lambda: theory.overlay([gradient_profile(nn.RNN(1, 2), torch.ones(2, 1, 1))] * 2, prediction)
        ),
    }


@pytest.mark.parametrize("message", list(misuse()))
def test_misuse_is_said_in_one_sentence(message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        misuse()[message]()
