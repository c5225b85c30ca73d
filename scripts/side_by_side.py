"""Other tools on the same questions: who is right, how far, how fast.

    pip install 'rnnvg[peers]'
    python scripts/side_by_side.py [--out results/side_by_side.json]    # and the same as .csv

Every row is one tool on one question: its answer, the truth where there is one (a closed form, or float64 autograd through a
loop written out), the largest error, how many steps back it still answers, and seconds (the median of three).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import rnnvg
from rnnvg.files import write_ours

T, B, H, I = 400, 4, 64, 8


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """The answer, and the median seconds of three calls."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        found = run()
        taken.append(time.perf_counter() - start)
    return found, statistics.median(taken)


def row(
    question: str, tool: str, answer: str, truth: str, error: float | None, reach: int | None, seconds: float
) -> dict:
    return {
        "question": question, "tool": tool, "answer": answer, "truth": truth, "error": error, "reach": reach,
        "seconds": seconds,
    }  # fmt: skip


def unrolled(lstm: nn.LSTM, inputs: Tensor) -> np.ndarray:
    """ln ||d h_T[0] / d (h, c) k steps back||, [T + 1, B], by autograd through a loop of cells; -inf where it is 0."""
    cell = nn.LSTMCell(I, H, dtype=inputs.dtype)
    with torch.no_grad():
        for name, weight in cell.named_parameters():
            weight.copy_(getattr(lstm, f"{name}_l0"))
    state = (inputs.new_zeros(inputs.shape[1], H), inputs.new_zeros(inputs.shape[1], H))
    # Each step begins from leaves of its own, so that h and c are independent coordinates.
    befores, afters = [], []
    for x in inputs:
        before = tuple(part.detach().requires_grad_() for part in state)
        state = cell(x, before)
        befores.append(before)
        afters.append(state)
    adjoint = [torch.zeros_like(state[0]), torch.zeros_like(state[1])]
    adjoint[0][:, 0] = 1
    norms = [torch.cat(adjoint, -1).norm(dim=-1)]
    for before, after in zip(reversed(befores), reversed(afters), strict=True):
        adjoint = list(torch.autograd.grad(after, before, adjoint))
        norms.append(torch.cat(adjoint, -1).norm(dim=-1))
    return torch.stack(norms).double().log().numpy()


def jacrev(lstm: nn.LSTM, inputs: Tensor) -> np.ndarray:
    """The same from dense step Jacobians of torch.func (PyTorch's own cell has no batching rule: the step is written out)."""
    into, recurrent, bias_ih, bias_hh = lstm.parameters()
    bias = bias_ih + bias_hh

    def step(state: Tensor, x: Tensor) -> Tensor:
        h, c = state.split(H)
        i, f, g, o = (into @ x + recurrent @ h + bias).split(H)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])

    jacobian = torch.func.vmap(torch.func.jacrev(step))
    states, jacobians = [inputs.new_zeros(inputs.shape[1], 2 * H)], []
    with torch.no_grad():
        for x in inputs:
            jacobians.append(jacobian(states[-1], x))
            states.append(torch.func.vmap(step)(states[-1], x))
        adjoint = inputs.new_zeros(inputs.shape[1], 2 * H)
        adjoint[:, 0] = 1
        norms = [adjoint.norm(dim=-1)]
        for each in reversed(jacobians):
            adjoint = torch.einsum("bij,bi->bj", each, adjoint)
            norms.append(adjoint.norm(dim=-1))
    return torch.stack(norms).double().log().numpy()


