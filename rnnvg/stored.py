"""The one place where files that this project wrote are read back and checked: JSON against a model, a table against columns.

What does not fit is damaged: what and where, as a sentence. A file may have been edited, cut off, or written by anybody.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from rnnvg.errors import InputError, shown
from rnnvg.files import read_regular

if TYPE_CHECKING:
    import pandas as pd

# No file of ours that is read whole is larger.
MOST_BYTES = 1 << 26
Model = TypeVar("Model", bound=BaseModel)


class Damaged(InputError):
    """A file does not hold what was written to it."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        Damaged: it is not a regular file, cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_regular(path, most=MOST_BYTES))
    except InputError as error:
        raise Damaged(str(error)) from None
    except RecursionError:
        raise Damaged(f"{path.name} is nested too deeply") from None
    except ValueError:  # not JSON, not UTF-8, or a number of thousands of digits
        raise Damaged(f"{path.name} is not whole") from None


def fit(model: type[Model], content: Any, name: str) -> Model:
    """What a file holds, checked.

    Raises:
        Damaged: a key is missing or has another type: which.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Damaged(f"{name} is damaged at {shown(where)}: {first['msg']}"[:300]) from None
    except RecursionError:
        raise Damaged(f"{name} is nested too deeply") from None


def read_table(path: Path, columns: Mapping[str, Callable[[Any], Any]], empty: tuple[str, ...] = ()) -> pd.DataFrame:
    """A CSV file with these columns, in this order, as a frame.

    Args:
        columns: name -> what makes a cell's text its value, and raises ValueError where the text is none.
        empty: columns of which a cell may be empty; it is then nan.

    Raises:
        Damaged: it is not a regular file, cannot be read, has other columns, or a cell that does not fit: which.
    """
    import numpy as np
    import pandas as pd

    try:
        content = read_regular(path, most=MOST_BYTES).decode("utf-8")
        frame = pd.read_csv(io.StringIO(content), dtype=str, keep_default_na=False)
    except InputError as error:
        raise Damaged(str(error)) from None
    except (ValueError, IndexError) as error:  # not UTF-8, no columns, rows of different lengths
        raise Damaged(f"{path.name} is not a whole table ({str(error).strip()[:100]})") from None
    if list(frame.columns) != list(columns):
        raise Damaged(
            f"{path.name} has the columns {shown(', '.join(frame.columns))} instead of '{', '.join(columns)}'"
        )
    for name, read in columns.items():
        cells: list[Any] = []
        for line, text in enumerate(frame[name], start=2):
            try:
                if not isinstance(text, str):  # nan: the line ends before it
                    raise ValueError
                cells.append(np.nan if text == "" and name in empty else read(text))
            except (ValueError, OverflowError):
                raise Damaged(f"{path.name} is damaged at {name}, line {line}: {shown(text, 60)}") from None
        frame[name] = cells
    return frame
