"""Singular values of Jacobian products: closed forms, mpmath, explicit products where those are exact enough."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.spectrum.singular import SingularValues, jacobian_singular_values, orthogonal_lengths
from rnnvg.errors import InputError
from tests.reference_causes import product_singular_values, step_jacobians

WIDE = torch.float64


def linear_map(matrix):
    weight = torch.as_tensor(matrix, dtype=WIDE)
    return lambda x, s: s @ weight.t()


def given_matrices(size: int):
    return lambda x, s: (x.view(len(s), size, size) @ s.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize(
    ("diagonal", "steps"), [(0.9, 300), (0.2, 700), pytest.param(0.2, 4300, marks=pytest.mark.acceptance)]
)
def test_power_of_a_jordan_block(diagonal, steps):
    """J^k = d^k [[1, a], [0, 1]] with a = k/d: singular values d^k exp(+-asinh(a/2)).

    0.2^700 is 10^-489, and 0.2^4300 is 10^-3005.
    """
    found = jacobian_singular_values(
        linear_map([[diagonal, 1.0], [0.0, diagonal]]),
        torch.zeros(steps, 1, 1, dtype=WIDE),
        torch.ones(1, 2, dtype=WIDE),
    )
    spread = math.asinh(steps / diagonal / 2)
    wanted = np.array([[spread, -spread]]) + steps * math.log(diagonal)
    np.testing.assert_allclose(found.log_values, wanted, rtol=0, atol=1e-9)


@given(
    size=st.integers(1, 9),
    batch=st.integers(1, 3),
    seed=st.integers(0, 10**6),
    zeros=st.integers(0, 2),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
)
@settings(max_examples=60, deadline=None)
def test_rotations_against_svd(size, batch, seed, zeros, dtype):
    matrices = torch.randn(batch, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    matrices[:, : min(zeros, size - 1)] = 0
    lengths = torch.linalg.vector_norm(matrices, dim=-1)
    units = matrices / torch.where(lengths == 0, 1.0, lengths).unsqueeze(-1)
    found = orthogonal_lengths(lengths.log(), units).exp().sort(descending=True).values
    wanted = torch.linalg.svdvals(matrices)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-13)


def test_rotations_of_rows_of_any_size():
    """Rows 10^0, 10^-1000, 10^-3000: each singular value is its row's part orthogonal to the larger ones."""
    rows = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [3.0, 0.0, 4.0]], dtype=WIDE)
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    log = torch.tensor([0.0, -1000.0, -3000.0], dtype=WIDE) * math.log(10)
    found = orthogonal_lengths((log + lengths.squeeze(-1).log()).unsqueeze(0), (rows / lengths).unsqueeze(0))[0]
    wanted = log + torch.tensor([math.sqrt(2), math.sqrt(0.5), 4.0], dtype=WIDE).log()
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-12)


