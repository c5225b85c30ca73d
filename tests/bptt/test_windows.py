"""A monitor follows the last steps before each loss: the same numbers as the whole profile's nearest ones."""

import numpy as np
import pytest
import torch
from seen_calls import watched
from torch import nn

import rnnvg
from rnnvg.bptt.verdict import profile_within
from rnnvg.bptt.watched import linearised, profile_at

T, B, I, H = 70, 3, 3, 6
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("how", ["whole", "packed", "ends", "dropout"])
def test_windows_hold_the_nearest_distances_of_the_whole_profile(cell, layers, how):
    torch.manual_seed(0)
    module = CELLS[cell](I, H, layers, dropout=0.4 if how == "dropout" and layers > 1 else 0.0, dtype=torch.float64)
    lengths = torch.tensor([70, 31, 52]) if how == "packed" else None
    recorder, plain, found = watched(module, T, lengths=lengths, ends=how == "ends")
    steps, distance = [0, 12, 30, 51, 69], 20
    profile, start = profile_within(recorder, recorder.calls, found, steps, distance)
    whole = profile_at(linearised(recorder, plain, found), steps)
    column = 0
    for row, step in enumerate(steps):
        for sequence, length in enumerate(found.lengths):
            if step >= length:
                continue
            assert start[column] == max(0, step + 1 - distance)
            nearest = whole.log_norm[row, : distance + 1, sequence]
            np.testing.assert_allclose(profile.log_norm[0, :, column], nearest, rtol=1e-9, atol=1e-9)
            column += 1
    assert column == profile.log_norm.shape[2]


def test_a_monitor_of_a_long_sequence_reads_a_horizon_beyond_its_distance_as_more():
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False)
    nn.init.constant_(module.weight_hh_l0, 0.999)
    nn.init.ones_(module.weight_ih_l0)
    found = {}
    for distance in (100, 2000):
        monitor = rnnvg.GradientMonitor(module, every=1, distance=distance)
        module(torch.ones(1500, 1, 1))[0][-1].sum().backward()
        found[distance] = monitor.metrics()
        assert found[distance]["gain_100"] == pytest.approx(0.999**100, rel=1e-4)
        assert monitor.verdict() == "neither"
        monitor.close()
    assert (found[100]["horizon"], found[100]["horizon_censored"]) == (100, 1)
    assert (found[2000]["horizon"], found[2000]["horizon_censored"]) == (1000, 0)


def test_a_change_that_a_window_does_not_hold_is_seen_all_the_same():
    torch.manual_seed(0)
    module = nn.LSTM(I, H)
    monitor = rnnvg.GradientMonitor(module, every=1)
    x = torch.randn(400, B, I)
    module(x)[0][-1].sum().backward()
    x.data[5].add_(1.0)
    assert monitor.verdict() == "not measured"
    assert "from step 5 on" in monitor.reason


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_sequences_that_are_little_longer_are_not_cut_up_and_end_at_the_same_distance(cell, layers):
    torch.manual_seed(0)
    module = CELLS[cell](I, H, layers, dtype=torch.float64)
    recorder, plain, found = watched(module, T, lengths=torch.tensor([70, 31, 52]))
    steps, distance = [0, 12, 30, 51, 69], 40
    profile, start = profile_within(recorder, recorder.calls, found, steps, distance)
    whole = profile_at(linearised(recorder, plain, found), steps)
    assert profile.distance.tolist() == list(range(distance + 1))
    assert start.tolist() == [0, 0, 0]
    np.testing.assert_allclose(profile.log_norm, whole.log_norm[:, : distance + 1], rtol=1e-9, atol=1e-9)