def gradients() -> list[dict]:
    """Gradient by the state against distance, of a fused LSTM in float32."""
    torch.manual_seed(0)
    lstm, inputs = nn.LSTM(I, H), torch.randn(T, B, I)
    wide = nn.LSTM(I, H, dtype=torch.float64)
    wide.load_state_dict(lstm.state_dict())
    wide.double()
    truth = unrolled(wide, inputs.double())
    grad = torch.zeros(T, B, H)
    grad[-1, :, 0] = 1

    def ours() -> np.ndarray:
        return rnnvg.gradient_profile(lstm, inputs, output_grad=grad).log_norm[0]

    def retained() -> np.ndarray:
        output, _ = lstm(inputs)
        output.retain_grad()
        output[-1, :, 0].sum().backward()
        assert output.grad is not None
        return np.vstack([output.grad.norm(dim=-1).flip(0).double().log().numpy(), np.full((1, B), -np.inf)])

    peers: dict[str, Callable[[], np.ndarray]] = {
        "rnnvg": ours,
        "autograd through a loop, float32": lambda: unrolled(lstm, inputs),
        "autograd through a loop, float64": lambda: unrolled(wide, inputs.double()),
        "torch.func.jacrev, float32": lambda: jacrev(lstm, inputs),
        "retain_grad on the fused output": retained,
    }
    rows = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for tool, peer in peers.items():
            found, seconds = timed(peer)
            right = np.abs(found - truth) < 1e-3
            reach = int(np.argmin(right.all(1))) - 1 if not right.all() else T
            error = float(np.abs(found - truth)[: reach + 1].max()) if reach >= 0 else None
            answer = f"ln {found[-1].mean():.1f} at {T} steps"
            rows.append(row("gradient by the state", tool, answer, f"ln {truth[-1].mean():.1f}", error, reach, seconds))
    return rows


def saliency() -> list[dict]:
    """Gradient by the input: whether tools agree on which steps mattered."""
    from captum.attr import IntegratedGradients, Saliency  # pyright: ignore[reportMissingImports]
    from scipy.stats import rankdata

    torch.manual_seed(0)
    lstm, inputs = nn.LSTM(I, H, batch_first=True), torch.randn(B, T, I)

    def last(x: Tensor) -> Tensor:
        return lstm(x)[0][:, -1, 0]

    grad = torch.zeros(B, T, H)
    grad[:, -1, 0] = 1
    ours, seconds = timed(lambda: rnnvg.gradient_profile(lstm, inputs, output_grad=grad, wrt="input").log_norm[0])
    rows = [row("ranking of steps by the input", "rnnvg", "", "", None, T - 1, seconds)]
    peers = {
        "Captum Saliency": lambda: Saliency(last).attribute(inputs, abs=False),
        "Captum IntegratedGradients": lambda: IntegratedGradients(last).attribute(inputs, n_steps=20),
    }
    for tool, peer in peers.items():
        found, seconds = timed(peer)
        norms = found.detach().norm(dim=-1).flip(1).double().numpy().T
        some = norms > 0
        agree = float(np.corrcoef(rankdata(ours[:T][some]), rankdata(norms[some]))[0, 1])
        with np.errstate(divide="ignore"):
            error = float(np.abs(np.log(norms) - ours[:T])[some].max()) if "Saliency" in tool else None
        reach = int(np.flatnonzero(some.all(1)).max())
        rows.append(
            row("ranking of steps by the input", tool, f"rank correlation {agree:.3f}", "", error, reach, seconds)
        )
    return rows


def exponents() -> list[dict]:
    """The logistic map at 4 (ln 2) and the Henon map (largest exponent .41922, sum ln .3)."""
    steps = 5_000
    logistic, henon = torch.empty(steps, dtype=torch.float64), torch.empty(steps, dtype=torch.float64)
    x, (a, b) = 0.3, (0.1, 0.1)
    for k in range(steps):
        logistic[k], henon[k] = x, a
        x, (a, b) = 4 * x * (1 - x), (1 - 1.4 * a * a + b, 0.3 * a)
    zeros = torch.zeros(steps, 1, 1, dtype=torch.float64)

    def henon_step(_: Tensor, s: Tensor) -> Tensor:
        return torch.stack([1 - 1.4 * s[:, 0] ** 2 + s[:, 1], 0.3 * s[:, 0]], -1)

    starts = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[0.1, 0.1]], dtype=torch.float64)
    maps = {
        "logistic map": (lambda _, s: 4 * s * (1 - s), starts[0], logistic, math.log(2)),
        "Henon map": (henon_step, starts[1], henon, 0.41922),
    }
    nolds = _nolds()
    rows = []
    for name, (step, start, series, truth) in maps.items():
        found, seconds = timed(lambda step=step, start=start: rnnvg.lyapunov_spectrum(step, zeros, start, burn_in=100))
        value = float(found.exponents[0, 0])
        rows.append(
            row(f"exponent of the {name}", "rnnvg", f"{value:.4f}", f"{truth:.4f}", abs(value - truth), None, seconds)
        )
        short = series[:2000].numpy()
        value, seconds = timed(lambda short=short: nolds.lyap_r(short, emb_dim=2, lag=1, min_tsep=10, trajectory_len=5))
        rows.append(
            row(
                f"exponent of the {name}",
                "nolds lyap_r",
                f"{value:.4f}",
                f"{truth:.4f}",
                abs(value - truth),
                None,
                seconds,
            )
        )
    return rows


