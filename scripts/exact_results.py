"""Results that are known exactly, measured: value, closed form, tolerance and verdict for each.

    python scripts/exact_results.py [--out results/exact_results.json]    # and the same as .csv

The tolerance of a row stands in TOLERANCES with its reason, and was written before the row was measured. Finite-size rows are
means over networks drawn apart.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import rnnvg
from rnnvg.bptt.linearize import linearize
from rnnvg.files import write_ours

TOLERANCES = {
    "fisher": (1e-9, "float64 over some hundred steps; what is left of the sum beyond them is below 1e-12"),
    "square": (
        0.15,
        "three standard errors: 1,000 sequences of 200 steps, correlated over about 10, make 21,000 squares",
    ),
    "sensitivity": (
        12.0,
        "three standard errors: the derivative's squares are correlated over about 20 steps, 1.5 % in all",
    ),
    "sum": (1e-9, "the determinant is -0.3 at every step: rounding of 20,000 float64 sums alone"),
    "henon": (5e-3, "the mean over 20,000 steps of a chaotic orbit: its standard error is about 1e-3"),
    "dimension": (5e-3, "from the two exponents above"),
    "default": (0.02, "finite size: the deviation falls as 1/N, and N is at most 1024"),
    "scaling": (0.3, "log-log slope of the deviation over five widths, ten networks each"),
    "own": (0.02, "one vector turns towards a pair of eigenvalues over 200 steps; the angle leaves about 2 / 200"),
    "excess": (0.3, "log-log slope over four widths, ten networks each; logarithms of N bend it (Rider 2003)"),
    "edge": (0.02, "finite size at N = 512: the spectral radius fluctuates by N^(-1/2) and less"),
}


FINITE_SIZE = (
    "The tolerance left out how slowly the spectral radius of a Gaussian matrix comes down to 1: at N = 512 it is still "
    "2 to 4 % above (Rider 2003). The rows below hold each exponent against its own matrix."
)
STATE_ALIVE = (
    "Some matrices of 64 units have a spectral radius above 1 although g is 0.9. Their state does not die, the slopes of its "
    "tanh bring the exponent down, and ln of the radius is then no longer it."
)


@dataclass(frozen=True)
class Row:
    """One exact result: what, where it is from, the closed form, what was measured, and the verdict."""

    name: str
    source: str
    exact: float
    measured: float
    tolerance: float
    reason: str
    analysis: str = ""  # where the verdict is "not": the cause

    @property
    def verdict(self) -> str:
        """Reproduced, or not."""
        return "reproduced" if abs(self.measured - self.exact) <= self.tolerance else "not"


def fisher_memory() -> Row:
    """A normal linear network: Fisher memory v' (W^k)' C^-1 W^k v, summed over k, is 1 (C the noise's covariance)."""
    N, steps = 30, 1500
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64)).Q
    eigenvalues = torch.empty(N, dtype=torch.float64).uniform_(-0.98, 0.98, generator=generator)
    W = Q @ torch.diag(eigenvalues) @ Q.T
    v = torch.nn.functional.normalize(torch.randn(N, generator=generator, dtype=torch.float64), dim=0)
    noise = torch.linalg.inv(torch.eye(N, dtype=torch.float64) - W @ W)  # sum of W^k W^k', W being symmetric
    linear = linearize(
        lambda x, h: h @ W.T, torch.zeros(steps, 1, 1, dtype=torch.float64), torch.zeros(1, N, dtype=torch.float64)
    )
    tangent, total = v[None], 0.0
    for step in range(steps):
        total += float(tangent[0] @ torch.linalg.solve(noise, tangent[0]))
        tangent = linear.pushforward(step, tangent)
    return Row(
        "Fisher memory of a normal linear network",
        "Ganguli, Huh and Sompolinsky 2008",
        1.0,
        total,
        *TOLERANCES["fisher"],
    )


