"""Layer gradients against autograd, finite differences and closed forms; whose gradient is measured; nothing is changed."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from rnnvg.depth.blocks import BlockLinearization, couples_items, log_norm, trace
from rnnvg.depth.gradients import layer_gradients, layer_profile, network_gradients
from rnnvg.depth.networks import build
from rnnvg.errors import InputError

F64 = torch.float64


def stack(*widths, act=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    return [nn.Sequential(nn.Linear(a, b, dtype=F64), act()) for a, b in itertools.pairwise(widths)]


def by_autograd(blocks, inputs, covector):
    """Norms of dL/da per item and layer, the input first, and of dL/dW over the batch: retained gradients, one backward."""
    a = inputs.clone().requires_grad_()
    states = [a]
    for block in blocks:
        states.append(block(states[-1]))
        states[-1].retain_grad()
    states[-1].backward(covector)
    activations = [state.grad.flatten(1).norm(dim=1) for state in states]
    weights = [torch.stack([p.grad.norm() for p in block.parameters() if p.ndim >= 2]).norm() for block in blocks]
    for block in blocks:
        block.zero_grad()
    return torch.stack(activations), torch.stack(weights)


@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=6),
    batch=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_items_and_weights_agree_with_autograd(widths, batch, seed):
    blocks = stack(*widths, seed=seed)
    inputs = torch.randn(batch, widths[0], dtype=F64)
    covector = torch.randn(batch, widths[-1], dtype=F64)
    activations, weights = by_autograd(blocks, inputs, covector)
    profile = layer_profile(blocks, inputs, output_grad=covector)
    assert profile.log_norm.shape == (1, len(widths), batch)
    np.testing.assert_allclose(profile.log_norm[0, ::-1], activations.log().numpy(), rtol=1e-9, atol=1e-9)
    layers = layer_gradients(blocks, inputs, output_grad=covector)
    np.testing.assert_allclose(layers.log_weight, weights.log().numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(layers.log_activation, activations.norm(dim=1).log().numpy(), rtol=1e-9, atol=1e-9)


def test_convolutions_of_changing_shape():
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv2d(1, 3, 3, dtype=F64), nn.ReLU(inplace=True)),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Flatten(), nn.Linear(27, 5, dtype=F64)),
    ]
    inputs, covector = torch.randn(4, 1, 8, 8, dtype=F64), torch.randn(4, 5, dtype=F64)
    layers = layer_gradients(blocks, inputs, output_grad=covector)
    nn.Sequential(*blocks)(inputs).backward(covector)
    expected = [blocks[0][0].weight.grad.norm(), blocks[2][1].weight.grad.norm()]
    np.testing.assert_allclose(layers.log_weight[[0, 2]], np.log(expected), rtol=1e-9)
    assert np.isnan(layers.log_weight[1])
    assert layer_profile(blocks, inputs, output_grad=covector).log_norm.shape == (1, 4, 4)


def test_a_thousand_halves_are_followed_where_float32_ends():
    halves = [lambda a: 0.5 * a] * 1000
    profile = layer_profile(halves, torch.ones(3, 2))
    np.testing.assert_allclose(profile.log_gain(0)[0, :, 0], -np.arange(1001) * math.log(2), atol=1e-9)
    assert profile.horizon(0.1).last == 4  # from one layer back on, three halvings leave 1/8


def test_depth_is_the_distance_of_the_horizon():
    profile = layer_profile([lambda a: 0.9 * a] * 50, torch.ones(1, 1, dtype=F64))
    assert profile.horizon(0.5).last == 7  # 0.9^6 = 0.53, one layer back being the reference
    assert profile.horizon(0.5).rate == pytest.approx(math.log(0.9))


def batch_normed():
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(5, 5, dtype=F64), nn.BatchNorm1d(5, dtype=F64), nn.Tanh()) for _ in range(3)]


def test_batch_norm_couples_items_in_training_and_not_in_evaluation():
    inputs = torch.randn(8, 5, dtype=F64)
    blocks = batch_normed()
    assert couples_items(trace(blocks, inputs))
    assert layer_profile(blocks, inputs).log_norm.shape == (1, 4, 1)
    with pytest.raises(InputError) as caught:
        layer_profile(blocks, inputs, whole_batch=False)
    assert str(caught.value) == (
        "`whole_batch` is False, but an item's loss depends on other items' activations here (batch norm in training mode?); "
        "pass whole_batch=True, or call .eval() on the blocks."
    )
    for block in blocks:
        block.eval()
    assert not couples_items(trace(blocks, inputs))
    assert layer_profile(blocks, inputs).log_norm.shape == (1, 4, 8)


def test_coupling_is_seen_whatever_does_it():
    inputs = torch.randn(6, 3, dtype=F64)
    assert couples_items(trace([lambda a: a, lambda a: a - a.mean(0)], inputs))
    assert not couples_items(trace([lambda a: a - a.mean(1, keepdim=True)], inputs))
    assert not couples_items(trace([lambda a: a - a.mean(0)], inputs[:1] * 0 + 1))


def test_the_whole_batch_of_a_batch_norm_agrees_with_autograd():
    blocks, inputs, covector = batch_normed(), torch.randn(8, 5, dtype=F64), torch.randn(8, 5, dtype=F64)
    layers = layer_gradients(blocks, inputs, output_grad=covector)
    activations, weights = by_autograd(blocks, inputs, covector)
    np.testing.assert_allclose(layers.log_activation, activations.norm(dim=1).log().numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(layers.log_weight, weights.log().numpy(), rtol=1e-9, atol=1e-9)


def test_finite_differences_of_the_loss():
    network = build(6, 3, depth=3, width=5, activation="tanh", init="xavier").double()
    x, y = torch.randn(4, 6, dtype=F64), torch.tensor([0, 1, 2, 1])
    found = network_gradients(network, x, y)
    weight, step = network.blocks[1].linear.weight, 1e-6
    total = 0.0
    with torch.no_grad():
        for index in range(weight.numel()):
            values = []
            for sign in (1, -1):
                weight.view(-1)[index] += sign * step
                values.append(float(cross_entropy(network(x), y)))
                weight.view(-1)[index] -= sign * step
            total += ((values[0] - values[1]) / (2 * step)) ** 2
    assert found.log_weight[1] == pytest.approx(0.5 * math.log(total), rel=1e-6)


def test_dropout_is_one_mask_and_the_random_state_stays():
    blocks = [nn.Sequential(nn.Linear(30, 30, dtype=F64), nn.Dropout(0.5)) for _ in range(2)]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = layer_profile(blocks, torch.randn(2, 30, dtype=F64, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(state, torch.get_rng_state())
    again = layer_profile(blocks, torch.randn(2, 30, dtype=F64, generator=torch.Generator().manual_seed(0)))
    np.testing.assert_array_equal(first.log_norm, again.log_norm)


def test_nothing_of_the_network_moves():
    network = build(6, 3, depth=2, width=5, norm="batch", activation="relu", residual="block")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network_gradients(network, torch.randn(8, 6), torch.zeros(8, dtype=torch.long))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(each.grad is None for each in network.parameters())
    assert network.training


def test_pushforward_is_the_transpose_of_the_pullback():
    blocks, inputs = stack(4, 6, 3), torch.randn(2, 4, dtype=F64)
    linear = BlockLinearization(trace(blocks, inputs), whole_batch=False)
    for t, (before, after) in enumerate([(4, 6), (6, 3)]):
        u, v = torch.zeros(2, 6, dtype=F64), torch.zeros(2, 6, dtype=F64)
        u[:, :after], v[:, :before] = torch.randn(2, after, dtype=F64), torch.randn(2, before, dtype=F64)
        one = (linear.pullback(t, u) * v).sum()
        other = (linear.pushforward(t, v) * u).sum()
        torch.testing.assert_close(one, other)


def test_a_weights_share_does_not_depend_on_the_adjoints_length():
    linear = BlockLinearization(trace(stack(4, 6, 3), torch.randn(2, 4, dtype=F64)), whole_batch=True)
    u = torch.randn(1, linear.size, dtype=F64)
    linear.pullback(0, u)
    share = linear.log_weight_gain[0]
    linear.pullback(0, 1000 * u)
    assert linear.log_weight_gain[0] == pytest.approx(share)


def test_a_block_that_forgets_is_an_exact_zero_and_a_state_that_overflows_is_told():
    profile = layer_profile([lambda a: a, lambda a: torch.ones_like(a), lambda a: 2 * a], torch.ones(1, 2))
    assert np.isneginf(profile.log_norm[0, 2:, 0]).all()
    overflow = layer_profile([lambda a: a * 1e30, lambda a: a * 1e30], torch.ones(1, 1))
    assert overflow.first_nonfinite.tolist() == [1]


def test_log_norm():
    assert log_norm([torch.tensor([3e-30, 4e-30])]) == pytest.approx(math.log(5e-30))
    assert log_norm([torch.zeros(3), torch.tensor([2.0])]) == pytest.approx(math.log(2))
    assert log_norm([torch.zeros(3)]) == -math.inf
    assert math.isnan(log_norm([torch.tensor([1.0]), torch.tensor([math.nan])]))


def test_frame_and_picture():
    found = layer_gradients(stack(3, 4, 2), torch.randn(2, 3, dtype=F64))
    frame = found.to_frame()
    assert list(frame.columns) == ["layer", "log10_activation", "log10_weight"]
    assert frame["layer"].tolist() == [1, 2]
    axes = found.plot()
    np.testing.assert_allclose(
        axes.lines[0].get_ydata(), frame["log10_activation"] - frame["log10_activation"].iloc[-1]
    )
    assert found.log_ratio(of="weights") == pytest.approx(found.log_weight[0] - found.log_weight[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: layer_profile([], torch.ones(1, 1)),
            "`blocks` is empty; pass at least one module or function, the first layer first.",
        ),
        (
            lambda: layer_profile([nn.ReLU()], torch.ones(0, 3)),
            "`inputs` is [0, 3]; pass a batch [B, ...] of at least one item.",
        ),
        (
            lambda: layer_profile([nn.ReLU()], torch.ones(2, 3, dtype=torch.int64)),
            "`inputs` has dtype torch.int64; pass float32 or float64.",
        ),
        (
            lambda: layer_profile([nn.ReLU()], torch.full((2, 3), math.nan)),
            "`inputs` holds a value that is not finite; pass finite numbers.",
        ),
        (
            lambda: layer_profile([nn.ReLU(), lambda a: a.sum()], torch.ones(2, 3)),
            "`blocks` 1 returned []; return a tensor [2, ...].",
        ),
        (
            lambda: layer_profile([nn.ReLU()], torch.ones(2, 3), output_grad=torch.ones(2, 4)),
            "`output_grad` is [2, 4]; pass one shaped like the output, [2, 3].",
        ),
        (
            lambda: layer_gradients([nn.ReLU()], torch.ones(2, 3), lambda a: a),
            "The loss has shape [2, 3]; return a scalar tensor.",
        ),
        (
            lambda: layer_gradients([nn.ReLU()], torch.ones(2, 3), lambda a: torch.tensor(1.0)),
            "The loss does not depend on the blocks' output; return one that does.",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message
