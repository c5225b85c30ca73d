"""What a user can get wrong, said in one sentence: the argument, what was found, what to pass instead.

The checks here are shared by every public function. No torch: `rnnvg --help` must start at once.
"""

from __future__ import annotations

import difflib
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TypeVar

# A count above it is a slip: of anything counted here, no machine holds so many.
LARGEST = 2**62
# An iterator that is read whole and gives more of anything than this has no end.
MOST_ITEMS = 1_000_000
Value = TypeVar("Value")


class InputError(ValueError):
    """Misuse that a user can mend: the message names the argument, what was found and what to pass.

    >>> import rnnvg
    >>> try:
    ...     rnnvg.memory_horizon([0.0, -1.0], threshold=2)
    ... except rnnvg.InputError as error:
    ...     print(error)
    `threshold` must be a number strictly between 0 and 1; got 2.
    """


class WorkersLostError(RuntimeError):
    """No worker starts or is left, or the scheduler went away; what is done is kept, and the same call goes on.

    >>> issubclass(WorkersLostError, RuntimeError)
    True
    """


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None where nothing is close.

    >>> nearest("lsmt", ["rnn", "lstm", "gru"])
    'lstm'
    """
    found = difflib.get_close_matches(str(name)[:100].lower(), [str(each) for each in known], n=1, cutoff=0.5)
    return found[0] if found else None


def check_name(argument: str, name: object, known: Iterable[str]) -> str:
    """`name` where it is one of `known`; otherwise an InputError with the nearest right one and the whole list."""
    options = list(known)
    if isinstance(name, str) and name in options:
        return name
    guess = nearest(name, options)
    hint = f"Did you mean {guess!r}? " if guess else ""
    raise InputError(f"`{argument}` has no {shown(name)}. {hint}Pass one of: {', '.join(options)}.")


def check_int(argument: str, value: object, *, least: int, most: int | None = None, ceiling: int = LARGEST) -> int:
    """`value` as an int of at least `least` (and at most `most`), or an InputError; above `ceiling` it is a slip."""
    bounds = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"`{argument}` must be {bounds}; got {shown(value)}.")
    number = int(value)
    if most is None and number > ceiling:
        raise InputError(f"`{argument}` is {shown(number)}, more than any machine holds; pass at most {ceiling}.")
    if number < least or (most is not None and number > most):
        raise InputError(f"`{argument}` must be {bounds}; got {shown(number)}.")
    return number


def check_flag(argument: str, value: object) -> bool:
    """`value` where it is True or False, or an InputError."""
    if not isinstance(value, bool):
        raise InputError(f"`{argument}` is {shown(value)}; pass True or False.")
    return value


def bounded(argument: str, values: Iterable[Value], most: int | None = None) -> Iterator[Value]:
    """`values` one after another; an InputError where an iterator gives more than `most` (None: MOST_ITEMS).

    A list, an array or a tensor has an end: it is never refused for its length. That something has a length is not enough: a
    DataLoader has one by its class, whatever it loads.

    >>> import itertools
    >>> try:
    ...     list(bounded("sources", itertools.count(), most=3))
    ... except InputError as error:
    ...     print(error)
    `sources` has no end after 3; pass a list, or itertools.islice(sources, 200).
    """
    if isinstance(values, Sequence | Set | Mapping) or hasattr(values, "__array__"):
        yield from values
        return
    most = MOST_ITEMS if most is None else most
    for number, value in enumerate(values):
        if number == most:
            raise InputError(
                f"`{argument}` has no end after {most}; pass a list, or itertools.islice({argument}, 200)."
            )
        yield value


def check_function(argument: str, value: object, form: str) -> None:
    """Nothing where `value` can be called, as `form` says; a class is not such a function."""
    if not callable(value) or isinstance(value, type):
        raise InputError(f"`{argument}` is {shown(value)}; pass a function {form}.")


def check_float(argument: str, value: object, *, above: float = -math.inf, below: float = math.inf) -> float:
    """`value` as a finite float strictly between `above` and `below`, or an InputError."""
    bounds = {
        (False, False): "a finite number",
        (True, False): f"a finite number above {above:g}",
        (False, True): f"a finite number below {below:g}",
        (True, True): f"a number strictly between {above:g} and {below:g}",
    }[math.isfinite(above), math.isfinite(below)]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"`{argument}` must be {bounds}; got {shown(value)}.")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number) or not above < number < below:
        raise InputError(f"`{argument}` must be {bounds}; got {number:g}.")
    return number


def shown(value: object, most: int = 160) -> str:
    """A value as a message shows it: as Python writes it, the middle left out where that is long.

    >>> shown("a" * 300, most=12)
    "'aaaaa...aaaa'"
    """
    text = repr(str(value) if isinstance(value, os.PathLike) else value)  # pyright: ignore[reportUnknownArgumentType]
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-(most // 2 - 1) :]}"
