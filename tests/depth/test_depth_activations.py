"""Slopes in closed form against autograd, and the survey against what is known exactly."""

import math

import numpy as np
import pytest
import torch

from rnnvg.depth.activations import ACTIVATIONS, activation, curves, slope_by_autograd, survey
from rnnvg.errors import InputError

Z = torch.linspace(-9.3, 9.1, 1001, dtype=torch.float64)  # 0, where ReLUs have no derivative, is not among them


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_closed_form_is_what_autograd_applies(name):
    torch.testing.assert_close(activation(name).slope(Z), slope_by_autograd(name, Z), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_saturated_slopes_keep_their_digits(name):
    z = torch.tensor([25.0, -25.0], dtype=torch.float64)
    exact = {"sigmoid": math.exp(-25) / (1 + math.exp(-25)) ** 2, "tanh": 1 / math.cosh(25) ** 2}[name]
    torch.testing.assert_close(activation(name).slope(z), torch.full_like(z, exact), rtol=1e-13, atol=0)


def test_survey():
    table = survey().set_index("activation")
    assert table.loc["sigmoid", "max_slope"] == pytest.approx(0.25)
    assert table.loc["tanh", "max_slope"] == pytest.approx(1)
    assert table.loc["relu", "mean_slope"] == pytest.approx(0.5, abs=1e-4)
    assert table.loc["relu", "rms_slope"] == pytest.approx(math.sqrt(0.5), abs=1e-4)
    assert table.loc["gelu", "max_slope"] == pytest.approx(1.128904145, abs=1e-6)
    assert table.loc["selu", "max_slope"] == pytest.approx(1.0507009873554805 * 1.6732632423543772, rel=1e-3)
    # sigmoid' = 0.01 where s (1 - s) = 0.01
    edge = math.log(0.01010205 / (1 - 0.01010205))
    assert table.loc["sigmoid", "flat_below"] == pytest.approx(edge, abs=1e-3)
    assert table.loc["sigmoid", "flat_above"] == pytest.approx(-edge, abs=1e-3)
    assert table.loc["relu", "dead_below"] == pytest.approx(0, abs=1e-3)
    dies = table["dead_below"].dropna()
    assert list(dies.index) == ["relu"]
    assert set(table.index[table["flat_above"].isna()]) == set(ACTIVATIONS) - {"sigmoid", "tanh"}


def test_curves_are_tidy():
    frame = curves(-1, 1, 5)
    assert list(frame.columns) == ["activation", "z", "value", "slope"]
    assert len(frame) == 5 * len(ACTIVATIONS)
    sigmoid = frame[frame["activation"] == "sigmoid"]
    np.testing.assert_allclose(sigmoid["value"], 1 / (1 + np.exp(-sigmoid["z"])))


def test_unknown_activation():
    with pytest.raises(InputError) as caught:
        activation("leaky_relu")
    assert str(caught.value) == (
        "`activation` has no 'leaky_relu'. Did you mean 'leaky-relu'? Pass one of: sigmoid, tanh, relu, leaky-relu, prelu, "
        "elu, selu, gelu."
    )
