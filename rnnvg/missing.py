"""What is not there: nan among numbers, None in JSON and for objects. No torch, no numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast


def number(value: Any) -> float:
    """A number as a float, nan for None.

    >>> number(3), number(None)
    (3.0, nan)
    """
    return math.nan if value is None else float(value)


def finite(value: Any) -> Any:
    """`value` for JSON, which has neither nan nor infinities: None for each, and Python's numbers for numpy's.

    >>> finite({"rate": math.nan, "lengths": (1, 2.5, -math.inf)})
    {'rate': None, 'lengths': [1, 2.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in cast("list[Any]", value)]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
