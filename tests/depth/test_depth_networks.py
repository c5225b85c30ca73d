"""Networks by option: what each draws and computes, and the gradient ratios that the field knows."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg.depth.gradients import network_gradients
from rnnvg.depth.networks import INITS, NORMS, RESIDUALS, build
from rnnvg.depth.theory import bound, moments, predict_log_ratio
from rnnvg.errors import InputError
from rnnvg.tasks.images import digits


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def probe():
    images = digits()
    return images.train_x[:128], images.train_y[:128]


def ratio(network, probe):
    return math.exp(network_gradients(network, *probe).log_ratio(network.ends))


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("init", INITS)
def test_every_combination_runs(init, norm, residual):
    network = build(7, 3, depth=2, width=5, activation="relu", init=init, norm=norm, residual=residual)
    assert network(torch.randn(4, 7)).shape == (4, 3)
    assert len(network.blocks) == (3 if residual == "block" else 2)


def test_the_same_generator_draws_the_same_weights_and_the_global_one_is_left_alone():
    state = torch.get_rng_state()
    one, other = build(7, 3, generator=generator(1)), build(7, 3, generator=generator(1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    third = build(7, 3, generator=generator(2))
    assert not torch.equal(one.readout.weight, third.readout.weight)


@pytest.mark.parametrize(("init", "std"), [("gaussian", 0.01), ("xavier", 1 / 20), ("he", math.sqrt(2 / 400))])
def test_standard_deviations(init, std):
    weight = build(400, 3, depth=2, width=400, init=init).blocks[1].linear.weight
    assert float(weight.detach().std()) == pytest.approx(std, rel=0.01)


def test_orthogonal_and_gain():
    network = build(40, 3, depth=2, width=40, init="orthogonal", gain=2.0)
    weight = network.blocks[1].linear.weight.detach().double()
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(40, dtype=torch.float64), atol=1e-5, rtol=0)


def test_what_a_residual_block_computes():
    network = build(4, 2, depth=1, width=4, activation="relu", init="he", residual="block")
    block, a = network.blocks[1], torch.randn(3, 4)
    first = torch.relu(a @ block.first.weight.T)
    torch.testing.assert_close(block(a), torch.relu(a + first @ block.second.weight.T))
    skip = build(4, 2, depth=2, width=4, activation="tanh", init="he", residual="skip").blocks[1]
    torch.testing.assert_close(skip(a), a + torch.tanh(a @ skip.linear.weight.T))


@pytest.mark.parametrize("width", [64, 100, 200])
@pytest.mark.parametrize("seed", range(3))
def test_ten_sigmoid_layers_with_small_gaussian_weights(probe, width, seed):
    found = ratio(build(64, 10, depth=10, width=width, generator=generator(seed)), probe)
    textbook = (0.25 * 0.01 * math.sqrt(width)) ** 9
    assert textbook == pytest.approx(math.exp(bound(10, width, 0.01)))
    assert textbook / 3 < found < 3 * textbook


def test_the_often_quoted_millionth_is_xaviers(probe):
    found = [ratio(build(64, 10, depth=10, width=100, init="xavier", generator=generator(s)), probe) for s in range(3)]
    assert 1e-6 < np.median(found) < 5e-6


def residual(depth, seed=0, **options):
    return build(
        64,
        10,
        depth=depth,
        width=64,
        activation="relu",
        init="he",
        norm="batch",
        residual="block",
        generator=generator(seed),
        **options,
    )


def test_residual_networks_grow_about_linearly_with_their_blocks(probe):
    few = np.median([ratio(residual(20, seed), probe) for seed in range(5)])
    many = np.median([ratio(residual(100, seed), probe) for seed in range(3)])
    assert 12 < few < 25
    assert 100 < many < 200
    assert many / few < 2 * 100 / 20


@pytest.mark.parametrize("depth", [20, 100])
def test_a_zero_last_gain_passes_the_gradient_on_as_it_is(probe, depth):
    network = residual(depth, zero_last=True)
    gradients = network_gradients(network, *probe)
    np.testing.assert_allclose(gradients.log_activation[1:-1], gradients.log_activation[1], atol=1e-6)
    assert math.exp(gradients.log_ratio(network.ends)) == pytest.approx(1, abs=1e-6)


CASES = [
    {},
    {"init": "xavier"},
    {"activation": "relu"},
    {"activation": "relu", "init": "he"},
    {"activation": "tanh", "init": "orthogonal"},
    {"activation": "selu", "init": "xavier"},
    {"norm": "batch"},
    {"norm": "layer"},
    {"activation": "relu", "norm": "batch"},
    {"residual": "skip", "init": "xavier"},
    {"activation": "relu", "init": "xavier", "norm": "batch", "residual": "skip"},
    {"activation": "relu", "init": "he", "norm": "batch", "residual": "block", "depth": 20},
    {"activation": "relu", "init": "xavier", "norm": "layer", "residual": "block", "depth": 20},
    {"activation": "relu", "init": "he", "gain": 2.0},
]


@pytest.mark.parametrize("options", CASES, ids=lambda options: " ".join(map(str, options.values())) or "sick")
def test_theory_predicts_the_ratio(probe, options):
    measured, spec = [], {}
    for seed in range(3):
        network = build(64, 10, **{"width": 64, "generator": generator(seed), **options})
        measured.append(math.log(ratio(network, probe)))
        spec = network.spec
    predicted = predict_log_ratio(spec, float(probe[0].square().mean()), 64)
    # A factor 1.6, where the ratios span sixteen decades.
    assert predicted == pytest.approx(np.mean(measured), abs=math.log(1.6))


def test_moments_in_closed_form():
    relu = moments("relu", 2.0)
    assert relu.mean == pytest.approx(math.sqrt(2.0) / math.sqrt(2 * math.pi), rel=1e-5)
    assert relu.square == pytest.approx(1.0, rel=1e-5)
    assert relu.slope == pytest.approx(0.5, rel=1e-3)
    assert moments("relu", 1.0).slope / moments("relu", 1.0).variance == pytest.approx(
        math.pi / (math.pi - 1), rel=1e-3
    )
    assert moments("tanh", 1e-8).slope == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "`depth` must be a whole number of at least 1; got 0."),
        ({"width": 0}, "`width` must be a whole number of at least 1; got 0."),
        (
            {"init": "xaver"},
            "`init` has no 'xaver'. Did you mean 'xavier'? Pass one of: gaussian, xavier, he, orthogonal.",
        ),
        ({"norm": "batchnorm"}, "`norm` has no 'batchnorm'. Did you mean 'batch'? Pass one of: none, batch, layer."),
        (
            {"zero_last": True},
            "`zero_last` zeroes the last gain of a residual block; got residual='none' and norm='none'. Pass "
            "residual='block' with norm='batch' or 'layer'.",
        ),
        ({"gain": 0}, "`gain` must be a finite number above 0; got 0."),
        (
            {"activation": "rely"},
            "`activation` has no 'rely'. Did you mean 'relu'? Pass one of: sigmoid, tanh, relu, leaky-relu, prelu, elu, "
            "selu, gelu.",
        ),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError) as caught:
        build(4, 2, **options)
    assert str(caught.value) == message


def test_modules_are_ordinary_ones():
    network = residual(2)
    assert isinstance(network.blocks[1].second_norm, nn.BatchNorm1d)
    assert not network.eval().blocks[1].second_norm.training
