"""Sequences of tens of thousands of steps: the same numbers, in memory that does not grow with everything that happened."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import gradient_profile
from tests.reference import log_norms

PEAK = """
import json, resource, sys
import torch
from torch import nn
from rnnvg import gradient_profile

torch.set_num_threads(1)
kind, steps, batch, hidden = json.loads(sys.argv[1])
torch.manual_seed(0)
matrix = torch.randn(hidden, hidden) / hidden**0.5
module = getattr(nn, kind)(4, hidden) if kind != "step" else lambda x, h: torch.tanh(h @ matrix + x[:, :1])
state = torch.zeros(batch, hidden) if kind == "step" else None
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gradient_profile(module, torch.randn(300, batch, 4), state)
inputs = torch.randn(steps, batch, 4)
before = peak()
log_norm = gradient_profile(module, inputs, state).log_norm
print(json.dumps({"bytes": 1024 * (peak() - before), "far": log_norm[0, -1].tolist()}))
"""


def measured(kind: str, steps: int, batch: int, hidden: int) -> dict:
    """Peak resident memory above the inputs, bytes, of one profile in a process of its own."""
    asked = json.dumps([kind, steps, batch, hidden])
    done = subprocess.run([sys.executable, "-c", PEAK, asked], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")
@pytest.mark.parametrize(
    ("kind", "steps", "batch", "hidden", "mebibytes"), [("LSTM", 20_000, 8, 128, 300), ("step", 1200, 512, 128, 250)]
)
def test_long_sequences_in_bounded_memory(kind, steps, batch, hidden, mebibytes):
    """An LSTM's states and gates would take 0.5 GiB, a step function's states 300 MiB and twice that with autograd."""
    found = measured(kind, steps, batch, hidden)
    assert found["bytes"] < mebibytes * 2**20
    assert np.isfinite(found["far"]).all()
    assert max(found["far"]) < -500


@pytest.mark.acceptance
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_hundred_thousand_steps_within_a_gibibyte(kind):
    found = measured(kind, 100_000, 8, 128)
    assert found["bytes"] < 2**30
    assert np.isfinite(found["far"]).all()


@pytest.mark.parametrize(
    ("kind", "batch"),
    [
        ("LSTM", 16),
        pytest.param("GRU", 32, marks=pytest.mark.acceptance),
        pytest.param("RNN", 32, marks=pytest.mark.acceptance),
    ],
)
def test_a_large_batch_is_its_sequences(kind, batch):
    """Too large to keep every state, against one sequence of it for which they all fit; and autograd for the end."""
    torch.manual_seed(0)
    module = getattr(nn, kind)(2, 64, dtype=torch.float64)
    inputs = torch.randn(6000, batch, 2, dtype=torch.float64)
    grad = torch.zeros(6000, batch, 64, dtype=torch.float64)
    grad[-1] = torch.randn(batch, 64, dtype=torch.float64)
    whole = gradient_profile(module, inputs, output_grad=grad).log_norm[0]
    one = gradient_profile(module, inputs[:, 3:4], output_grad=grad[:, 3:4]).log_norm[0, :, 0]
    np.testing.assert_allclose(whole[:, 3], one, rtol=0, atol=1e-9)
    with torch.no_grad():
        state = module(inputs[:-30])[1]
    expected = log_norms(module, inputs[-30:], state, output_grad=grad[-30:])[0]
    np.testing.assert_allclose(whole[:31], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("sources", [5, 30])
def test_many_sources_of_a_long_sequence(kind, sources):
    """Each source of many is the source alone, whether they are followed together or not."""
    torch.manual_seed(1)
    module = getattr(nn, kind)(1, 32, dtype=torch.float64)
    inputs = torch.randn(1500, 16, 1, dtype=torch.float64)
    grad = torch.randn(1500, 16, 32, dtype=torch.float64)
    together = gradient_profile(module, inputs, output_grad=grad, sources=sources)
    for s in (0, 2, sources - 1):
        end = together.sources[s] + 1
        alone = gradient_profile(module, inputs[:end], output_grad=grad[:end]).log_norm[0]
        np.testing.assert_allclose(together.log_norm[s, : end + 1], alone, rtol=0, atol=1e-9)
        assert np.isnan(together.log_norm[s, end + 1 :]).all()


def test_all_sources_are_the_sources_one_by_one():
    torch.manual_seed(2)
    module = nn.LSTM(1, 5, num_layers=2, dtype=torch.float64)
    inputs, grad = torch.randn(150, 2, 1, dtype=torch.float64), torch.randn(150, 2, 5, dtype=torch.float64)
    for wrt in ("state", "cell", "input"):
        together = gradient_profile(module, inputs, output_grad=grad, sources="all", wrt=wrt).log_norm
        for source in (0, 1, 74, 149):
            alone = gradient_profile(module, inputs, output_grad=grad, sources=[source], wrt=wrt).log_norm[0]
            np.testing.assert_allclose(together[source, : source + 2], alone, rtol=0, atol=1e-9)
