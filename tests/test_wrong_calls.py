"""Wrong calls of the public API, one argument at a time: InputError with a sentence, and nothing of the caller's changed."""

import os
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import rnnvg
from rnnvg import InputError, models, tasks, training

LONGEST_SENTENCE = 600


def unusual():
    """Values that no argument takes, or that few do."""
    return {
        "None": None,
        "text": "a long text " * 3,
        "empty text": "",
        "list": [],
        "list of texts": ["a", "b"],
        "ragged list": [[1.0, 2.0], [3.0]],
        "dict": {},
        "set": {1},
        "float": 2.5,
        "negative": -7,
        "huge": 10**30,
        "nan": float("nan"),
        "inf": float("inf"),
        "complex number": 1 + 2j,
        "True": True,
        "object": object(),
        "class": nn.LSTM,
        "function": print,
        "generator": (each for each in range(3)),
        "module": nn.Linear(2, 2),
        "0-d tensor": torch.tensor(1.5),
        "empty tensor": torch.zeros(0),
        "empty sequence": torch.zeros(0, 2, 3),
        "1-d tensor": torch.zeros(5),
        "5-d tensor": torch.zeros(1, 1, 1, 1, 3),
        "int tensor": torch.zeros(6, 2, 3, dtype=torch.int64),
        "bool tensor": torch.zeros(6, 2, 3, dtype=torch.bool),
        "complex tensor": torch.zeros(6, 2, 3, dtype=torch.complex64),
        "half tensor": torch.zeros(6, 2, 3, dtype=torch.float16),
        "nan tensor": torch.full((6, 2, 3), torch.nan),
        "inf tensor": torch.full((6, 2, 3), torch.inf),
        "sparse tensor": torch.eye(3).to_sparse(),
        "sparse sequence": torch.ones(6, 2, 3).to_sparse(),
        "meta tensor": torch.zeros(6, 2, 3, device="meta"),
        "float8 tensor": torch.zeros(6, 2, 3).to(torch.float8_e4m3fn),
        "nested tensor": torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(4, 3)], layout=torch.jagged),
        "object array": np.array([None, "x"], dtype=object),
        "text array": np.array(["a", "b"]),
        "complex array": np.array([1j, 2.0]),
        "bool array": np.array([True, False]),
        "empty array": np.zeros(0),
        "2-d array": np.zeros((2, 2)),
        "tuple of Nones": (None, None),
    }


def loss(model, batch):
    return model(batch)[0].square().mean()


def calls():
    """Name -> (function, right arguments); each is called with one of them replaced."""
    torch.manual_seed(0)
    lstm, inputs = nn.LSTM(3, 4), torch.randn(6, 2, 3)
    grad = torch.zeros(6, 2, 4)
    grad[-1] = 1
    horizon = rnnvg.MemoryHorizon(0.37, 3, 4, False, -0.3, None)
    task = tasks.make("adding", length=6)
    model = models.build(task, "rnn", hidden=4)
    step, start = (lambda x, h: torch.tanh(h + x)), torch.zeros(2, 3)
    every = {
        "gradient_profile": (
            rnnvg.gradient_profile,
            {
                "recurrence": lstm, "inputs": inputs, "state": None, "output_grad": grad, "sources": "last", "lengths": None,
                "wrt": "state", "generator": None,
            },
        ),
        "gradient_profile of a step": (
            rnnvg.gradient_profile, {"recurrence": step, "inputs": inputs, "state": start, "sources": "last"},
        ),
        "memory_horizon": (rnnvg.memory_horizon, {"log_gain": -np.arange(5.0), "threshold": 0.1}),
        "decay_fit": (rnnvg.decay_fit, {"log_gain": -np.arange(9.0)}),
        "pool_horizons": (rnnvg.pool_horizons, {"horizons": [horizon, horizon]}),
        "horizon_survival": (rnnvg.horizon_survival, {"horizons": [horizon, horizon]}),
        "compare_horizons": (rnnvg.compare_horizons, {"first": [horizon] * 3, "second": [horizon] * 3}),
        "lyapunov_spectrum": (
            rnnvg.lyapunov_spectrum, {"recurrence": lstm, "inputs": inputs, "state": None, "n_exponents": None, "burn_in": 1},
        ),
        "jacobian_singular_values": (rnnvg.jacobian_singular_values, {"recurrence": lstm, "inputs": inputs}),
        "temporal_contributions": (
            rnnvg.temporal_contributions, {"module": lstm, "inputs": inputs, "state": None, "output_grad": grad},
        ),
        "attribute_decay": (
            rnnvg.attribute_decay,
            {"module": lstm, "inputs": inputs, "state": None, "output_grad": None, "source": "last"},
        ),
        "input_profile": (
            rnnvg.input_profile,
            {"model": lstm, "inputs": inputs, "sources": "last", "outputs": None, "at": None, "generator": None},
        ),
        "diagnose": (rnnvg.diagnose, {"model": lstm, "batch": inputs, "loss": loss, "lr": 0.1, "updates": 1}),
        "suggest_clip": (rnnvg.suggest_clip, {"model": lstm, "batches": [inputs], "loss": loss, "quantile": 0.5}),
        "watch": (rnnvg.watch, {"module": lstm}),
        "GradientMonitor": (rnnvg.GradientMonitor, {"model": lstm, "every": 3}),
        "tasks.make": (tasks.make, {"name": "adding", "length": 6, "marks": "anywhere"}),
        "models.build": (
            models.build,
            {"task": task, "cell": "lstm", "hidden": 4, "layers": 1, "init": "default", "embed": None, "tied": False},
        ),
        "training.fit": (
            training.fit,
            {
                "model": model, "task": task, "steps": 1, "batch": 2, "lr": 0.1, "optimizer": "adam", "clip": 1.0,
                "generator": torch.Generator(), "eval_every": 1, "eval_size": 2, "checkpoints": (), "decay": None,
            },
        ),
        "load_results": (rnnvg.load_results, {"directory": "."}),
    }  # fmt: skip
    return {name: value for name, value in every.items() if value[0] is not None}


# What a caller's own module or function raises passes through unchanged; batches are their own business altogether.
CALLERS = {
    ("gradient_profile of a step", "recurrence"),
    ("diagnose", "model"),
    ("diagnose", "loss"),
    ("suggest_clip", "model"),
    ("suggest_clip", "loss"),
}
LEFT_OUT = {("diagnose", "batch"), ("suggest_clip", "batches")}


def state_of_the_process():
    return (
        torch.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state()[1].tobytes(), dict(os.environ),
        os.getcwd(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )  # fmt: skip


def cases():
    every = [(name, argument) for name, (_, arguments) in calls().items() for argument in arguments]
    return [each for each in every if each not in LEFT_OUT]


@pytest.mark.parametrize(("name", "argument"), cases())
def test_a_wrong_argument_is_a_sentence(name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures = []
    for what, value in unusual().items():
        if what == "module" and (name, argument) in CALLERS:
            continue
        function, arguments = calls()[name]
        before = state_of_the_process()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function(**(arguments | {argument: value}))
        except InputError as error:
            if not str(error) or len(str(error)) > LONGEST_SENTENCE:
                failures.append(f"{what}: a message of {len(str(error))} characters")
        except Exception as error:
            failures.append(f"{what}: {type(error).__name__}: {str(error)[:100]}")
        # Weights are drawn from torch's global generator.
        if state_of_the_process() != before and name != "models.build":
            failures.append(f"{what}: the process is not as it was")
    assert failures == []
