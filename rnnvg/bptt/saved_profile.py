"""A profile as one .npz file: arrays without pickle, behind a mark that tells it from other archives.

Axes: S sources, K distances, B sequences.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from rnnvg.errors import InputError, shown
from rnnvg.files import read_regular, write_ours

if TYPE_CHECKING:
    from rnnvg.bptt.result import GradientProfile

# The first member of the archive: its name stands in the first bytes of the file.
FORMAT = "rnnvg profile"
MARK = re.compile(rb"\APK\x03\x04.{26}" + FORMAT.encode(), re.DOTALL)
VERSION = 1
_WRT = ("state", "hidden", "cell", "input")


def write(profile: GradientProfile, path: str | os.PathLike[str]) -> None:
    """What GradientProfile.save does."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        FORMAT: np.array(VERSION),
        "log_norm": profile.log_norm,
        "sources": profile.sources,
        "distance": profile.distance,
        "note": np.array(profile.note),
        "wrt": np.array(profile.wrt),
        "layer": np.array(-1 if profile.layer is None else profile.layer),
        "first_nonfinite": profile.first_nonfinite,
    }
    np.savez_compressed(buffer, **arrays)
    write_ours(os.fspath(path), buffer.getvalue(), mark=MARK)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of a profile, from what `write` wrote.

    Raises:
        InputError: there is no such file, it is not a saved profile, or it is damaged: what and where.
    """
    if not os.path.exists(path):
        raise InputError(f"`path` {shown(path)} is not a file; pass one that GradientProfile.save wrote.")
    content = read_regular(os.fspath(path))
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("it is one array, not an archive")
            arrays: dict[str, Any] = {name: stored[name] for name in stored.files}
        return _fields(arrays)
    except (KeyError, ValueError, TypeError, IndexError, OSError, EOFError, AttributeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, SyntaxError, MemoryError) as error:
        what = str(error) or type(error).__name__
    raise InputError(
        f"`path` {shown(path)} is not a profile that GradientProfile.save wrote, or is damaged ({what[:160]})."
    )


def _fields(arrays: dict[str, Any]) -> dict[str, Any]:
    log_norm, sources, layer = arrays["log_norm"], arrays["sources"], arrays["layer"]
    if log_norm.ndim != 3 or log_norm.dtype != np.float64:
        raise ValueError(f"log_norm is {log_norm.dtype} {list(log_norm.shape)} and should be float64 [S, K, B]")
    n_sources, n_distances, batch = log_norm.shape
    distance = arrays.get("distance", np.arange(n_distances))
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
