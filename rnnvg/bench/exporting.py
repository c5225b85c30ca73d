"""A directory's tables in one place: runs, curves, training and horizons, as CSV or Parquet."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd

from rnnvg.bench import tables
from rnnvg.bench.files import disk_faults_named, write_whole
from rnnvg.bench.store import Store, load_results
from rnnvg.errors import InputError, check_name

FORMATS = ("csv", "parquet")


def export(directory: str | Path, out: str | Path, form: str = "csv") -> list[Path]:
    """Writes runs (a row a run, as `load_results` gives them), curves, training and horizons.

    Args:
        directory: what a benchmark or a comparison wrote.
        out: folder for the four tables; made where it is missing.
        form: "csv", every number in full, or "parquet" (with the extra of that name).

    Returns:
        The paths of the files.

    Raises:
        InputError: the directory holds no results, there is no such format, or Parquet cannot be written here.
        StorageError: the folder cannot be written.
    """
    check_name("format", form, FORMATS)
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError("`format` 'parquet' needs pyarrow. Install it with: pip install 'rnnvg[parquet]'.")
    frames = {"runs": load_results(directory)}
    frames |= {file.removesuffix(".csv"): Store(directory).frame(file) for file in tables.MERGED.values()}
    folder = Path(out)
    with disk_faults_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in frames.items():
            write_whole(folder / f"{name}.{form}", _bytes(frame, form))
    return [folder / f"{name}.{form}" for name in frames]


def _bytes(frame: pd.DataFrame, form: str) -> bytes:
    if form == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode()
    # Settings of different tasks share columns: one type each, as text where they do not agree.
    mixed = [name for name in frame if len({type(each) for each in frame[name].dropna()}) > 1]
    return bytes(frame.astype(dict.fromkeys(mixed, "string")).to_parquet(None, index=False, engine="pyarrow") or b"")