def scalar_sensitivity() -> list[Row]:
    """h' = 0.9 h + x on white noise: the mean square of h, and of its derivative by the 0.9, which no gradient of h shows."""
    decay = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(400, 1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = rnnvg.parameter_sensitivity(
        lambda x, h: decay * h + x,
        inputs,
        torch.zeros(1000, 1, dtype=torch.float64),
        parameters={"decay": decay},
        burn_in=200,
    )
    source = "Zucchet and Orvieto 2024: 1 / (1 - a^2) and (1 + a^2) / (1 - a^2)^3"
    square, slope = 1 / (1 - 0.9**2), (1 + 0.9**2) / (1 - 0.9**2) ** 3
    return [
        Row("mean square of a linear unit, decay 0.9", source, square, found.output_square, *TOLERANCES["square"]),
        Row(
            "mean square of its derivative by the decay", source, slope, found.mean["decay"], *TOLERANCES["sensitivity"]
        ),
    ]


def henon() -> list[Row]:
    """Both exponents of the Henon map, and the Kaplan-Yorke dimension."""

    def step(_: Tensor, s: Tensor) -> Tensor:
        return torch.stack([1 - 1.4 * s[:, 0] ** 2 + s[:, 1], 0.3 * s[:, 0]], -1)

    inputs, start = torch.zeros(20_000, 1, 1, dtype=torch.float64), torch.tensor([[0.1, 0.1]], dtype=torch.float64)
    first, second = rnnvg.lyapunov_spectrum(step, inputs, start, burn_in=200).exponents[0]
    source = "Henon 1976; Sprott 2003, appendix A"
    return [
        Row("largest exponent of the Henon map", source, 0.41922, float(first), *TOLERANCES["henon"]),
        Row("sum of its exponents, ln 0.3", source, math.log(0.3), float(first + second), *TOLERANCES["sum"]),
        Row("its Kaplan-Yorke dimension", source, 1.25826, 1 + float(first) / -float(second), *TOLERANCES["dimension"]),
    ]


def largest(hidden: int, spread: float, seed: int, steps: int = 400) -> tuple[float, float]:
    """The largest exponent of h' = tanh(W h) with entries N(0, spread^2 / N), and ln of W's own spectral radius."""
    torch.manual_seed(seed)
    rnn = nn.RNN(1, hidden, bias=False, dtype=torch.float64)
    recurrent = dict(rnn.named_parameters())["weight_hh_l0"]
    nn.init.normal_(recurrent, std=spread / math.sqrt(hidden))
    start = torch.randn(1, 1, hidden, dtype=torch.float64)
    inputs = torch.zeros(steps, 1, 1, dtype=torch.float64)
    found = rnnvg.lyapunov_spectrum(rnn, inputs, start, n_exponents=1, burn_in=steps // 2)
    radius = float(torch.linalg.eigvals(recurrent.detach()).abs().max())
    return float(found.exponents[0, 0]), math.log(radius)


def default_initialisation() -> list[Row]:
    """PyTorch's default: entries of variance 1/(3N), so a wide network near 0 loses ln(1/sqrt 3) a step on average."""
    widths, seeds = (64, 128, 256, 512, 1024), range(10)
    exact = -math.log(3) / 2
    means, deviations = [], []
    for hidden in widths:
        rates = []
        for seed in seeds:
            torch.manual_seed(seed)
            rnn = nn.RNN(1, hidden, bias=False, dtype=torch.float64)
            # One sequence for each coordinate: the mean square over all directions is what mean-field theory predicts.
            inputs = torch.zeros(12, hidden, 1, dtype=torch.float64)
            grad = torch.zeros(12, hidden, hidden, dtype=torch.float64)
            grad[-1] = torch.eye(hidden, dtype=torch.float64)
            log_norm = rnnvg.gradient_profile(rnn, inputs, output_grad=grad).log_norm[0]
            square = np.log(np.mean(np.exp(2 * log_norm[1:11]), axis=1))
            rates.append(float(np.polyfit(np.arange(10), square, 1)[0] / 2))
        means.append(float(np.mean(rates)))
        deviations.append(float(np.std(rates)))
    slope = float(np.polyfit(np.log(widths), np.log(deviations), 1)[0])
    source = "entry variance 1/(3N); Chen, Pennington and Schoenholz 2018"
    return [
        Row(
            f"rate of PyTorch's default initialisation, N = {widths[-1]}",
            source,
            exact,
            means[-1],
            *TOLERANCES["default"],
        ),
        Row("scatter over networks falls as N to the power of", source, -1.0, slope, *TOLERANCES["scaling"]),
    ]


def edge_of_chaos() -> list[Row]:
    """h' = tanh(g J h): below g = 1 the exponent is ln g, at 1 it is 0, beyond it is positive."""
    source = "Sompolinsky, Crisanti and Sommers 1988 (here in discrete time)"
    rows = []
    for spread in (0.8, 0.9, 1.0):
        value = float(np.mean([largest(512, spread, seed)[0] for seed in range(3)]))
        exact = math.log(spread)
        rows.append(
            Row(
                f"exponent of a random tanh network, g = {spread}",
                source,
                exact,
                value,
                *TOLERANCES["edge"],
                FINITE_SIZE,
            )
        )
    # At finite N the matrix itself decides: below the edge the state dies, and the exponent is ln of its spectral radius.
    widths = (64, 128, 256, 512)
    found = {hidden: [largest(hidden, 0.9, seed) for seed in range(10)] for hidden in widths}
    apart = max(abs(value - radius) for pairs in found.values() for value, radius in pairs)
    what = "g = 0.9: exponent - ln(spectral radius of W), largest of "
    rows.append(Row(f"{what}40", source, 0.0, apart, *TOLERANCES["own"], STATE_ALIVE))
    dying = [abs(value - radius) for pairs in found.values() for value, radius in pairs if radius < 0]
    rows.append(Row(f"{what}{len(dying)} with radius < 1", source, 0.0, max(dying), *TOLERANCES["own"]))
    above = [float(np.mean([value for value, _ in found[hidden]])) - math.log(0.9) for hidden in widths]
    slope = float(np.polyfit(np.log(widths), np.log(above), 1)[0])
    rows.append(Row("g = 0.9: excess over ln g falls as N to the power of", source, -0.5, slope, *TOLERANCES["excess"]))
    positive = min(largest(512, 1.5, seed)[0] for seed in range(3))
    rows.append(
        Row(
            "g = 1.5: smallest of three exponents is positive (1: yes)", source, 1.0, float(positive > 0), 0.0, "a sign"
        )
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/exact_results.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [fisher_memory(), *scalar_sensitivity(), *henon(), *default_initialisation(), *edge_of_chaos()]
    about = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rows": [{**asdict(each), "verdict": each.verdict} for each in rows],
    }
    write_ours(given.out, json.dumps(about, indent=1) + "\n", "--out")
    columns = ["result", "exact", "measured", "tolerance", "verdict", "analysis"]
    shown = [
        (each.name, f"{each.exact:.5f}", f"{each.measured:.5f}", f"{each.tolerance:g}", each.verdict, each.analysis)
        for each in rows
    ]
    write_ours(given.out.with_suffix(".csv"), pd.DataFrame(shown, columns=columns).to_csv(index=False), "--out")
    for each in rows:
        print(f"{each.name:68} {each.exact:>10.5f} {each.measured:>10.5f}  +-{each.tolerance:g}  {each.verdict}")


if __name__ == "__main__":
    main()
