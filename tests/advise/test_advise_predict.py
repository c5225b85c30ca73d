"""Predictions against closed forms, naive sums, and one wide network each."""

import math

import numpy as np
import pytest
import torch

from rnnvg import gradient_profile, models, tasks
from rnnvg.advise import predict
from rnnvg.bptt.gaussian import gaussian_mean
from rnnvg.horizon import slope

TASK = tasks.make("adding", length=10)
WIDE = 256


def test_chrono_is_the_mean_over_units_of_their_carry():
    rng = np.random.default_rng(0)
    u = rng.uniform(1, 49, 400_000)
    f = u / (1 + u)
    expected = [0.5 * math.log((f ** (2 * k)).mean() / (f**2).mean()) for k in (1, 2, 10, 100)]
    found = predict.chrono(50, 100)[[1, 2, 10, 100]]
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert math.isnan(predict.chrono(50, 100)[0])


@pytest.mark.parametrize(("form", "rate"), [("leaky", math.log(0.8)), ("residual", 0.0)])
def test_without_a_recurrent_matrix_the_carry_is_left(form, rate):
    curve = predict.own_cell(form, 0.5, 0.2, 30, sigma_w=1e-9)
    np.testing.assert_allclose(curve[1:], rate * np.arange(30), atol=1e-9)


def test_a_leak_of_everything_is_the_vanilla_network():
    from rnnvg.bptt.theory import mean_field

    curve = predict.own_cell("leaky", 0.3, 1.0, 12, sigma_w=0.7)
    np.testing.assert_allclose(curve[1:], mean_field(0.7, 0.3).rate * np.arange(12), atol=1e-9)


def test_layer_norm_divides_by_the_spread():
    tanh2 = gaussian_mean(lambda z: np.tanh(z) ** 2, 1.0)
    sech4 = gaussian_mean(lambda z: 1 / np.cosh(np.clip(z, -300, 300)) ** 4, 1.0)
    expected = 0.5 * math.log(0.25 * sech4 / (0.25 * tanh2 + 0.1))
    assert predict.own_cell("layer-norm", 0.1, 0.1, 5, sigma_w=0.5)[2] == pytest.approx(expected, abs=1e-12)


# Tolerances in nats a step: a few times the scatter of networks of this width.
NETWORKS = [
    ({"cell": "leaky", "init": "default", "t_max": 20}, 0.002),
    ({"cell": "residual", "init": "default", "t_max": 20}, 0.002),
    ({"cell": "layer-norm", "init": "default"}, 0.02),
    ({"cell": "rnn", "init": "default"}, 0.07),
    ({"cell": "rnn", "init": "orthogonal"}, 0.02),
    ({"cell": "rnn-relu", "init": "identity"}, 0.005),
    ({"cell": "lstm", "init": "forget-bias"}, 0.02),
    ({"cell": "lstm", "init": "chrono", "t_max": 20}, 0.01),
    ({"cell": "gru", "init": "chrono", "t_max": 20}, 0.01),
    ({"cell": "gru", "init": "default"}, 0.03),
]


@pytest.mark.parametrize(
    ("network", "tolerance"),
    NETWORKS,
    ids=lambda case: "-".join(map(str, case.values())) if isinstance(case, dict) else "",
)
def test_wide_networks_decay_as_predicted(network, tolerance):
    network = {**network, "hidden": WIDE}
    inputs = TASK.probe(16, torch.Generator().manual_seed(0)).inputs
    predicted = predict.predicted_rate(
        network, n_inputs=2, input_square=float(inputs.square().mean()), steps=len(inputs)
    )
    torch.manual_seed(0)
    model = models.build(TASK, **network)
    own = network["cell"] in models.OWN_CELLS
    profile = gradient_profile(model.core.step if own else model.core, inputs, torch.zeros(16, WIDE) if own else None)
    measured = slope(profile.log_gain()[0].mean(1))
    assert predicted == pytest.approx(measured, abs=tolerance)


def test_no_theory_is_none():
    assert (
        predict.predicted_rate({"cell": "rnn", "init": "identity", "hidden": 8}, n_inputs=2, input_square=1.0, steps=9)
        is None
    )
