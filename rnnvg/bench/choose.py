"""A part of a benchmark: the runs whose ids match, or one of several equal shares."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from rnnvg.bench.spec import RunSpec, is_cut_off, short_id
from rnnvg.errors import InputError


def matches(run: str, patterns: Sequence[str]) -> bool:
    """Whether an id matches one of `patterns`; none at all match every id.

    A pattern with * or ? is held against the whole id, one without against whole words of it, between hyphens. An id may be
    cut off within its digits; cut to 8 of them it is as ids once were.

    >>> run = "adding-T50-rnn-relu-h64-s1-1a2b3c4d5e6f"
    >>> matches(run, ["s1"]), matches(run, ["s"]), matches(run, ["rnn-relu-h64"]), matches(run, ["adding-*-s2-*", "*T50*"])
    (True, False, True, True)
    >>> matches(run, ["adding-T50-rnn-relu-h64-s1-1a2b"]), matches(run, ["1a2b3c4d"]), matches(run, ["adding-T5"])
    (True, True, False)
    """
    return not patterns or any(_matches(run, each) or _matches(short_id(run), each) for each in patterns)


def _matches(run: str, pattern: str) -> bool:
    if set("*?[") & set(pattern):
        return fnmatch.fnmatchcase(run, pattern)
    return f"-{pattern}-" in f"-{run}-" or is_cut_off(pattern, run)


def only(specs: Sequence[RunSpec], patterns: Sequence[str]) -> list[RunSpec]:
    """The runs whose ids match one of `patterns`.

    Raises:
        InputError: a pattern matches none.
    """
    for pattern in patterns:
        if specs and not any(matches(spec.id, [pattern]) for spec in specs):
            raise InputError(
                f"`--only` {pattern!r} matches none of the {len(specs)} runs. Pass words of their ids or a pattern with *, "
                f"such as lstm or '*-s0-*'; the first id is {specs[0].id}."
            )
    return [spec for spec in specs if matches(spec.id, patterns)]


def share(text: str) -> tuple[int, int]:
    """The share and their number, of a text such as "3/8".

    Raises:
        InputError: it is no share.

    >>> share("3/8")
    (3, 8)
    """
    number, slash, of = text.partition("/")
    if slash and number.strip().isdecimal() and of.strip().isdecimal() and 1 <= int(number) <= int(of):
        return int(number), int(of)
    raise InputError(f"`--shard` takes a share and their number, such as 3/8 (from 1/8 to 8/8); got {text!r}.")