def test_one_rotation_makes_two_rows_orthogonal(monkeypatch):
    monkeypatch.setattr("rnnvg.bptt.spectrum.singular.MOST_ROUNDS", 1)
    rows = torch.tensor([[[3.0, 4.0], [1.0, 0.5]]], dtype=WIDE)
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    found = orthogonal_lengths(lengths.squeeze(-1).log(), rows / lengths)[0].exp()
    torch.testing.assert_close(found, torch.linalg.svdvals(rows)[0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("steps", "digits"), [(1, 30), (4, 60), (60, 700)])
def test_networks_against_products_with_hundreds_of_digits(kind, steps, digits):
    torch.manual_seed(4)
    module = kind(2, 3, dtype=WIDE)
    inputs = torch.randn(steps, 1, 2, dtype=WIDE)
    found = jacobian_singular_values(module, inputs)
    wanted = product_singular_values(step_jacobians(module, inputs), digits)
    np.testing.assert_allclose(found.log_values[0], wanted, rtol=1e-10, atol=1e-9)


def test_a_product_of_ten_to_the_minus_thousands():
    """tanh saturated at z = 15 and 20: slopes 4 exp(-2z); with an orthogonal matrix between them, 120 steps."""
    torch.manual_seed(0)
    module = nn.RNN(1, 3, dtype=WIDE)
    nn.init.orthogonal_(module.weight_hh_l0)
    z = torch.tensor([15.0, 18.0, 20.0], dtype=WIDE)
    module.bias_hh_l0.data.zero_()
    module.bias_ih_l0.data = z - module.weight_hh_l0.data @ torch.tanh(z)
    inputs = torch.zeros(120, 1, 1, dtype=WIDE)
    found = jacobian_singular_values(module, inputs, torch.tanh(z).view(1, 1, 3))
    slopes = 4 * np.exp(-2 * z.numpy()) / (1 + np.exp(-2 * z.numpy())) ** 2
    jacobian = np.diag(slopes) @ module.weight_hh_l0.detach().numpy()
    wanted = product_singular_values(np.stack([jacobian] * 120), 2200)
    assert wanted[-1] / math.log(10) < -1700
    np.testing.assert_allclose(found.log_values[0], wanted, rtol=1e-12)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_logs_add_up_to_the_determinants(kind):
    torch.manual_seed(0)
    module = kind(2, 8, dtype=WIDE)
    inputs = torch.randn(100, 1, 2, dtype=WIDE)
    found = jacobian_singular_values(module, inputs)
    dets = [np.linalg.slogdet(jacobian)[1] for jacobian in step_jacobians(module, inputs)]
    np.testing.assert_allclose(found.log_values.sum(), np.sum(dets), rtol=1e-11)


def test_part_of_the_sequence_and_several_sequences():
    torch.manual_seed(0)
    module = nn.GRU(2, 4, num_layers=2, dtype=WIDE)
    inputs = torch.randn(12, 3, 2, dtype=WIDE)
    found = jacobian_singular_values(module, inputs, start=5, stop=9)
    linear = linearize(module, inputs)
    tangents = torch.eye(8, dtype=WIDE).unsqueeze(1).repeat(1, 3, 1)
    for t in range(5, 9):
        tangents = linear.pushforward(t, tangents)
    wanted = torch.linalg.svdvals(tangents.permute(1, 2, 0)).log()
    np.testing.assert_allclose(found.log_values, wanted, rtol=1e-9)
    assert (found.start, found.stop) == (5, 9)


def test_effective_rank():
    isometry = jacobian_singular_values(
        linear_map(np.eye(4)), torch.zeros(7, 2, 1, dtype=WIDE), torch.ones(2, 4, dtype=WIDE)
    )
    np.testing.assert_allclose(isometry.effective_rank, [4, 4], rtol=1e-12)
    known = SingularValues(np.log([[3.0, 1.0, 1e-300]]), 0, 1)
    np.testing.assert_allclose(
        known.effective_rank, math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), rtol=1e-9
    )
    assert SingularValues(np.array([[0.0, -np.inf]]), 0, 1).effective_rank.tolist() == [1]
    assert np.isnan(SingularValues(np.full((1, 2), -np.inf), 0, 1).effective_rank).all()


def test_rank_one_product_is_exactly_singular():
    projection = linear_map([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = jacobian_singular_values(projection, torch.zeros(30, 1, 1, dtype=WIDE), torch.ones(1, 3, dtype=WIDE))
    np.testing.assert_allclose(found.log_values, [[0, -np.inf, -np.inf]], atol=1e-12)


def test_nilpotent_product_is_an_exact_zero():
    shift = linear_map([[0.0, 1.0], [0.0, 0.0]])
    found = jacobian_singular_values(shift, torch.zeros(3, 1, 1, dtype=WIDE), torch.ones(1, 2, dtype=WIDE))
    assert np.isneginf(found.log_values).all()


def test_a_sequence_whose_state_is_not_finite_is_nan():
    inputs = torch.ones(10, 2, 4, dtype=WIDE)
    inputs[:, 0] = 1e200
    found = jacobian_singular_values(given_matrices(2), inputs, torch.ones(2, 2, dtype=WIDE))
    assert np.isnan(found.log_values[0]).all()
    assert found.log_values[1, 0] == pytest.approx(10 * math.log(2))


def test_frame_figure_and_sentence():
    stretch = linear_map([[2.0, 0.0], [0.0, 0.5]])
    found = jacobian_singular_values(stretch, torch.zeros(10, 1, 1, dtype=WIDE), torch.ones(1, 2, dtype=WIDE))
    assert list(found.to_frame().columns) == ["sequence", "index", "log_value"]
    np.testing.assert_allclose(found.to_frame()["log_value"], [10 * math.log(2), -10 * math.log(2)], rtol=1e-12)
    assert str(found) == "over 10 steps: singular values from 10^3.01 to 10^-3.01, effective rank 1 of 2"
    ax = found.plot()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.array([1, -1]) * 10 * math.log10(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 5, "stop": 5}, "`start` is 5 and `stop` 5; pass a start before the stop."),
        ({"stop": 11}, "`stop` must be a whole number from 1 to 10; got 11."),
        ({"start": -1}, "`start` must be a whole number from 0 to 9; got -1."),
    ],
)
def test_misuse_is_said_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        jacobian_singular_values(nn.GRU(2, 3), torch.zeros(10, 1, 2), **settings)
