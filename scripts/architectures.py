"""Ten architectures, one task, one axis: each trained on adding, and how far its gradient reaches by the input.

python scripts/architectures.py OUT [--steps 1200] [--length 30] [--seed 0]

Writes OUT/architectures.json (settings, scores, horizons, curves) and OUT/architectures.png. Every architecture has the same
encoder, readout, width, batches and optimiser; the curves are `rnnvg.input_profile` of the whole model at its last output.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import rnnvg
from rnnvg.bptt.cells.linear_attention import DeltaNetCell
from rnnvg.bptt.cells.min_rnn import MinGRUCell
from rnnvg.bptt.cells.oscillators import LEMCell
from rnnvg.bptt.cells.selective import S6Cell
from rnnvg.bptt.cells.state_space import LRUCell

WIDTH, BATCH, PROBE, RATE = 32, 32, 64, 5e-3


class Fused(nn.Module):
    """One of PyTorch's recurrent modules, its output alone."""

    def __init__(self, kind: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.core, self.width = kind(WIDTH, WIDTH), WIDTH

    def forward(self, x: Tensor) -> Tensor:
        return self.core(x)[0]


class Looped(nn.Module):
    """A cell over the steps; of a complex state both parts, of a state of several parts the first."""

    def __init__(self, cell: nn.Module, width: int) -> None:
        super().__init__()
        self.cell, self.width = cell, width

    def forward(self, x: Tensor) -> Tensor:
        state, rows = None, []
        for each in x:
            state = self.cell(each, state)
            rows.append(state[0] if isinstance(state, tuple) else state)
        found = torch.stack(rows)
        return torch.cat([found.real, found.imag], -1) if found.is_complex() else found


class Attention(nn.Module):
    """A causal transformer of two layers with learned positions."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.width, self.places = WIDTH, nn.Parameter(0.1 * torch.randn(length, 1, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(len(x)).to(x)
        return self.layers(x + self.places, mask=mask)


class Convolution(nn.Module):
    """Causal convolutions of width 3, dilated 1, 2, 4, 8: they reach 30 steps back."""

    def __init__(self) -> None:
        super().__init__()
        self.width = WIDTH
        self.layers = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, dilation=2**k) for k in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(1, 2, 0)
        for k, layer in enumerate(self.layers):
            x = x + F.gelu(layer(F.pad(x, (2 * 2**k, 0))))
        return x.permute(2, 0, 1)


class Model(nn.Module):
    """Inputs [T, B, 2] -> encoder -> core -> readout of the last step, [B, 1]."""

    def __init__(self, core: Any) -> None:
        super().__init__()
        self.encoder, self.core = nn.Sequential(nn.Linear(2, WIDTH), nn.GELU()), core
        self.readout = nn.Sequential(nn.Linear(core.width, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.core(self.encoder(x))[-1])


def cores(length: int) -> dict[str, Any]:
    return {
        "RNN": lambda: Fused(nn.RNN),
        "LSTM": lambda: Fused(nn.LSTM),
        "GRU": lambda: Fused(nn.GRU),
        "minGRU": lambda: Looped(MinGRUCell(WIDTH, WIDTH), WIDTH),
        "LRU": lambda: Looped(LRUCell(WIDTH, WIDTH, 0.9, 0.999), 2 * WIDTH),
        "S6": lambda: Looped(S6Cell(WIDTH, 4), 4 * WIDTH),
        "DeltaNet": lambda: Looped(DeltaNetCell(WIDTH, 8, 8), 64),
        "LEM": lambda: Looped(LEMCell(WIDTH, WIDTH), WIDTH),
        "attention": lambda: Attention(length),
        "TCN": Convolution,
    }


def train(model: Model, task: Any, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for _ in range(steps):
        batch = task.batch(BATCH, generator)
        loss = F.mse_loss(model(batch.inputs), batch.targets.reshape(BATCH, -1)[:, -1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def error(model: Model, probe: Any) -> float:
    with torch.no_grad():
        return float(F.mse_loss(model(probe.inputs), probe.targets.reshape(PROBE, -1)[:, -1:]))


def measure(model: Model, probe: Any) -> dict[str, Any]:
    profile = rnnvg.input_profile(model, probe.inputs, causal=False)
    curve = profile.curve().query("n > 0")
    gain = [None if not math.isfinite(value) else round(value, 4) for value in curve["log10_gain"]]
    return {
        "horizon": str(profile.horizon()),
        "tenth": str(profile.horizon(0.1)),
        "distance": curve["distance"].tolist(),
        "log10_gain": gain,
        "note": profile.note,
    }


def draw(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    colours = matplotlib.colormaps["tab10"](np.arange(10))
    for ax, when in zip(axes, ("before", "after"), strict=True):
        for colour, (name, row) in zip(colours, found["architectures"].items(), strict=True):
            gain = [math.nan if value is None else value for value in row[when]["log10_gain"]]
            label = f"{name}: {row[when]['horizon']}"
            style = "--" if name in ("attention", "TCN") else "-"
            ax.plot(row[when]["distance"], gain, style, color=colour, label=label, linewidth=1.6)
        ax.axhline(-math.log10(math.e), color="0.5", linestyle=":", linewidth=1)
        ax.set_title("untrained" if when == "before" else f"after {found['steps']} training steps")
        ax.set_xlabel("distance back from the output (steps)")
        ax.set_ylim(-8, 2)
        ax.legend(title="horizon at 1/e", fontsize="small", frameon=False, ncols=2, loc="lower left")
    axes[0].set_ylabel("log10 gain of the gradient by the input")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    for name, value in (("steps", 1200), ("length", 30), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = rnnvg.tasks.make("adding", length=options.length)
    probe = task.batch(PROBE, torch.Generator().manual_seed(10_000 + options.seed))
    begun, rows = time.time(), {}
    for name, core in cores(options.length).items():
        torch.manual_seed(options.seed)
        model, start = Model(core()), time.time()
        before = measure(model, probe)
        train(model, task, options.steps, options.seed)
        rows[name] = {
            "parameters": sum(each.numel() for each in model.parameters()),
            "error": round(error(model, probe), 5),
            "before": before,
            "after": measure(model, probe),
            "seconds": round(time.time() - start, 1),
        }
        print(
            name,
            rows[name]["error"],
            before["horizon"],
            rows[name]["after"]["horizon"],
            rows[name]["seconds"],
            flush=True,
        )
    found = {
        "task": "adding",
        "length": options.length,
        "steps": options.steps,
        "seed": options.seed,
        "width": WIDTH,
        "batch": BATCH,
        "learning_rate": RATE,
        "baseline": 1 / 6,
        "torch": torch.__version__,
        "seconds": round(time.time() - begun, 1),
        "architectures": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "architectures.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, options.out / "architectures.png")


if __name__ == "__main__":
    main()
