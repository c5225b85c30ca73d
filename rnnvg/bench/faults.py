"""What is wrong with a specification, all of it at once: one line a fault, with the place, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from rnnvg.errors import InputError, nearest, shown

Place = tuple[str | int, ...]
# Whoever has more faults reads the first ones and runs the command again.
MOST_SHOWN = 40


@dataclass(frozen=True)
class Fault:
    """One fault: where it is (keys and list indices from the top of the file) and what to do about it."""

    place: Place
    text: str


def faults_of(error: ValidationError, model: type[BaseModel], within: Place = ()) -> list[Fault]:
    """pydantic's list of errors in plain words, in the order of the fields; `within` is where `model` itself stands."""
    found: dict[Place, Fault] = {}
    for each in error.errors(include_url=False):
        # Union members and length checks name themselves in the location; a reader wants the key alone.
        place = tuple(part for part in each["loc"] if not (isinstance(part, str) and re.search(r"[\[\](]", part)))
        found.setdefault(place, Fault((*within, *place), _sentence(dict(each), model, place)))
    return list(found.values())


def in_plain_words(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """The faults of a specification that was made in code: a line each, with the field's dotted name."""
    return [f"{dotted(fault.place)} {fault.text}" for fault in faults_of(error, model)]


def refusal(source: str, faults: Iterable[Fault], text: str = "") -> InputError:
    """The one InputError that lists every fault of `source`, in the order of its lines, which come from `text`."""
    lines = line_numbers(text)
    listed = sorted(((_line_of(fault.place, lines), fault) for fault in faults), key=lambda pair: pair[0])
    rows = [f"  {f'line {line}, ' if line else ''}{dotted(fault.place)} {fault.text}" for line, fault in listed]
    count = "1 fault" if len(rows) == 1 else f"{len(rows)} faults"
    more = [f"  and {len(rows) - MOST_SHOWN} more."] if len(rows) > MOST_SHOWN else []
    return InputError("\n".join([f"{source} has {count}:", *rows[:MOST_SHOWN], *more]))


def dotted(place: Place) -> str:
    """The place as it is spoken of: task[2].training.lr, lists counted from 1.

    >>> dotted(("task", 1, "training", "lr"))
    '`task[2].training.lr`'
    """
    text = ""
    for part in place:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return f"`{text}`"


def unknown(name: object, known: Iterable[str]) -> str:
    """What to say of a key that does not exist, with the nearest right one."""
    options = list(known)
    guess = nearest(name, options)
    return f"is not known. {f'Did you mean {guess!r}? ' if guess else ''}Known here: {', '.join(options)}."


def no_such(name: object, known: Iterable[str]) -> str:
    """What to say of a name that does not exist, with the nearest right one."""
    options = list(known)
    guess = nearest(name, options)
    return f"has no {name!r}. {f'Did you mean {guess!r}? ' if guess else ''}Pass one of: {', '.join(options)}."


def line_numbers(text: str) -> dict[Place, int]:
    """Where each table and key of a TOML text stands, counted from 1; tomllib keeps no positions.

    >>> line_numbers('seeds = 3\\n[[task]]\\nname = "copy"')
    {('seeds',): 1, ('task', 0): 2, ('task', 0, 'name'): 3}
    """
    found: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line):
            keys: Place = ()
            for key in _keys(header[2]):
                # A table inside an array of tables belongs to its latest element.
                keys = (*keys, key)
                if keys in counts and keys != _keys(header[2]):
                    keys = (*keys, counts[keys])
            if header[1] == "[[":
                counts[keys] = counts.get(keys, -1) + 1
                keys = (*keys, counts[keys])
            table = keys
            found.setdefault(table, number)
        elif entry := re.match(r"\s*([\w.\-\"' ]+?)\s*=", line):
            found.setdefault((*table, *_keys(entry[1])), number)
    return found


def _keys(text: str) -> Place:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _line_of(place: Place, lines: Mapping[Place, int]) -> int:
    # A value inside a list stands on its key's line; a missing key on its table's.
    return next((lines[place[:size]] for size in range(len(place), 0, -1) if place[:size] in lines), 0)


def _sentence(error: Mapping[str, Any], model: type[BaseModel], place: Place) -> str:
    kind, value, bounds = error["type"], error["input"], error.get("ctx", {})
    got = f"; got {shown(value)}."
    if kind == "extra_forbidden":
        return unknown(place[-1], _names_at(model, place[:-1]))
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", str(bounds["expected"])) or [str(bounds["expected"])]
        return no_such(value, options)
    plain = {
        "missing": "is missing.",
        "greater_than": f"must be above {bounds.get('gt', 0):g}{got}",
        "greater_than_equal": f"must be at least {bounds.get('ge', 0):g}{got}",
        "less_than": f"must be below {bounds.get('lt', 0):g}{got}",
        "less_than_equal": f"must be at most {bounds.get('le', 0):g}{got}",
        "finite_number": f"must be a finite number{got}",
        "too_short": f"must have at least {bounds.get('min_length')} value{got}",
        "string_too_short": "must not be empty.",
        "none_required": f"must be left out{got}",
    }
    if kind in plain:
        return plain[kind]
    wanted = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "string": "text in quotes",
        "list": "a list",
        "tuple": "a list",
        "dict": "a table",
        "model": "a table",
    }
    # "int_type", "int_parsing", "int_from_float", "model_attributes_type", ... all say what was wanted first.
    return f"must be {wanted[kind.split('_')[0]]}{got}" if kind.split("_")[0] in wanted else f"{error['msg']}{got}"


def _names_at(model: type[BaseModel], place: Place) -> list[str]:
    """The names that the model at `place` knows."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            inner = model.model_fields[part].annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return [info.alias or name for name, info in model.model_fields.items()]
