"""The chain against 60-digit arithmetic, plain autograd and finite differences."""

import math

import mpmath
import numpy as np
import pytest

from rnnvg.depth.chain import chain, max_slope
from rnnvg.depth.names import CHAIN_ACTIVATIONS
from rnnvg.errors import InputError

mpmath.mp.dps = 60


def closed_product(layers, weight, name, start=1.0):
    """ln |dL/dw_i| by the definition, in 60 digits: values first, then every product written out from the top down."""
    w = mpmath.mpf(weight)

    def function(z):
        return {"sigmoid": lambda: 1 / (1 + mpmath.exp(-z)), "tanh": lambda: mpmath.tanh(z), "relu": lambda: max(z, 0)}[
            name
        ]()

    def slope(z):
        value = function(z)
        return {
            "sigmoid": lambda: value * (1 - value),
            "tanh": lambda: 1 - value**2,
            "relu": lambda: mpmath.mpf(1 if z > 0 else 0),
        }[name]()

    values, slopes = [mpmath.mpf(start)], []
    for _ in range(layers):
        z = w * values[-1]
        slopes.append(slope(z))
        values.append(function(z))
    logs, above = [], mpmath.mpf(1)
    for i in range(layers, 0, -1):
        gradient = abs(above * slopes[i - 1] * values[i - 1])
        logs.append(float(mpmath.log(gradient)) if gradient else -math.inf)
        above *= w * slopes[i - 1]
    return np.array(logs[::-1])


@pytest.mark.parametrize("name", CHAIN_ACTIVATIONS)
@pytest.mark.parametrize(
    ("layers", "weight"), [(1, 0.17), (20, 0.17), (50, 0.17), (20, -1.3), (1000, 0.17), (1000, 0.9)]
)
def test_both_ways_equal_the_closed_product(name, layers, weight):
    line = chain(layers, weight, name)
    expected = closed_product(layers, weight, name)
    np.testing.assert_allclose(line.log_by_hand, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(line.log_by_sweep, expected, rtol=1e-12, atol=1e-12)
    assert line.residual < 1e-12


@pytest.mark.parametrize("name", CHAIN_ACTIVATIONS)
def test_plain_autograd_agrees_where_it_has_numbers_and_reads_zero_where_it_has_none(name):
    line = chain(20, 0.17, name)
    np.testing.assert_allclose(line.by_autograd, np.exp(line.log_by_hand), rtol=1e-12)
    deep = chain(1000, 0.17, "sigmoid")
    assert deep.by_autograd[0] == 0
    assert -3200 < deep.log_by_hand[0] < -3100


def test_the_gradient_is_what_moving_a_weight_does():
    layers, i, step = 6, 2, 1e-6

    def output(weights):
        value = 1.0
        for w in weights:
            value = math.tanh(w * value)
        return value

    weights = [0.7] * layers
    up, down = [list(weights), list(weights)]
    up[i] += step
    down[i] -= step
    numeric = (output(up) - output(down)) / (2 * step)
    assert chain(layers, 0.7, "tanh").by_autograd[i] == pytest.approx(numeric, rel=1e-8)


def test_the_textbook_bound_is_the_slopes_alone_and_what_happens_lies_far_below():
    frame = chain(11, 0.17, "sigmoid").to_frame().set_index("layer")
    assert 10 ** frame.loc[6, "log10_slope_bound"] == pytest.approx(0.25**5, rel=1e-9)
    assert 10 ** frame.loc[1, "log10_slope_bound"] == pytest.approx(9.5367431640625e-7, rel=1e-9)
    assert frame.loc[1, "log10_gradient"] < frame.loc[1, "log10_slope_bound"] - 7
    assert 10 ** frame.loc[9, "log10_rule"] == pytest.approx(0.04)


@pytest.mark.parametrize("name", CHAIN_ACTIVATIONS)
def test_the_bound_with_the_weights_is_one(name):
    line = chain(30, 0.8, name)
    frame = line.to_frame()
    own = np.log10(line.slopes * np.abs(line.values[:-1]))
    assert (frame["log10_gradient"] <= frame["log10_bound"] + own + 1e-9).all()


def test_taking_the_slope_of_the_activation_is_another_number_but_for_relu():
    for name, apart in (("sigmoid", 1.0), ("tanh", 1e-4)):
        line = chain(20, 0.17, name)
        assert abs(line.log_of_activation[0] - line.log_by_hand[0]) > apart
        a = line.values[-1]
        wrong = a * (1 - a) if name == "sigmoid" else 1 - a * a
        # The copied code applies f' to a: sigmoid(a) (1 - sigmoid(a)), not a (1 - a).
        mistaken = 1 / (1 + math.exp(-a)) * (1 - 1 / (1 + math.exp(-a))) if name == "sigmoid" else 1 - math.tanh(a) ** 2
        assert line.slopes[-1] == pytest.approx(wrong)
        assert math.exp(line.log_of_activation[-1] - line.log_by_hand[-1]) == pytest.approx(mistaken / wrong)
    relu = chain(20, 0.17, "relu")
    np.testing.assert_array_equal(relu.log_of_activation, relu.log_by_hand)


def test_a_relu_chain_gives_every_weight_the_same_and_a_negative_one_dies():
    line = chain(1000, 0.17, "relu")
    np.testing.assert_allclose(line.log_by_hand, 999 * math.log(0.17), rtol=1e-12)
    dead = chain(5, -0.17, "relu")
    assert np.isneginf(dead.log_by_hand).all()
    assert np.isneginf(dead.log_by_sweep).all()
    assert dead.residual == 0
    assert math.isnan(dead.log_ratio)


def test_weight_zero_and_huge_weights_are_numbers_too():
    zero = chain(5, 0.0, "sigmoid")
    assert np.isneginf(zero.log_by_hand[:-1]).all()
    assert np.isfinite(zero.log_by_hand[-1])
    assert zero.residual == 0
    huge = chain(1000, 30.0, "relu")
    np.testing.assert_allclose(huge.log_by_sweep, 999 * math.log(30), rtol=1e-12)
    assert huge.to_frame()["value"].iloc[-1] == math.inf


def test_max_slopes():
    assert max_slope("sigmoid") == pytest.approx(0.25, rel=1e-15)
    assert max_slope("tanh") == max_slope("relu") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "`layers` must be a whole number of at least 1; got 0."),
        (
            {"activation": "sigmod"},
            "`activation` has no 'sigmod'. Did you mean 'sigmoid'? Pass one of: sigmoid, tanh, relu.",
        ),
        ({"weight": math.nan}, "`weight` must be a finite number; got nan."),
        ({"input": math.inf}, "`input` must be a finite number; got inf."),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError) as caught:
        chain(**options)
    assert str(caught.value) == message
