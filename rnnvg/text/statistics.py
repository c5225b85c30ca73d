"""What there is to remember: mutual information between words against their distance in a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rnnvg.errors import InputError, bounded, check_int


def mutual_information(ids: np.ndarray, distances: Sequence[int], *, most_words: int = 200) -> pd.DataFrame:
    """Mutual information, nats, between a word and the word d places after it, for each distance d.

    Estimated from counts of pairs, which is too high by about (cells seen - words seen before - words seen after + 1) / 2N
    nats (Miller 1955; Roulston 1999): `information` has that taken off and may fall below 0 by chance. All but the
    commonest words count as one, without which rare pairs would swamp it: a lower bound on the information of the words.

    Args:
        ids: word ids [N].
        distances: in words, each from 1 to N - 1.
        most_words: how many of the commonest words are told apart, at least 1.

    Returns:
        A row per distance: distance, information (corrected), plain (uncorrected), noise (what `information` would scatter
        by, one standard deviation, if words at that distance were independent), n (pairs).

    Raises:
        InputError: no distance, or one out of its range.

    Source: Li 1990; Lin and Tegmark 2017, who find a power law in natural text and an exponential in Markov chains.

    >>> found = mutual_information(np.arange(10_000) % 2, [1, 2])
    >>> bool(np.allclose(found["plain"], np.log(2), atol=1e-4))
    True
    """
    ids = np.asarray(ids)
    most_words = check_int("most_words", most_words, least=1)
    distances = list(bounded("distances", distances))
    if not distances:
        raise InputError("`distances` is empty; pass at least one, such as [1, 2, 5, 10].")
    chosen = [check_int("distances", d, least=1, most=len(ids) - 1) for d in distances]
    distinct, place = np.unique(ids, return_inverse=True)
    rank = np.argsort(np.argsort(-np.bincount(place), kind="stable"), kind="stable")
    classes = np.minimum(rank, most_words)[place].astype(np.int64)
    width = min(len(distinct), most_words + 1)
    rows = []
    for d in chosen:
        n = len(classes) - d
        joint = np.bincount(classes[:-d] * width + classes[d:], minlength=width * width).reshape(width, width)
        before, after = joint.sum(1), joint.sum(0)
        seen = joint > 0
        i, j = np.nonzero(seen)
        part = joint[seen] / n
        plain = float((part * np.log(part * n / before[i] * (n / after[j]))).sum())
        freedom = max(1, int(seen.sum() - (before > 0).sum() - (after > 0).sum() + 1))
        # 2 N times the plain estimate of independent words follows a chi-squared law, whose variance is twice its mean.
        rows.append((d, plain - freedom / (2 * n), plain, math.sqrt(2 * freedom) / (2 * n), n))
    return pd.DataFrame(rows, columns=["distance", "information", "plain", "noise", "n"])


@dataclass(frozen=True)
class PowerLaw:
    """information = floor + coefficient * distance ** -exponent, as far as it stands out of the noise.

    Attributes:
        exponent, coefficient: of the part that falls.
        floor: nats that words share at any distance, because one text is on one matter throughout; 0 or more.
        low, high: 95 % interval of the exponent from the points' scatter about the curve; one text is no sample of texts.
        last: the largest distance, words, that was used; from the smallest on, all were.
        n: distances used.
        rms: scatter about the curve, in units of ln information.
        rms_exponential: the same about the best floor + exponential decay: larger where a power law fits better.
    """

    exponent: float
    coefficient: float
    floor: float
    low: float
    high: float
    last: int
    n: int
    rms: float
    rms_exponential: float

    def at(self, distance: np.ndarray) -> np.ndarray:
        """The curve, nats."""
        return self.floor + self.coefficient * distance**-self.exponent

    def __str__(self) -> str:
        other = self.rms_exponential / self.rms if self.rms > 0 else math.inf
        comparison = (
            f"an exponential is {other:.1f} times as far from the points"
            if other > 1
            else f"an exponential is nearer to the points, by a factor of {1 / other:.1f}"
        )
        floor = f", to a floor of {self.floor:.2g} nats" if self.floor > 1e-9 else ""
        return (
            f"Mutual information falls as distance to the power -{self.exponent:.2f} ({-self.high:.2f} to {-self.low:.2f})"
            f"{floor}, seen up to {self.last} words; {comparison}."
        )


def power_law(information: pd.DataFrame, least: float = 3.0) -> PowerLaw | None:
    """The power law of a table of `mutual_information`; None where fewer than 5 distances stand out of the noise.

    Least squares in ln information.

    Args:
        information: as `mutual_information` gives it.
        least: distances count up to the first whose information is below so many standard deviations of the noise.

    Source: Lin and Tegmark 2017 (power laws in text); Clauset, Shalizi and Newman 2009 on why to look at a rival law too.

    >>> d = np.array([1, 2, 4, 8, 16, 32])
    >>> table = pd.DataFrame({"distance": d, "information": 0.01 + 0.5 * d**-0.8, "noise": 1e-9})
    >>> round(power_law(table).exponent, 4)
    0.8
    """
    from scipy import stats

    out = (information["information"] < least * information["noise"]).to_numpy()
    n = int(out.argmax()) if out.any() else len(out)
    if n < 5:
        return None
    distance = information["distance"].to_numpy(dtype=float)[:n]
    ln = np.log(information["information"].to_numpy()[:n])
    exponent, start, floor, slopes, left = _fall_to_a_floor(np.log(distance), ln)
    _, _, _, _, rival = _fall_to_a_floor(distance, ln)
    half = math.nan
    if n > 3:
        spread = np.linalg.pinv(slopes.T @ slopes)[0, 0] * (left @ left) / (n - 3)
        half = float(stats.t.ppf(0.975, n - 3) * math.sqrt(spread))
    return PowerLaw(
        exponent=exponent,
        coefficient=math.exp(start),
        floor=floor,
        low=exponent - half,
        high=exponent + half,
        last=int(distance[-1]),
        n=n,
        rms=float(np.sqrt(np.mean(left**2))),
        rms_exponential=float(np.sqrt(np.mean(rival**2))),
    )


def _fall_to_a_floor(x: np.ndarray, ln: np.ndarray) -> tuple[float, float, float, np.ndarray, np.ndarray]:
    """Least squares of ln = ln(floor + exp(start - rate * x)): rate, start, floor, Jacobian [n, 3], residuals [n]."""
    from scipy.optimize import least_squares

    lowest = float(np.exp(ln.min()))

    def left(of: np.ndarray) -> np.ndarray:
        rate, start, floor = of
        return np.logaddexp(math.log(floor * lowest + 1e-300), start - rate * x) - ln

    rate = float(-np.polyfit(x, ln, 1)[0])
    # Floors are tried in units of the least information; the steepest part need not show in the first guess.
    found = min(
        (
            least_squares(left, [each * rate, ln[0], floor], bounds=([-np.inf, -np.inf, 0], [np.inf, np.inf, 1]))
            for each in (1.0, 2.0)
            for floor in (1e-9, 0.5, 0.9)
        ),
        key=lambda fit: fit.cost,
    )
    rate, start, floor = found.x.tolist()
    return rate, start, floor * lowest, found.jac, found.fun


def spread_distances(longest: int, a_decade: int = 6) -> list[int]:
    """Distances from 1 to `longest`, evenly spread in the logarithm, about `a_decade` between a number and ten times it.

    >>> spread_distances(30, 3)
    [1, 2, 4, 8, 15, 30]
    """
    longest = check_int("longest", longest, least=1)
    n = max(2, math.ceil(a_decade * math.log10(longest)) + 1)
    return sorted({round(each) for each in np.geomspace(1, longest, n).tolist()})
