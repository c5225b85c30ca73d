"""temporal_contributions against autograd with weights of their own at every step, and closed forms far below float64."""

import dataclasses
import math
import re
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rnnvg
from rnnvg import gradient_profile
from rnnvg.bptt import temporal_contributions
from rnnvg.bptt.certificate import Certificate
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.why.contributions import contributions_of
from rnnvg.errors import InputError
from tests.reference_causes import per_step_gradients

CASES = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "no bias": (nn.RNN, {"bias": False}),
    "lstm": (nn.LSTM, {}),
    "projected lstm": (nn.LSTM, {"proj_size": 3}),
    "gru": (nn.GRU, {}),
    "gru without bias": (nn.GRU, {"bias": False}),
}


def chain(weight: float) -> nn.RNN:
    """h' = relu(weight h + x), one unit."""
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False, dtype=torch.float64)
    nn.init.constant_(module.weight_hh_l0, weight)
    nn.init.ones_(module.weight_ih_l0)
    return module


def last_only(n_steps: int) -> torch.Tensor:
    grad = torch.zeros(n_steps, 1, 1, dtype=torch.float64)
    grad[-1] = 1
    return grad


@pytest.mark.parametrize("case", CASES)
@given(
    layers=st.integers(1, 3),
    steps=st.integers(1, 6),
    batch=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    sparse=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_every_step_against_weights_of_its_own(case, layers, steps, batch, seed, sparse):
    kind, keywords = CASES[case]
    torch.manual_seed(seed)
    module = kind(3, 5, num_layers=layers, dtype=torch.float64, **keywords)
    inputs = torch.randn(steps, batch, 3, dtype=torch.float64)
    output_grad = torch.randn(steps, batch, module.weight_hh_l0.shape[1], dtype=torch.float64)
    if sparse:
        output_grad *= torch.rand(steps, batch, 1) < 0.4
    found = temporal_contributions(module, inputs, output_grad=output_grad)
    wanted = per_step_gradients(module, inputs, output_grad)
    assert found.names == [name for name, _ in module.named_parameters()]
    for name, gradients in wanted.items():
        rows = gradients.flatten(1)
        norms = rows.norm(dim=1)
        np.testing.assert_allclose(np.exp(found.log_norm[name]), norms.numpy(), rtol=1e-9)
        total = rows.sum(0)
        if total.norm() == 0:
            assert np.isnan(found.share[name]).all()
            continue
        torch.testing.assert_close(found.total[name], gradients.sum(0), rtol=1e-9, atol=1e-9 * float(total.norm()))
        share = (rows @ total / (total @ total)).numpy()
        np.testing.assert_allclose(found.share[name], share, rtol=1e-9, atol=1e-12)
        assert abs(found.share[name].sum() - 1) < 1e-12
        cosine = torch.cosine_similarity(rows[1:], rows[:-1], dim=1, eps=0).numpy()
        np.testing.assert_allclose(found.cosine[name][1:], cosine, rtol=1e-9, atol=1e-9)
        assert math.isnan(found.cosine[name][0])


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_cells_and_their_parameters_names(kind):
    torch.manual_seed(0)
    cell = kind(3, 4, dtype=torch.float64)
    inputs, grad = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(5, 2, 4, dtype=torch.float64)
    found = temporal_contributions(cell, inputs, output_grad=grad)
    wanted = per_step_gradients(cell, inputs, grad)
    assert found.names == [name for name, _ in cell.named_parameters()]
    for name in wanted:
        torch.testing.assert_close(found.total[name], wanted[name].sum(0), rtol=1e-10, atol=1e-12)
    assert max(found.verify().weights.values()) < 1e-13


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_losses_that_read_the_whole_state_at_any_step(kind):
    torch.manual_seed(1)
    module = kind(2, 3, num_layers=2, dtype=torch.float64)
    inputs, grad = torch.randn(6, 2, 2, dtype=torch.float64), torch.randn(6, 2, 3, dtype=torch.float64)
    linear = linearize(module, inputs)
    extra = {t: torch.randn(2, linear.size, dtype=torch.float64) for t in (2, 5)}
    found = contributions_of(module, linear, inputs, None, grad, extra)
    wanted = per_step_gradients(module, inputs, grad, extra)
    for name in wanted:
        np.testing.assert_allclose(np.exp(found.log_norm[name]), wanted[name].flatten(1).norm(dim=1), rtol=1e-9)
    assert max(found.verify().weights.values()) < 1e-13


def test_a_vanishing_gradient_that_no_float_can_hold():
    """h' = relu(w h + x): d+L/dW_ih|_t = w^(T-1-t) x_t and d+L/dw|_t = w^(T-1-t) h_{t-1}."""
    steps = 5000
    found = temporal_contributions(
        chain(0.5), torch.ones(steps, 1, 1, dtype=torch.float64), output_grad=last_only(steps)
    )
    back = np.arange(steps)[::-1]
    np.testing.assert_allclose(found.log_norm["weight_ih_l0"], back * math.log(0.5), rtol=1e-12, atol=1e-12)
    state = np.log(2 - 0.5 ** np.minimum(np.arange(steps - 1), 60.0))
    np.testing.assert_allclose(
        found.log_norm["weight_hh_l0"][1:], back[1:] * math.log(0.5) + state, rtol=1e-12, atol=1e-12
    )
    assert np.isneginf(found.log_norm["weight_hh_l0"][0])  # the state before the first step is zero
    np.testing.assert_allclose(found.share["weight_ih_l0"][-50:], 0.5 ** np.arange(1, 51)[::-1], rtol=1e-9)


def test_an_exploding_gradient_keeps_its_logs_and_its_total_is_inf(monkeypatch):
    """At the zero state tanh'(0) = 1, so d+L/db|_t = 2^(T-1-t); over many segments."""
    monkeypatch.setattr(sys.modules["rnnvg.bptt.stack"], "SEGMENT_NUMBERS", 200)
    module = nn.RNN(1, 2, dtype=torch.float64)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    module.weight_hh_l0.data[0, 0] = 2.0
    grad = torch.zeros(3000, 1, 2, dtype=torch.float64)
    grad[-1, 0, 0] = 1
    found = temporal_contributions(module, torch.zeros(3000, 1, 1, dtype=torch.float64), output_grad=grad)
    back = np.arange(3000)[::-1]
    np.testing.assert_allclose(found.log_norm["bias_ih_l0"], back * math.log(2), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.log_norm_total["bias_ih_l0"], 3000 * math.log(2), rtol=1e-12)
    assert found.total["bias_ih_l0"].tolist() == [math.inf, 0]
    np.testing.assert_allclose(found.share["bias_ih_l0"][:50], 0.5 ** np.arange(1, 51), rtol=1e-9)


@pytest.mark.parametrize("z", [186.0, 350.0])
def test_an_adjoint_whose_square_leaves_float64(z):
    """A unit saturated at z: tanh'(z) = 4 exp(-2z), 1e-161 or 1e-303."""
    module = nn.RNN(1, 16, dtype=torch.float64)
    for parameter, value in zip(module.parameters(), (0.0, 0.0, z, 0.0), strict=True):
        nn.init.constant_(parameter, value)
    found = temporal_contributions(module, torch.zeros(2, 1, 1).double(), output_grad=torch.ones(2, 1, 16).double())
    np.testing.assert_allclose(found.log_norm["bias_ih_l0"], math.log(16) - 2 * z, rtol=1e-12)


def test_no_gradient_at_all():
    module = nn.RNN(1, 1, bias=False, dtype=torch.float64)
    found = temporal_contributions(module, torch.zeros(30, 1, 1, dtype=torch.float64), output_grad=last_only(30))
    assert np.isneginf(found.log_norm["weight_ih_l0"]).all()
    assert str(found) == "over 30 steps: the gradient of every parameter is zero"


def test_losses_at_every_step_are_summed():
    """A chain w = 0.5 with a loss at every step: the adjoint at step t is sum_k w^k, 2 - w^(T-1-t)."""
    steps = 50
    found = temporal_contributions(
        chain(0.5),
        torch.ones(steps, 1, 1, dtype=torch.float64),
        output_grad=torch.ones(steps, 1, 1, dtype=torch.float64),
    )
    np.testing.assert_allclose(
        np.exp(found.log_norm["weight_ih_l0"]), 2 - 0.5 ** np.arange(steps)[::-1].astype(float), rtol=1e-12
    )


def test_a_direct_gradient_far_larger_or_smaller_than_what_comes_back():
    """Losses of sizes 1e-250, 1e250 and 1e-250 again: every step's norm is right, none is lost to the common scale."""
    grad = torch.zeros(300, 1, 1, dtype=torch.float64)
    grad[299], grad[150], grad[10] = 1e-250, 1e250, 1e-250
    found = temporal_contributions(chain(0.5), torch.ones(300, 1, 1, dtype=torch.float64), output_grad=grad)
    log = found.log_norm["weight_ih_l0"]
    wanted = np.array([math.log(1e-250) + (299 - t) * math.log(0.5) for t in range(151, 300)])
    np.testing.assert_allclose(log[151:], wanted, rtol=1e-12)
    wanted = np.array([math.log(1e250) + (150 - t) * math.log(0.5) for t in range(151)])
    np.testing.assert_allclose(log[:151], wanted, rtol=1e-12)


def test_sequences_that_cancel_give_an_exact_zero():
    inputs = torch.ones(6, 2, 1, dtype=torch.float64)
    grad = torch.stack([torch.ones(6, 1), -torch.ones(6, 1)], 1).double()
    found = temporal_contributions(chain(0.5), inputs, output_grad=grad)
    assert np.isneginf(found.log_norm["weight_ih_l0"]).all()
    assert np.isnan(found.share["weight_ih_l0"]).all()
    assert np.isnan(found.cosine["weight_ih_l0"]).all()
    assert found.verify().weights == {"weight_ih_l0": 0.0, "weight_hh_l0": 0.0}


def test_sequences_of_very_different_size_in_one_batch():
    """The largest sequence has a zero state, the other one is 1e-200 of it: the second still shows in weight_hh."""
    inputs = torch.ones(3, 2, 1, dtype=torch.float64)
    inputs[:, 0] = 0
    module = nn.RNN(1, 1, bias=False, dtype=torch.float64)
    grad = torch.zeros(3, 2, 1, dtype=torch.float64)
    grad[-1, 0], grad[-1, 1] = 1e200, 1e-200
    found = temporal_contributions(module, inputs, output_grad=grad)
    alone = temporal_contributions(module, inputs[:, 1:], output_grad=grad[:, 1:])
    np.testing.assert_allclose(found.log_norm["weight_hh_l0"], alone.log_norm["weight_hh_l0"], rtol=1e-12)


def test_many_segments_and_many_matrices_at_a_time_agree_with_one(monkeypatch):
    torch.manual_seed(0)
    module = nn.GRU(3, 6, num_layers=2, batch_first=True, dtype=torch.float64)
    inputs, grad = torch.randn(2, 40, 3, dtype=torch.float64), torch.randn(2, 40, 6, dtype=torch.float64)
    whole = temporal_contributions(module, inputs, output_grad=grad)
    monkeypatch.setattr("rnnvg.bptt.why.rank_one.MATRIX_NUMBERS", 300)
    monkeypatch.setattr(sys.modules["rnnvg.bptt.stack"], "SEGMENT_NUMBERS", 7 * 36)
    parts = temporal_contributions(module, inputs, output_grad=grad)
    for name in whole.names:
        np.testing.assert_allclose(parts.log_norm[name], whole.log_norm[name], rtol=1e-12)
        np.testing.assert_allclose(parts.share[name], whole.share[name], rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(parts.cosine[name], whole.cosine[name], rtol=1e-9, atol=1e-12)
    assert max(parts.verify().weights.values()) < 1e-13


def test_contributions_are_verified_as_a_profile_is():
    """One type: entries of a profile, gradients by parameters, or both."""
    torch.manual_seed(0)
    module, inputs = nn.GRU(3, 6), torch.randn(20, 4, 3)
    found = temporal_contributions(module, inputs, output_grad=torch.randn(20, 4, 6)).verify()
    both = gradient_profile(module, inputs).verify(5)
    assert type(found) is type(both) is Certificate
    assert found.weights.keys() == both.weights.keys() == dict(module.named_parameters()).keys()
    assert found.residual == max(found.weights.values()) > 0
    assert len(found.log_norm) == found.skipped == 0
    assert found.to_frame().empty
    assert found.dtype == both.dtype == "float32"
    within = f"within {found.residual:.1e} of its norm."
    assert str(found) == f"temporal contributions add up to .grad {within}"
    agree = f"5 entries of the float32 profile agree with float64 autograd to {both.residual:.1e} relative; "
    assert str(both).startswith(agree)
    too_small = dataclasses.replace(found, skipped=3)
    assert math.isnan(too_small.residual)  # of the profile no entry could be compared


def test_float32_agrees_within_its_precision():
    torch.manual_seed(0)
    module = nn.LSTM(3, 8)
    inputs, grad = torch.randn(60, 4, 3), torch.randn(60, 4, 8)
    found = temporal_contributions(module, inputs, output_grad=grad)
    assert found.total["weight_hh_l0"].dtype == torch.float32
    assert max(found.verify().weights.values()) < 1e-5
    wide = temporal_contributions(module.double(), inputs.double(), output_grad=grad.double())
    np.testing.assert_allclose(found.log_norm["weight_hh_l0"][1:], wide.log_norm["weight_hh_l0"][1:], atol=1e-4)


def test_a_state_that_is_not_finite_shows_as_nan():
    module = chain(2.0)
    inputs = torch.ones(1100, 1, 1, dtype=torch.float64)
    found = temporal_contributions(module, inputs, output_grad=last_only(1100))
    assert np.isnan(found.log_norm["weight_hh_l0"]).any()


def test_fraction_frame_figure_and_sentence():
    torch.manual_seed(0)
    module = nn.RNN(3, 8, dtype=torch.float64)
    inputs, grad = torch.randn(50, 4, 3, dtype=torch.float64), torch.zeros(50, 4, 8, dtype=torch.float64)
    grad[-1] = torch.randn(4, 8)
    found = temporal_contributions(module, inputs, output_grad=grad)
    assert found.fraction(50) == pytest.approx(1, abs=1e-12)
    assert found.fraction(3, "weight_hh_l0") == pytest.approx(found.share["weight_hh_l0"][-3:].sum())
    rows = per_step_gradients(module, inputs, grad)
    joined = torch.cat([rows[name].flatten(1) for name in found.names], 1)
    total = joined.sum(0)
    np.testing.assert_allclose(found.shares(), (joined @ total / (total @ total)).numpy(), rtol=1e-9, atol=1e-14)
    assert str(found) == f"the last 10 of 50 steps make {100 * found.fraction():.3g} % of the update"
    frame = found.to_frame()
    assert list(frame.columns) == ["parameter", "step", "log_norm", "share", "cosine"]
    assert len(frame) == 4 * 50
    assert frame.groupby("parameter")["share"].sum().to_numpy() == pytest.approx(1)
    ax = found.plot()
    assert [line.get_label() for line in ax.lines] == found.names
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found.log_norm["weight_ih_l0"] / math.log(10))


def test_a_weight_changed_since_is_noticed():
    module = chain(0.5)
    found = temporal_contributions(module, torch.ones(3, 1, 1, dtype=torch.float64), output_grad=last_only(3))
    nn.init.constant_(module.weight_hh_l0, 0.4)
    with pytest.raises(
        InputError,
        match=re.escape("A weight of `module` has changed since; compute the contributions again before verify()."),
    ):
        found.verify()


@pytest.mark.parametrize(
    ("module", "inputs", "grad", "message"),
    [
        (
            nn.Linear(1, 1),
            torch.ones(3, 1, 1),
            torch.ones(3, 1, 1),
            "`module` is a Linear; pass an nn.RNN, nn.LSTM, nn.GRU or one of their cells, whose parameters are known.",
        ),
        (
            nn.GRU(1, 1, bidirectional=True),
            torch.ones(3, 1, 1),
            torch.ones(3, 1, 1),
            "`output_grad` is [3, 1, 1]; pass dL_t/d(output_t) shaped like the output, [3, 1, 2].",
        ),
        (
            nn.RNN(1, 2),
            torch.ones(3, 1, 1),
            torch.ones(3, 2),
            "`output_grad` is [3, 2]; pass dL_t/d(output_t) shaped like the output, [3, 1, 2].",
        ),
        (
            nn.RNN(1, 2),
            torch.ones(3, 1, 1),
            None,
            "`output_grad` is NoneType; pass dL_t/d(output_t) shaped like the output, [3, 1, 2].",
        ),
        (
            nn.RNN(1, 1),
            torch.ones(3, 1, 1),
            torch.full((3, 1, 1), math.inf),
            "`output_grad` holds a value that is not finite; pass finite numbers.",
        ),
    ],
)
def test_misuse_is_said_in_one_sentence(module, inputs, grad, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        temporal_contributions(module, inputs, output_grad=grad)


def test_fraction_refuses_more_steps_than_there_are():
    found = temporal_contributions(chain(0.5), torch.ones(3, 1, 1, dtype=torch.float64), output_grad=last_only(3))
    with pytest.raises(InputError, match=re.escape("`last` must be a whole number from 1 to 3; got 4.")):
        found.fraction(4)
    with pytest.raises(InputError, match=re.escape("`name` has no 'weight_hh'. Did you mean 'weight_hh_l0'?")):
        found.fraction(1, "weight_hh")


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([[49], [49]], "the last 10 of 50 steps make "),
        ([[19], [19]], "the last 10 of 20 steps make "),  # counted from the loss, not from the end of the batch
        ([[3], [3]], "the last 4 of 4 steps make 100 % of the update"),
        (
            [[49], [20]],
            "sequences end at steps 20 to 49: no share of the last steps is defined; to_frame() has every step's",
        ),
        (
            [[10, 49], [49]],
            "over 50 steps with losses at several: no share of the last steps is defined; to_frame() has every",
        ),
        ([[], []], "over 50 steps: the gradient of every parameter is zero"),
    ],
)
def test_steps_are_counted_from_the_loss_where_there_is_one(steps, sentence):
    torch.manual_seed(0)
    grad = torch.zeros(50, 2, 8)
    for sequence, where in enumerate(steps):
        for step in where:
            grad[step, sequence] = torch.randn(8)
    found = temporal_contributions(nn.LSTM(3, 8), torch.randn(50, 2, 3), output_grad=grad)
    assert str(found).startswith(sentence)


def test_a_packed_batch_of_unequal_lengths_gives_no_share_of_the_last_steps():
    torch.manual_seed(0)
    gru = nn.GRU(3, 8)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(30, 3, 3), [30, 20, 10])
    with rnnvg.watch(gru) as watcher:
        gru(packed)[1].sum().backward()
    found = watcher.temporal_contributions()
    assert found.losses.tolist() == [29, 19, 9]
    assert str(found).startswith("sequences end at steps 9 to 29")
