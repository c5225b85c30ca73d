"""GradientMonitor of bidirectional modules: each direction's own state, against the profile of the same call."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnvg

T, B, I, H = 15, 3, 3, 5
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("how", ["outputs", "batch first", "packed", "final states"])
def test_the_numbers_are_those_of_each_directions_profile(cell, layers, how):
    torch.manual_seed(0)
    module = CELLS[cell](I, H, layers, bidirectional=True, batch_first=how == "batch first", dtype=torch.float64)
    monitor, x = rnnvg.GradientMonitor(module, every=1), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        if how == "packed":
            output = module(pack_padded_sequence(x, torch.tensor([15, 9, 12]), enforce_sorted=False))[0].data
            output.square().sum().backward()
        elif how == "final states":
            state = module(x)[1]
            (state[0] if cell == "lstm" else state)[-2:].square().sum().backward()
        else:
            module(x.transpose(0, 1) if how == "batch first" else x)[0].square().sum().backward()
    found = monitor.metrics()
    steps = [0, 14] if how == "final states" else [0, 5, 9, 14]
    for direction, reference in (("forward", 1), ("backward", -1)):
        profile = watcher.profile(sources=steps, direction=direction)
        assert found[f"{direction}/horizon"] == profile.horizon(reference=reference).last
        at = profile.distance.tolist().index(10 * reference), profile.distance.tolist().index(0)
        gains = profile.log_norm[:, at[0]] - np.where(
            np.isinf(profile.log_norm[:, at[1]]), np.nan, profile.log_norm[:, at[1]]
        )
        assert found[f"{direction}/gain_10"] == pytest.approx(math.exp(np.nanmean(gains)), rel=1e-6)
    assert monitor.verdict() == (
        "vanishing" if -1 in (found["forward/verdict"], found["backward/verdict"]) else "neither"
    )
    assert monitor.reason == ""


def test_a_direction_that_no_loss_goes_through_is_not_measured_and_the_other_is():
    torch.manual_seed(0)
    module = nn.LSTM(I, H, bidirectional=True)
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(torch.randn(T, B, I))[0][-1].square().sum().backward()
    found = monitor.metrics()
    assert found["forward/verdict"] in (-1, 0)
    assert found["backward/verdict"] == 3
    assert found["verdict"] == found["forward/verdict"]


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_one_direction_that_explodes_is_enough(way):
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False, bidirectional=True)
    for name, weight in module.named_parameters():
        nn.init.constant_(weight, 2.0 if "hh" in name and name.endswith("_reverse") == (way == "backward") else 0.9)
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(torch.ones(30, 1, 1))[0].sum().backward()
    assert monitor.verdict() == "exploding"
    assert monitor.metrics()[f"{way}/verdict"] == 1


def test_what_is_not_finite_is_told():
    module, x = nn.GRU(I, H, bidirectional=True), torch.randn(T, B, I)
    x[4, 1] = math.nan
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(x)[0].sum().backward()
    assert monitor.verdict() == "not finite"
    assert monitor.reason == "The input at step 4 is not finite."
