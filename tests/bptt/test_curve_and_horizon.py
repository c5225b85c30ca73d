"""Gains, curves and horizons of a profile."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnvg import GradientProfile, gradient_profile, memory_horizon
from rnnvg.bptt import Diagonal

COLUMNS = ["distance", "log10_gain", "log10_gain_rms", "low", "high", "n", "n_zero"]


def profile_of(log_norm: np.ndarray, wrt: str = "state") -> GradientProfile:
    """A profile with these numbers in it, [S, K, B]; its sources count up to K - 2."""
    n_sources, n_distances, _ = log_norm.shape
    sources = np.arange(n_distances - 1 - n_sources, n_distances - 1)
    return GradientProfile(log_norm=log_norm, sources=sources, distance=np.arange(n_distances), wrt=wrt)


def random_log_norm(seed: int, sources: int, distances: int, batch: int, zeros: float, unseen: float) -> np.ndarray:
    draw = np.random.default_rng(seed)
    log_norm = draw.normal(size=(sources, distances, batch)).cumsum(axis=1)
    log_norm[draw.random(log_norm.shape) < zeros] = -np.inf
    log_norm[draw.random(log_norm.shape) < unseen] = np.nan
    return log_norm


def lstm_profile(**asked) -> GradientProfile:
    torch.manual_seed(0)
    module = nn.LSTM(2, 3, num_layers=2, dtype=torch.float64)
    return gradient_profile(module, torch.randn(12, 4, 2, dtype=torch.float64), **asked)


# log_gain ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", [0, 1, 4])
def test_log_gain_is_relative_to_the_reference(reference):
    log_norm = random_log_norm(0, 3, 7, 5, zeros=0.2, unseen=0.1)
    gain = profile_of(log_norm).log_gain(reference)
    for s in range(3):
        for b in range(5):
            own = log_norm[s, reference, b]
            for k in range(7):
                if k < reference or not np.isfinite(own) or np.isnan(log_norm[s, k, b]):
                    assert np.isnan(gain[s, k, b])
                else:
                    assert gain[s, k, b] == log_norm[s, k, b] - own


def test_log_gain_is_relative_to_one_step_back_by_default():
    profile = lstm_profile()
    np.testing.assert_array_equal(profile.log_gain(), profile.log_gain(reference=1))
    assert np.isnan(profile.log_gain()[:, 0]).all()
    assert (profile.log_gain()[:, 1] == 0).all()


# curve ------------------------------------------------------------------------------------------------------------------


def slow_curve_row(gains: np.ndarray) -> dict[str, float]:
    """One distance, from the gains in nats that were observed there."""
    gains = gains[~np.isnan(gains)] / math.log(10)
    n, n_zero = len(gains), int(np.isneginf(gains).sum())
    if n == 0:
        return {"n": 0, "n_zero": 0, "log10_gain": np.nan, "log10_gain_rms": np.nan, "low": np.nan, "high": np.nan}
    ordered = sorted(gains)
    middle = (ordered[(n - 1) // 2], ordered[n // 2])
    median = middle[0] if middle[0] == middle[1] else sum(middle) / 2
    square = 10 ** (2 * gains)
    effective = square.sum() ** 2 / (square**2).sum() if square.any() else 0
    return {
        "n": n,
        "n_zero": n_zero,
        "log10_gain": median if n_zero else gains.mean(),
        "log10_gain_rms": math.log10(math.sqrt(square.mean())) if effective >= 10 else np.nan,
        # the inverse of the empirical distribution function: the smallest value that reaches the fraction
        "low": next(value for i, value in enumerate(ordered) if (i + 1) / n >= 0.1 - 1e-12),
        "high": next(value for i, value in enumerate(ordered) if (i + 1) / n >= 0.9 - 1e-12),
    }


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 6), st.integers(2, 8), st.integers(1, 8)),
    zeros=st.sampled_from([0.0, 0.1, 0.6]),
    unseen=st.sampled_from([0.0, 0.2]),
    reference=st.integers(0, 1),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_curve(seed, shape, zeros, unseen, reference):
    profile = profile_of(random_log_norm(seed, *shape, zeros, unseen))
    curve = profile.curve(reference)
    assert list(curve.columns) == COLUMNS
    np.testing.assert_array_equal(curve["distance"], profile.distance)
    gain = profile.log_gain(reference)
    for k, row in curve.iterrows():
        for column, expected in slow_curve_row(gain[:, k].ravel()).items():
            np.testing.assert_allclose(row[column], expected, rtol=1e-12, atol=1e-12, err_msg=f"{column} at {k}")


def test_the_two_means_can_differ_in_sign():
    """For ln-gains N(-.1, .6^2) a step the mean of the logs falls by .1 a step, the rms rises by .26."""
    draw = np.random.default_rng(1)
    steps = draw.normal(-0.1, 0.6, size=(1, 6, 40_000))
    log_norm = np.concatenate([np.zeros((1, 1, 40_000)), steps.cumsum(axis=1)], axis=1)
    curve = profile_of(log_norm).curve(reference=0)
    assert np.polyfit(curve["distance"], curve["log10_gain"] * math.log(10), 1)[0] == pytest.approx(-0.10, abs=0.01)
    rms = curve["log10_gain_rms"].iloc[:4] * math.log(10)  # later ones are carried by ever fewer samples
    assert np.polyfit(np.arange(4), rms, 1)[0] == pytest.approx(0.26, abs=0.04)


def test_rms_is_hidden_where_a_few_sequences_carry_it():
    even = np.zeros((1, 2, 10))
    assert profile_of(even).curve()["log10_gain_rms"][1] == 0
    assert np.isnan(profile_of(even[:, :, :9]).curve()["log10_gain_rms"][1])
    one_loud = np.zeros((1, 3, 1000))
    one_loud[0, 2, 0] = 50
    curve = profile_of(one_loud).curve()
    assert np.isnan(curve["log10_gain_rms"][2])
    assert curve["log10_gain"][2] == pytest.approx(0.05 / math.log(10))
    assert (curve["low"][2], curve["high"][2]) == (0, 0)


def test_rms_of_gains_beyond_float64():
    far = np.zeros((1, 3, 20))
    far[0, 1], far[0, 2] = 0.0, -3000.0
    assert profile_of(far).curve()["log10_gain_rms"][2] == pytest.approx(-3000 / math.log(10), rel=1e-12)
    assert profile_of(-far).curve()["log10_gain_rms"][2] == pytest.approx(3000 / math.log(10), rel=1e-12)


def test_curve_takes_the_median_where_there_are_exact_zeros():
    log_norm = np.array([[0.0] * 5, [0.0] * 5, [-np.inf, -1, -2, -3, -4], [-np.inf] * 3 + [-1, -1]])[None]
    curve = profile_of(log_norm).curve()
    np.testing.assert_allclose(curve["log10_gain"][1:3] * math.log(10), [0, -3])
    assert curve["log10_gain"][3] == -np.inf
    np.testing.assert_array_equal(curve["n_zero"], [0, 0, 1, 3])
    np.testing.assert_array_equal(curve["n"], [0, 5, 5, 5])


@pytest.mark.parametrize("wrt", ["state", "cell", "hidden", "input"])
def test_a_source_whose_own_gradient_is_zero_is_left_out(wrt):
    torch.manual_seed(2)
    module = nn.LSTM(2, 3, dtype=torch.float64)
    inputs, grad = torch.randn(9, 6, 2, dtype=torch.float64), torch.randn(9, 6, 3, dtype=torch.float64)
    grad[-1, :2] = 0
    profile = gradient_profile(module, inputs, output_grad=grad, wrt=wrt)
    assert (profile.log_norm[0, :-1, :2] == -np.inf).all()
    rest = gradient_profile(module, inputs[:, 2:], output_grad=grad[:, 2:], wrt=wrt)
    for reference in (0, 1) if wrt != "cell" else (1,):
        curve, expected = profile.curve(reference), rest.curve(reference)
        pd.testing.assert_frame_equal(curve, expected, rtol=1e-10)
        assert curve["n"].max() == 4
        assert (curve["n_zero"] == 0).all()


def test_curve_pools_sources_and_sequences():
    """Three sources and two sequences of full length: six gains at lag 1, two where only the last source reaches."""
    torch.manual_seed(3)
    module = nn.GRU(1, 2, dtype=torch.float64)
    curve = gradient_profile(module, torch.randn(9, 2, 1, dtype=torch.float64), sources=3).curve()
    np.testing.assert_array_equal(curve["n"], [0, 6, 6, 6, 4, 4, 4, 2, 2, 2])  # sources 2, 5, 8


# horizon --------------------------------------------------------------------------------------------------------------


def test_a_profiles_horizon_is_that_of_its_curve():
    profile = profile_of(random_log_norm(4, 3, 30, 4, zeros=0.0, unseen=0.0) - 0.4 * np.arange(30)[:, None])
    for reference in (0, 1, 3):
        for threshold in (math.exp(-1), 0.1, 0.01):
            curve = profile.curve(reference)
            expected = memory_horizon(curve["log10_gain"].to_numpy() * math.log(10), threshold)
            found = profile.horizon(threshold, reference)
            assert (found.last, found.first_below, found.censored) == (
                expected.last,
                expected.first_below,
                expected.censored,
            )
            assert found.rate == pytest.approx(expected.rate, rel=1e-9)
    assert profile.horizon() == profile.horizon(threshold=math.exp(-1), reference=1)


def test_horizon_of_a_chain_counts_from_the_reference():
    """0.8^k: from k = 1 the gain is 0.8^(k-1), so the horizon at 1/e moves by the reference."""
    profile = gradient_profile(Diagonal(), torch.full((60, 3, 1), 0.8, dtype=torch.float64))
    steps = math.floor(1 / -math.log(0.8))
    assert profile.horizon(reference=0).last == steps
    assert profile.horizon(reference=1).last == steps + 1
    assert profile.horizon(reference=10).last == steps + 10
    assert profile.horizon().rate == pytest.approx(math.log(0.8), rel=1e-12)
