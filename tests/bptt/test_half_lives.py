"""half_lives against closed forms."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import InputError
from rnnvg.bptt import Diagonal, half_lives
from rnnvg.bptt.cells import read_cells
from rnnvg.bptt.cells.min_rnn import MinGRUCell
from rnnvg.bptt.cells.oscillators import LEMCell
from rnnvg.bptt.cells.state_space import LRUCell


def test_a_state_space_has_those_of_its_eigenvalues():
    cell = LRUCell(2, 5).double()
    found = half_lives(cell, torch.randn(6, 3, 2, dtype=torch.float64))
    np.testing.assert_allclose(read_cells(cell)[0].decay.abs().numpy() ** found.steps, 0.5, rtol=1e-10)
    assert set(found.gate) == {"decay"}


def test_gates_are_averaged_in_logs():
    torch.manual_seed(0)
    cell, x = MinGRUCell(2, 4).double(), torch.randn(50, 3, 2, dtype=torch.float64)
    z = torch.sigmoid(x @ cell.weight_ih[:4].T + cell.bias_ih[:4])
    expected = np.log(0.5) / torch.log(1 - z).mean((0, 1)).detach().numpy()
    found = half_lives(cell, x)
    np.testing.assert_allclose(found.steps, expected, rtol=1e-10)
    assert found.share_below(float(np.median(expected))) == 0.5
    assert list(found.to_frame()["channel"]) == [0, 1, 2, 3]


def test_a_forget_gate_of_known_bias():
    module = nn.LSTM(1, 3, num_layers=2)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(module.bias_hh_l1[3:6], 3.0)
    found = half_lives(module, torch.randn(10, 2, 1))
    lives = np.log(0.5) / np.log([0.5, 1 / (1 + np.exp(-3))])
    np.testing.assert_allclose(found.steps, np.repeat(lives, 3), rtol=1e-5)
    assert str(found) == f"half-lives of 6 channels: median {np.median(found.steps):.3g} steps, 50 % below 2"
    bars = found.plot().patches
    assert sum(bar.get_height() for bar in bars) == 6


def test_both_gates_of_a_lem_and_the_extremes():
    found = half_lives(LEMCell(2, 3), torch.randn(5, 2, 2))
    assert list(found.gate) == ["gate of z"] * 3 + ["gate of y"] * 3
    ends = half_lives(Diagonal(), torch.tensor([[[1.0, 0.0, 0.5]]]))
    np.testing.assert_allclose(ends.steps, [np.inf, 0, 1])


def test_what_has_no_carry_is_refused():
    message = (
        "`recurrence` has no gate or eigenvalue that carries its state over; pass a gated module, a state space or a "
        "Diagonal."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        half_lives(nn.RNN(2, 3), torch.randn(4, 2, 2))
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        half_lives(lambda x, h: h * x, torch.randn(4, 2, 2), torch.zeros(2, 2))