def _nolds() -> Any:
    """nolds' estimators; its package does not import on every Python, because of a data file that they do not need."""
    spec = importlib.util.find_spec("nolds")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nolds is not installed: pip install 'rnnvg[peers]'")
    path = Path(spec.submodule_search_locations[0]) / "measures.py"
    alone = importlib.util.spec_from_file_location("nolds_measures", path)
    assert alone is not None
    assert alone.loader is not None
    module = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(module)
    return module


def memory_capacity() -> list[dict]:
    """An echo state network: what can be read out of its state (memory capacity), beside how far its gradient reaches."""
    from reservoirpy.nodes import Reservoir, Ridge  # pyright: ignore[reportMissingImports]
    from reservoirpy.observables import memory_capacity as capacity  # pyright: ignore[reportMissingImports]

    model = Reservoir(100, sr=1, seed=1) >> Ridge(ridge=1e-4)
    found, seconds = timed(lambda: capacity(model, k_max=50, as_list=True, seed=1))
    total = float(np.sum(found))
    half = int(np.flatnonzero(np.asarray(found) >= 0.5).max()) + 1
    rows = [
        row("memory of an echo state network", "reservoirpy memory_capacity", f"{total:.2f}; half is left at lag {half}",
            "18.78 in its documentation", abs(total - 18.78), half, seconds)
    ]  # fmt: skip
    reservoir = Reservoir(100, sr=1, seed=1)
    drive = np.random.default_rng(0).uniform(-0.8, 0.8, size=(500, 1))
    states = reservoir.run(drive)
    held: list[Any] = [reservoir.W, reservoir.Win, reservoir.bias]
    W, into, bias = (torch.tensor(each.todense() if hasattr(each, "todense") else each).double() for each in held)
    bias = bias.reshape(-1)

    def step(x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(h @ W.T + x @ into.T + bias)

    inputs = torch.tensor(drive).double()[:, None]
    start, state = torch.zeros(1, 100, dtype=torch.float64), torch.zeros(1, 100, dtype=torch.float64)
    for x in inputs:
        state = step(x, state)
    apart = float(np.abs(state.numpy()[0] - states[-1]).max())
    profile, seconds = timed(lambda: rnnvg.gradient_profile(step, inputs, start))
    answer = f"gradient horizon {profile.horizon().last} at 1/e, {profile.horizon(0.01).last} at 1 %"
    rows.append(row("memory of an echo state network", "rnnvg (the same states)", answer, "", apart, None, seconds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/side_by_side.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [*gradients(), *saliency(), *exponents(), *memory_capacity()]
    about = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.processor(),
        "rows": rows,
    }
    write_ours(given.out, json.dumps(about, indent=1) + "\n", "--out")
    shown = [
        (
            each["question"],
            each["tool"],
            each["answer"],
            each["truth"],
            "" if each["error"] is None else f"{each['error']:.1e}",
            "" if each["reach"] is None else str(each["reach"]),
            f"{each['seconds']:.3f}",
        )
        for each in rows
    ]
    columns = ["question", "tool", "answer", "truth", "largest error", "right up to (steps)", "seconds"]
    write_ours(given.out.with_suffix(".csv"), pd.DataFrame(shown, columns=columns).to_csv(index=False), "--out")
    for each in shown:
        print("{:32} {:34} {:42} {:26} {:>9} {:>5} {} s".format(*each))


if __name__ == "__main__":
    main()
