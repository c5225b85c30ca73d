"""A directory's tables in one place: runs, curves, training and horizons, as CSV or Parquet."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import pandas as pd

from rnnvg.bench import tables
from rnnvg.bench.store import Store, runs_frame
from rnnvg.errors import InputError, check_name
from rnnvg.files import named_folder, table_mark, write_set

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
        InputError: a file that rnnvg did not write stands where one of the four belongs: none is then written.
        StorageError: the folder cannot be written.

    >>> import tempfile
    >>> from rnnvg import bench
    >>> training = {"steps": 2, "batch": 4, "eval_size": 10}
    >>> spec = bench.run_spec({"name": "adding", "length": 5}, "rnn", hidden=4, training=training)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = bench.execute(spec, folder)
    ...     [path.suffix for path in bench.export(folder, f"{folder}/out")][:1]
    ['.csv']
    """
    check_name("format", form, FORMATS)
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError("`format` 'parquet' needs pyarrow. Install it with: pip install 'rnnvg[parquet]'.")
    # One store: what it has hashed once it does not hash again for the next table.
    store, marks = Store(directory), {}
    contents: dict[str, Any] = {f"runs.{form}": _bytes(runs_frame(store), form)}
    results = store.results()
    for source, file in tables.MERGED.items():
        if form == "csv":  # as it lies in the runs, piece by piece: no number is read and written again
            contents[file] = tables.merge(results, store.folder, source)
            marks[file] = table_mark((*tables.NAMED, *tables.COLUMNS[source]))
        else:
            contents[f"{file.removesuffix('.csv')}.{form}"] = _bytes(store.frame(file), form)
    folder = named_folder(out)
    write_set(folder, contents, marks=marks)
    return [folder / name for name in contents]


def _bytes(frame: pd.DataFrame, form: str) -> bytes:
    if form == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode()
    # Settings of different tasks share columns: one type each, as text where they do not agree.
    mixed = [name for name in frame if len({type(each) for each in frame[name].dropna()}) > 1]
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(frame.astype(dict.fromkeys(mixed, "string")), preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"rnnvg": b"1"})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()
