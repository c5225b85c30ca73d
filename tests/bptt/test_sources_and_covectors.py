"""Which steps carry the loss, on sequences of every length, and the random covectors that stand in for a loss."""

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import gradient_profile
from rnnvg.bptt import Diagonal
from rnnvg.bptt.profile import gradient_profiles
from tests.reference import assert_same, log_norms


def gru(steps: int, batch: int):
    torch.manual_seed(0)
    return nn.GRU(2, 3, dtype=torch.float64), torch.randn(steps, batch, 2, dtype=torch.float64)


def observed(profile) -> list[list[int | None]]:
    """Per source and sequence the step it stands on, None where it has none: the last observed distance is step + 1."""
    seen = ~np.isnan(profile.log_norm)
    assert (seen == np.minimum.accumulate(seen, axis=1)).all()  # nothing is observed beyond the start
    return [[int(n) - 2 if n else None for n in row] for row in seen.sum(axis=1)]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("last", [9]),
        ("all", list(range(10))),
        (1, [9]),
        (2, [4, 9]),
        (3, [2, 6, 9]),  # 10/3, 20/3, 10
        (4, [1, 4, 7, 9]),  # 2.5 and 7.5 go to the even neighbour, 2 and 8
        (7, [0, 2, 3, 5, 6, 8, 9]),
        (10, list(range(10))),
        ([-1, 0, 4, -10], [9, 0, 4, 0]),  # in the order given, repeated where asked
    ],
)
def test_sources_of_a_full_sequence(sources, expected):
    module, inputs = gru(10, 2)
    profile = gradient_profile(module, inputs, sources=sources)
    np.testing.assert_array_equal(profile.sources, expected)
    np.testing.assert_array_equal(profile.distance, np.arange(max(expected) + 2))
    assert profile.log_norm.shape == (len(expected), max(expected) + 2, 2)
    assert observed(profile) == [[step, step] for step in expected]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("last", [[9, 6, 3]]),
        ([-2], [[8, 5, 2]]),
        ([3, -7], [[3, 3, 3], [3, 0, None]]),
        (2, [[4, 3, 1], [9, 6, 3]]),  # of 7: 3.5 goes to 4
        (4, [[1, 1, 0], [4, 3, 1], [7, 4, 2], [9, 6, 3]]),  # of 7: 1.75, 3.5, 5.25, 7
        ([4, 6, 7], [[4, 4, None], [6, 6, None], [7, None, None]]),  # absolute: nan at or beyond the length
        ("all", [[s, s if s < 7 else None, s if s < 4 else None] for s in range(10)]),
    ],
)
def test_sources_of_shorter_sequences(sources, expected):
    module, inputs = gru(10, 3)
    assert observed(gradient_profile(module, inputs, sources=sources, lengths=[10, 7, 4])) == expected


def test_sources_are_those_of_full_length_even_where_no_sequence_has_it():
    module, inputs = gru(10, 2)
    profile = gradient_profile(module, inputs, sources=2, lengths=[4, 6])
    np.testing.assert_array_equal(profile.sources, [4, 9])
    assert profile.log_norm.shape == (2, 11, 2)
    assert observed(profile) == [[1, 2], [3, 5]]


def test_more_sources_than_a_sequence_has_steps():
    """round((i+1) L/n) - 1 on each sequence's own length: for n = 3, L = 2 that is 0, 0, 1."""
    module, inputs = gru(3, 2)
    assert observed(gradient_profile(module, inputs, sources=3, lengths=[3, 2])) == [[0, 0], [1, 0], [2, 1]]


def test_one_step_sequences():
    module, inputs = gru(1, 2)
    assert observed(gradient_profile(module, inputs)) == [[0, 0]]
    assert np.isnan(gradient_profile(module, inputs, wrt="input").log_norm[:, 1]).all()


def test_a_loss_beyond_the_length_is_not_read():
    module, inputs = gru(6, 2)
    grad = torch.randn(6, 2, 3, dtype=torch.float64)
    spoiled = grad.clone()
    spoiled[4:, 1] = float("nan")
    asked = {"sources": "all", "lengths": [6, 4]}
    found = gradient_profile(module, inputs, output_grad=spoiled, **asked).log_norm
    assert_same(found, log_norms(module, inputs, output_grad=grad, **asked))


# random covectors -------------------------------------------------------------------------------------------------------


