"""GradientProfile: gradient magnitude against time-step distance, and what can be asked of it.

Axes: S sources, K distances, B sequences.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnvg.bptt import curves
from rnnvg.errors import InputError, check_int, shown
from rnnvg.files import read_regular, write_ours
from rnnvg.horizon import MemoryHorizon, memory_horizon
from rnnvg.notebook import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from rnnvg.bptt.certificate import Certificate

# A saved profile is an archive of arrays without pickle. Its first member tells it from others: that name stands in the first
# bytes of the file.
FORMAT = "rnnvg profile"
MARK = re.compile(rb"\APK\x03\x04.{26}" + FORMAT.encode(), re.DOTALL)
VERSION = 1
_WRT = ("state", "hidden", "cell", "input")


@dataclass(frozen=True, repr=False)
class GradientProfile(Shown):
    """Gradient magnitude against distance, source by source and sequence by sequence.

    Attributes:
        log_norm: [S, K, B] float64, natural log of ||dL_source / d(wrt at distance k)||. -inf is an exact zero; nan lies
            before the start of the sequence, behind a state that is not finite, or below what the pass can hold (`note`).
            Distance 0 is the source's own state, source + 1 the initial state (for "input" that one is nan).
        sources: [S] steps at which the loss is applied, for a sequence of full length.
        distance: [K] whole numbers that ascend by 1: steps back from the source, negative where the source sees the future.
        wrt: "state", "hidden", "cell" or "input".
        layer: the layer it was restricted to, or None.
        first_nonfinite: [B] the first step whose state is inf or nan; -1 where there is none.
        note: what else the reader must know of these numbers, in sentences; empty where there is nothing.

    A part of the state or of the input (wrt, layer) that falls below the dtype's range relative to the whole adjoint (1e-45
    in float32, 1e-324 in float64) reads as -inf too: both live in one vector.

    Source: the adjoint of one loss at a time (Hochreiter 1991; Pascanu, Mikolov and Bengio 2013), in log space.

    >>> import torch, rnnvg
    >>> profile = rnnvg.gradient_profile(torch.nn.LSTM(3, 8), torch.randn(40, 4, 3), sources=[19, 39])
    >>> profile.log_norm.shape, profile.sources.tolist()
    ((2, 41, 4), [19, 39])
    >>> profile.curve().columns.tolist()[:2]
    ['distance', 'log10_gain']
    """

    log_norm: np.ndarray
    sources: np.ndarray
    distance: np.ndarray
    wrt: str
    layer: int | None = None
    first_nonfinite: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    note: str = ""
    origin: Any = field(default=None, repr=False, compare=False)

    def log_gain(self, reference: int = 1) -> np.ndarray:
        """log_norm relative to distance `reference`, [S, K, B] nats; nan for |k| < |reference| or an exactly zero reference.

        One step back by default: at distance 0 the gradient sits on the output alone, which would count an LSTM's
        hand-over from h to c as decay. A negative reference lies in the future: -1 where there is no past at all.
        """
        return curves.log_gain(self.log_norm, self.distance, self._reference(reference))

    def mean_log_gain(self, reference: int = 1) -> np.ndarray:
        """The mean of `log_gain` over sources and sequences, [K] nats; the median where one of them is an exact zero."""
        return curves.mean_curve(self.log_norm, self.distance, self._reference(reference))

    def _reference(self, reference: int) -> int:
        if reference == 1 and self.distance[-1] < 1:
            reference = -1
        return check_int("reference", reference, least=min(int(self.distance[0]), 0), most=int(self.distance[-1]))

    def curve(self, reference: int = 1) -> pd.DataFrame:
        """The gain over sources and sequences, a row per distance.

        Columns: distance; log10_gain (mean of the logs = geometric mean; the median where n_zero > 0); log10_gain_rms (root
        mean square, nan where fewer than 10 effective samples (sum g^2)^2 / sum g^4 carry it); low, high (10 and 90 %
        quantiles, log10: spread, not an interval over models); n (gains observed), n_zero (of them exactly zero).
        A source whose own gradient is zero is left out.
        """
        return curves.table(self.log_norm, self.distance, self._reference(reference))

    def horizon(self, threshold: float = math.exp(-1), reference: int = 1) -> MemoryHorizon:
        """The memory horizon of the mean log gain: the last distance at which `threshold` of the gradient is left.

        It looks into the past; with a negative `reference` into the future, its distances as positive numbers.

        Raises:
            InputError: `threshold` outside (0, 1), or no gain was observed at all: the message says why.
        """
        reference = self._reference(reference)
        gain = self.mean_log_gain(reference)
        past = gain[self.distance >= 0] if reference >= 0 else gain[self.distance <= 0][::-1]
        if np.isnan(past).all():
            raise InputError(self._nothing_observed(reference))
        return memory_horizon(past, threshold)

    def _nothing_observed(self, reference: int) -> str:
        """Why no gain relative to distance `reference` was observed, in one sentence."""
        batch = self.log_norm.shape[2]
        if np.isneginf(self.log_norm[:, self.distance == reference]).any():
            return (
                f"The gradient at distance {reference}, which all others are relative to, is exactly zero; pass another "
                "reference=."
            )
        if (self.first_nonfinite >= 0).sum() == batch:
            return (
                f"No gradient was observed: the {'output' if self.wrt == 'input' else 'state'} of all {batch} sequences is "
                f"inf or nan, first at step {self.first_nonfinite.min()}; pass inputs and weights under which it is finite."
            )
        return (
            f"No gradient was observed at distance {reference}, which all others are relative to; pass sequences of more "
            "steps, later sources, or another reference=."
        )

    def to_frame(self) -> pd.DataFrame:
        """Tidy: a row per source, distance and sequence that was observed; columns source, distance, sequence, log_norm."""
        import pandas as pd

        source, distance, sequence = np.nonzero(~np.isnan(self.log_norm))
        return pd.DataFrame(
            {
                "source": self.sources[source],
                "distance": self.distance[distance],
                "sequence": sequence,
                "log_norm": self.log_norm[source, distance, sequence],
            }
        )

    def __str__(self) -> str:
        sources, distances, sequences = self.log_norm.shape
        counts = ((sources, "source"), (distances, "distance"), (sequences, "sequence"))
        shape = " x ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in counts) + f", by the {self.wrt}"
        try:
            return f"{shape}: horizon {self.horizon()} steps at 1/e"
        except InputError:
            return f"{shape}: no gradient was observed"

    def _table(self) -> pd.DataFrame:
        return self.curve()

    def plot(self, ax: Axes | None = None) -> Axes:
        """The curve with its spread on a log axis; for many sources the source x time map. Returns the Axes."""
        from rnnvg.bptt import plots

        if len(self.sources) >= plots.MAP_FROM:
            return plots.draw_map(self.log_norm, self._reference(1), self.sources, self.distance, self.wrt, ax)
        return plots.draw_curve(self.curve(), self.wrt, str(self.horizon()), ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile to one .npz file (no pickle), in one move; what it was made from is not saved.

        Raises:
            InputError: a folder, or a file that `save` did not write, is there, or it cannot be written; an older file is
                then untouched.
        """
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            FORMAT: np.array(VERSION),
            "log_norm": self.log_norm,
            "sources": self.sources,
            "distance": self.distance,
            "note": np.array(self.note),
            "wrt": np.array(self.wrt),
            "layer": np.array(-1 if self.layer is None else self.layer),
            "first_nonfinite": self.first_nonfinite,
        }
        np.savez_compressed(buffer, **arrays)
        write_ours(os.fspath(path), buffer.getvalue(), mark=MARK)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> GradientProfile:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged or not a saved profile.
        """
        if not os.path.exists(path):
            raise InputError(f"`path` {shown(path)} is not a file; pass one that GradientProfile.save wrote.")
        content = read_regular(os.fspath(path))
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                if not isinstance(stored, np.lib.npyio.NpzFile):
                    raise ValueError("it is one array, not an archive")
                arrays: dict[str, np.ndarray] = {name: stored[name] for name in stored.files}
            return GradientProfile(**_fields(arrays))
        except (KeyError, ValueError, TypeError, IndexError, OSError, EOFError, AttributeError) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, SyntaxError, MemoryError) as error:
            what = str(error) or type(error).__name__
        raise InputError(
            f"`path` {shown(path)} is not a profile that GradientProfile.save wrote, or is damaged ({what[:160]})."
        )

    def verify(self, n: int = 8) -> Certificate:
        """Compare `n` entries with float64 autograd, and the weights' temporal contributions with `.grad`.

        A profile of `input_profile` is compared with finite differences.

        Raises:
            InputError: the profile was loaded from a file, or the recurrence's weights are gone.
        """
        if self.origin is None:
            raise InputError(
                "This profile was loaded from a file, without the recurrence it was made from; measure it again."
            )
        if isinstance(self.origin, str):  # why there is nothing to compare with
            raise InputError(self.origin)
        return self.origin.certify(self, n)


def _fields(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A profile's fields from the arrays of a file, checked; errors say what is wrong with it."""
    log_norm, sources, layer = arrays["log_norm"], arrays["sources"], arrays["layer"]
    if log_norm.ndim != 3 or log_norm.dtype != np.float64:
        raise ValueError(f"log_norm is {log_norm.dtype} {list(log_norm.shape)} and should be float64 [S, K, B]")
    n_sources, n_distances, batch = map(int, log_norm.shape)
    distance = arrays.get("distance", np.arange(int(n_distances)))
    first = arrays["first_nonfinite"]
    for name, array, size in (("sources", sources, n_sources), ("distance", distance, n_distances)):
        if array.shape != (size,) or array.dtype.kind != "i":
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)} and should be whole numbers [{size}]")
    if first.shape not in ((0,), (batch,)) or first.dtype.kind != "i":
        raise ValueError(f"first_nonfinite is {first.dtype} {list(first.shape)} and should be whole numbers [{batch}]")
    if layer.shape != () or layer.dtype.kind != "i":
        raise ValueError(f"layer is {layer.dtype} {list(layer.shape)} and should be a whole number")
    if (wrt := str(arrays["wrt"])) not in _WRT:
        raise ValueError(f"wrt is {wrt!r}")
    return {
        "log_norm": log_norm,
        "sources": sources,
        "distance": distance,
        "wrt": wrt,
        "layer": None if layer < 0 else int(layer),
        "first_nonfinite": first,
        "note": str(arrays["note"]) if "note" in arrays else "",
    }
