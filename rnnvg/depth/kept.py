"""Parts of a long measurement kept as they end, so that what is done survives a kill. JSON, and nothing but known types."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from rnnvg.files import check_ours, make_folder, mark_of, remove_ours, write_whole
from rnnvg.stored import Damaged, fit, read_json

_KIND = "!"
MARK = mark_of(".json", '{"made_from":')
Value = TypeVar("Value")


class Part(BaseModel):
    """A part's file: what it was made from, its value, and the sha256 of the two, by which a change is found."""

    model_config = ConfigDict(extra="forbid", strict=True)

    made_from: Any
    value: Any
    checksum: str

    def whole(self) -> bool:
        """Whether it is as it was written."""
        return self.checksum == _checksum(self.made_from, self.value)


class Kept:
    """A folder with a file for each part: what it was made from, and its value.

    Args:
        folder: made where it is missing. None: nothing is kept.
        made_from: everything that the parts depend on, as JSON values; a file of anything else is made anew.
        classes: the dataclasses that a value may hold.
    """

    def __init__(self, folder: Path | None, made_from: Any, classes: Iterable[type]) -> None:
        self.folder = folder
        self.made_from = json.loads(json.dumps(made_from))
        self.classes = {each.__name__: each for each in classes}

    def get(self, name: str, make: Callable[[], Value]) -> Value:
        """The part of that name, from its file or made now and written.

        Raises:
            InputError: a file that is no such part is where it belongs.
            OSError: the folder cannot be written.
        """
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.json"
        if path.is_file():
            try:
                stored = fit(Part, read_json(path), path.name)
                if stored.whole() and stored.made_from == self.made_from:
                    return self._decoded(stored.value)
            except (Damaged, ValueError, KeyError, TypeError, RecursionError):
                pass  # not what this version wrote: made anew
        check_ours(path, MARK, "out")
        value = make()
        make_folder(self.folder)
        stored = {"made_from": self.made_from, "value": self._encoded(value)}
        write_whole(path, json.dumps(stored | {"checksum": _checksum(**stored)}))
        return value

    def has(self, name: str) -> bool:
        """Whether there is a file for that part."""
        return self.folder is not None and (self.folder / f"{name}.json").is_file()

    def clear(self, names: Iterable[str]) -> None:
        """Remove the parts of these names, and the folder where nothing else is in it."""
        if self.folder is None or not self.folder.is_dir():
            return
        for name in names:
            remove_ours(self.folder / f"{name}.json", MARK)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _encoded(self, value: Any) -> Any:
        if type(value).__name__ in self.classes:
            # What is not compared (a profile's origin: a network) is not kept either.
            fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.compare}
            return {_KIND: type(value).__name__, **{name: self._encoded(each) for name, each in fields.items()}}
        if isinstance(value, pd.DataFrame):
            columns = {str(name): self._encoded(value[name].to_numpy()) for name in value.columns}
            return {_KIND: "frame", "columns": columns}
        if isinstance(value, np.ndarray):
            return {
                _KIND: "array",
                "dtype": str(value.dtype),
                "shape": list(value.shape),
                "values": value.ravel().tolist(),
            }
        if isinstance(value, tuple):
            return {_KIND: "tuple", "values": [self._encoded(each) for each in value]}
        if isinstance(value, dict):
            return {_KIND: "dict", "items": {name: self._encoded(each) for name, each in value.items()}}
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"a {type(value).__name__} cannot be kept")

    def _decoded(self, stored: Any) -> Any:
        if not isinstance(stored, dict):
            return stored
        kind = stored[_KIND]
        if kind == "frame":
            return pd.DataFrame({name: self._decoded(each) for name, each in stored["columns"].items()})
        if kind == "array":
            return np.array(stored["values"], dtype=stored["dtype"]).reshape(stored["shape"])
        if kind == "tuple":
            return tuple(self._decoded(each) for each in stored["values"])
        if kind == "dict":
            return {name: self._decoded(each) for name, each in stored["items"].items()}
        return self.classes[kind](**{name: self._decoded(each) for name, each in stored.items() if name != _KIND})


def _checksum(made_from: Any, value: Any) -> str:
    return hashlib.sha256(json.dumps([made_from, value], sort_keys=True).encode()).hexdigest()