def test_random_covectors_are_units():
    module, inputs = gru(8, 5)
    np.testing.assert_allclose(gradient_profile(module, inputs, sources=[3, 7]).log_norm[:, 0], 0, atol=1e-12)
    single = gradient_profile(module.float(), inputs.float()).log_norm
    np.testing.assert_allclose(single[:, 0], 0, atol=1e-6)


def test_without_a_generator_the_answer_is_the_same_twice():
    module, inputs = gru(8, 5)
    first = gradient_profile(module, inputs, sources=3).log_norm
    torch.manual_seed(99)
    np.testing.assert_array_equal(gradient_profile(module, inputs, sources=3).log_norm, first)
    seeded = gradient_profile(module, inputs, sources=3, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(seeded.log_norm, first)


def test_a_generator_is_drawn_from():
    module, inputs = gru(8, 5)
    generator = torch.Generator().manual_seed(5)
    first = gradient_profile(module, inputs, generator=generator).log_norm
    second = gradient_profile(module, inputs, generator=generator).log_norm
    again = gradient_profile(module, inputs, generator=torch.Generator().manual_seed(5)).log_norm
    np.testing.assert_array_equal(again, first)
    assert (np.abs(second[0, 1:] - first[0, 1:]) > 1e-9).all()


def squares_of_covectors(n_sources: int, batch: int, width: int) -> np.ndarray:
    """The covectors' squared coordinates [S, B, N], read from how a diagonal recurrence lets each decay at its own rate."""
    decay = torch.linspace(0.2, 1, width, dtype=torch.float64)
    profile = gradient_profile(Diagonal(), decay.expand(width + n_sources, batch, width), sources=n_sources)
    norms = np.exp(2 * profile.log_norm[:, :width])  # sum_j g_j^2 decay_j^(2k)
    powers = decay.numpy() ** (2 * np.arange(width)[:, None])
    return np.linalg.solve(powers, norms).transpose(0, 2, 1)


def test_random_covectors_are_uniform_on_the_sphere():
    squares = squares_of_covectors(1, 4000, 3)[0]
    np.testing.assert_allclose(squares.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(squares.mean(axis=0), 1 / 3, atol=0.02)
    np.testing.assert_allclose((squares**2).mean(axis=0), 3 / (3 * 5), atol=0.02)  # E g^4 = 3 / (N (N + 2))


def test_random_covectors_have_both_signs():
    """J^T g = (g_1, g_1 + g_2): its squared norm has the cross term 2 g_1 g_2, which is 0 on average."""
    jordan = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    inputs, state = torch.zeros(2, 4000, 1, dtype=torch.float64), torch.zeros(4000, 2, dtype=torch.float64)
    norm = gradient_profile(lambda x, h: h @ jordan.T, inputs, state).log_norm[0, 1]
    assert np.exp(2 * norm).mean() == pytest.approx(1.5, abs=0.04)
    assert np.exp(2 * norm).min() < 0.5  # only opposite signs come below 1


def test_every_source_and_sequence_has_a_covector_of_its_own():
    squares = squares_of_covectors(2, 2000, 3)
    assert len({round(value, 9) for value in squares[..., 0].ravel()}) == 4000
    assert abs(np.corrcoef(squares[0, :, 0], squares[1, :, 0])[0, 1]) < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("module", [nn.LSTM, nn.GRU, nn.RNN])
def test_lengths_alone_are_those_of_the_vectors(module: type[nn.RNNBase], dtype: torch.dtype) -> None:
    """The state's norm alone is read off the scales where it can be; beside the input's it comes from the same adjoints'
    vectors. One sequence begins late, one dies at a step, one never lives."""
    torch.manual_seed(0)
    recurrence, inputs = module(2, 3).to(dtype), torch.randn(300, 4, 2, dtype=dtype)
    output_grad = torch.randn(300, 4, 3, dtype=dtype)
    output_grad[:, 3] = 0
    if module is nn.RNN:
        recurrence.nonlinearity = "relu"
        inputs[100, 1] = -1e3 * recurrence.weight_ih_l0.detach().sum(0).sign()
    asked = {"sources": [280, 299], "lengths": [300, 300, 281, 300], "output_grad": output_grad}
    alone = gradient_profile(recurrence, inputs, **asked).log_norm
    beside = gradient_profiles(recurrence, inputs, None, ["state", "input"], **asked)[0].log_norm
    np.testing.assert_allclose(alone, beside, rtol=1e-6 if dtype == torch.float32 else 1e-13)
    assert np.isneginf(alone[:, :, 3]).any()
