"""The same gradients in units that networks share: weighted by the spread of the state, or taken at the input.

    sqrt(delta^T Cov(s) delta)      the effect of a typical change of the state
    ||dL_S/dx_t|| rms(x)            the effect of a typical change of the input

Hidden coordinates belong to each network: rescaling one hidden unit of a ReLU network, an exact symmetry, changes ||delta|| by
orders of magnitude and neither of these. Where they rank networks otherwise than the raw curve does, the raw ranking is one of
coordinates. Axes: S sources, K distances, B sequences, N state coordinates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from rnnvg.bptt import arguments
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.profile import GradientProfile, Origin, profiles_of
from rnnvg.bptt.segments import Linearization
from rnnvg.bptt.sweep import sweep
from rnnvg.errors import InputError
from rnnvg.horizon import MemoryHorizon, memory_horizon
from rnnvg.pytorch import eigh, from_numpy

COVARIANCE = "covariance"


def covariance_weighted(profile: GradientProfile) -> GradientProfile:
    """A profile's gradients as sqrt(delta^T Cov(s) delta), wrt "covariance"; nan at the initial state.

    Cov(s) is the covariance of the whole state over all steps up to the sources and all sequences: one matrix, so that what
    changes with distance is the gradient. `layer` of the profile plays no part.

    Raises:
        InputError: the profile was loaded from a file, a weight was changed since, or the recurrence has no states of its
            own (a Diagonal).

    >>> from rnnvg import gradient_profile
    >>> found = gradient_profile(torch.nn.GRU(1, 4), torch.randn(30, 8, 1))
    >>> covariance_weighted(found).log_norm.shape == found.log_norm.shape
    True
    """
    origin = _origin(profile)
    linear = linearize(origin.recurrence, origin.inputs, origin.state)
    root = _root_of_covariance(linear, origin.steps.max(0))
    whole = [slice(0, linear.size)]
    log_norm = sweep(linear, origin.steps, origin.covectors, whole, len(profile.distance), root=root)
    np.put_along_axis(log_norm, (origin.steps + 1)[:, None], np.nan, 1)  # the initial state has no covariance
    lost = np.isnan(profile.log_norm)
    return dataclasses.replace(
        profile, log_norm=np.where(lost, np.nan, log_norm), wrt=COVARIANCE, layer=None, origin=None
    )


def input_sensitivity(profile: GradientProfile) -> GradientProfile:
    """A profile's gradients as ||dL_S/dx_t|| rms(x), wrt "input"; rms over all steps, sequences and features.

    Raises:
        InputError: the profile was loaded from a file, a weight was changed since, or the recurrence has no input.

    >>> import torch, rnnvg
    >>> from rnnvg.bptt import input_sensitivity
    >>> profile = rnnvg.gradient_profile(torch.nn.GRU(3, 8), torch.randn(20, 4, 3), wrt="input")
    >>> input_sensitivity(profile).wrt
    'input'
    """
    origin = dataclasses.replace(_origin(profile), layer=None)
    linear = linearize(origin.recurrence, origin.inputs, origin.state)
    (found,) = profiles_of(linear, profile.sources, origin, ["input"])
    square = float(origin.inputs.double().square().mean())
    scale = 0.5 * math.log(square) if square > 0 else -math.inf
    return dataclasses.replace(found, log_norm=found.log_norm + scale)


@dataclass(frozen=True)
class RankingFlip:
    """Two networks whose order by memory horizon depends on the coordinates it is measured in.

    Attributes:
        first, second: names; by the raw state the first reaches farther.
        horizons: wrt ("state", "covariance", "input") -> the horizons of both.
        flipped: the wrt by which the second reaches farther.
    """

    first: str
    second: str
    horizons: dict[str, tuple[MemoryHorizon, MemoryHorizon]]
    flipped: tuple[str, ...]

    def __str__(self) -> str:
        both = ", ".join(f"{wrt} {one} against {two}" for wrt, (one, two) in self.horizons.items())
        return f"{self.first} reaches farther than {self.second} by its own state, not by {' and '.join(self.flipped)}: {both}"


def ranking_flips(profiles: Mapping[str, GradientProfile], threshold: float = math.exp(-1)) -> list[RankingFlip]:
    """The pairs of networks that the raw curve ranks one way and an invariant one the other.

    Args:
        profiles: name -> profile wrt "state" of each network, on the same task.
        threshold: of the memory horizons that are compared.

    Raises:
        InputError: fewer than two networks, a profile wrt something else, or what `covariance_weighted` raises.

    >>> import torch, rnnvg
    >>> from rnnvg.bptt import ranking_flips
    >>> inputs, cores = torch.randn(30, 4, 3), {"a": torch.nn.RNN(3, 8), "b": torch.nn.RNN(3, 8)}
    >>> ranking_flips({name: rnnvg.gradient_profile(core, inputs) for name, core in cores.items()})
    []
    """
    if len(profiles) < 2:
        raise InputError(f"`profiles` holds {len(profiles)} network; a ranking needs at least 2.")
    for name, profile in profiles.items():
        if profile.wrt != "state":
            raise InputError(f"`profiles` has {name!r} wrt {profile.wrt!r}; pass profiles wrt 'state'.")
    measures: dict[str, Callable[[GradientProfile], GradientProfile]] = {
        "state": lambda each: each,
        COVARIANCE: covariance_weighted,
        "input": input_sensitivity,
    }
    found = {
        wrt: {name: _horizon(measure(profile), threshold) for name, profile in profiles.items()}
        for wrt, measure in measures.items()
    }
    flips: list[RankingFlip] = []
    for one, two in combinations(profiles, 2):
        order = {wrt: compare(horizons[one], horizons[two]) for wrt, horizons in found.items()}
        flipped = tuple(wrt for wrt, sign in order.items() if sign == -order["state"] != 0)
        if flipped:
            first, second = (one, two) if order["state"] > 0 else (two, one)
            flips.append(
                RankingFlip(first, second, {wrt: (each[first], each[second]) for wrt, each in found.items()}, flipped)
            )
    return flips


def compare(one: MemoryHorizon, two: MemoryHorizon) -> int:
    """1 where the first is known to be longer, -1 where the second is, 0 where neither is."""
    if one.last > two.last and not two.censored:
        return 1
    return -1 if two.last > one.last and not one.censored else 0


def _horizon(profile: GradientProfile, threshold: float) -> MemoryHorizon:
    """Of the distances that every measure has: the initial state has neither an input nor a covariance."""
    return memory_horizon(profile.mean_log_gain()[:-1], threshold)


def _origin(profile: GradientProfile) -> Origin:
    origin = profile.origin
    if not isinstance(origin, Origin):
        raise InputError(
            "`profile` has no recurrence with it (it was loaded from a file, or made from another profile); measure it again."
        )
    if arguments.weight_versions(origin.recurrence) != origin.versions:
        raise InputError("A weight of the recurrence of `profile` has changed since; measure it again.")
    return origin


def _root_of_covariance(linear: Linearization, last: np.ndarray) -> Tensor:
    """R [N, N] with Cov(s) = R R^T over steps 0..last[b] of every sequence."""
    n, total = 0, torch.zeros(linear.size, dtype=torch.float64, device=linear.device)
    products = torch.zeros(linear.size, linear.size, dtype=torch.float64, device=linear.device)
    until = from_numpy(last).to(linear.device)
    for start, states in linear.states():
        steps = torch.arange(start, start + len(states), device=linear.device)
        rows = states[(steps.unsqueeze(1) <= until) & torch.isfinite(states).all(-1)].double()
        n += len(rows)
        total += rows.sum(0)
        products += rows.T @ rows
    mean = total / max(n, 1)
    covariance = products / max(n, 1) - torch.outer(mean, mean)
    spread = covariance.diagonal().clamp(min=0).sqrt()
    safe = torch.where(spread == 0, 1.0, spread)
    # Of the correlations: coordinates of very different size would take each other's digits.
    values, vectors = eigh(covariance / torch.outer(safe, safe))
    return (spread.unsqueeze(1) * vectors * values.clamp(min=0).sqrt()).to(linear.dtype)
