"""Numbers and lists as a reader takes them in: two or three digits, "> 199" for what is only known to be larger."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from rnnvg.horizon import Bounded, Spread, mark
from rnnvg.horizon import half_life as steps_of_rate
from rnnvg.horizon import spread as over_seeds

MOST_STEPS = 1e6  # beyond it an interval over a few seeds says only that it is wide


def steps(value: float) -> str:
    """A horizon in steps: whole from 10 on, one decimal below where it has one, two digits from 10,000 on; halves are kept.

    >>> steps(4.03), steps(4.26), steps(51.2), steps(10.5), steps(123456), steps(1.7e9), steps(math.inf)
    ('4', '4.3', '51', '10.5', '120,000', '> 1e6', '∞')
    """
    if math.isinf(value):
        return "∞"
    if value > MOST_STEPS:
        return "> 1e6"
    if value >= 10_000:
        return f"{float(f'{value:.2g}'):,.0f}"
    if value % 1 == 0.5:  # the median of an even number of models
        return f"{value:g}"
    return f"{round(value):d}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def number(value: float) -> str:
    """A score or a loss with three digits, small ones in powers of ten.

    >>> number(0.16666), number(208.96), number(0.00012), number(math.nan)
    ('0.167', '209', '1.2e-04', 'nan')
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    text = f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else f"{round(value):,}"


def known(value: float | None, write: Callable[[float], str] = number) -> str:
    """A number in a table's cell, which is empty where there is none.

    >>> known(0.16666), known(math.nan), known(None), known(2.0, "{:+.1f}".format)
    ('0.167', '', '', '+2.0')
    """
    return "" if value is None or math.isnan(value) else write(value)


def by_input(by: str) -> str:
    """What captions say where the gradient is taken by the input; "" where it is taken by the state.

    >>> by_input("state"), by_input("input")
    ('', 'Gradients of all networks are by the input, for one without a recurrence has no state.')
    """
    return "Gradients of all networks are by the input, for one without a recurrence has no state." * (by == "input")


def left_out(networks: Sequence[str]) -> str:
    """What captions say of networks that have no curve by the state where the others have no other; "" for none.

    >>> left_out(["attention (no recurrence)"])
    'Not in it: attention (no recurrence), measured by the input alone. Measured by the input, all networks share an axis.'
    """
    if not networks:
        return ""
    return f"Not in it: {listed(networks)}, measured by the input alone. Measured by the input, all networks share an axis."


def factor(value: float) -> str:
    """How many times as much, in words' precision.

    >>> factor(1.26), factor(12.7), factor(1234)
    ('1.3', '13', '1,200')
    """
    if value < 9.95:
        return f"{value:.1f}"
    return f"{round(value, 1 - math.floor(math.log10(value))):,.0f}" if value >= 100 else f"{value:.0f}"


def power(log10: float) -> str:
    """A gain given in decades, as a number a reader can hold.

    >>> power(-0.43), power(-2), power(-63.2), power(-math.inf)
    ('0.37', '0.01', '10⁻⁶³', '0')
    """
    if math.isinf(log10):
        return "0" if log10 < 0 else "∞"
    if 2 <= log10 < 3:
        return f"{10**log10:.0f}"
    return f"{10**log10:.2g}" if -3.5 < log10 < 2 else f"10{_raised(log10)}"


def _raised(exponent: float) -> str:
    return f"{exponent:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def listed(items: Sequence[str]) -> str:
    """Items with commas and an "and".

    >>> listed(["LSTM"]), listed(["LSTM", "GRU"]), listed(["a", "b", "c"])
    ('LSTM', 'LSTM and GRU', 'a, b and c')
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def problem(label: str) -> str:
    """A task's label inside a sentence.

    >>> problem("Adding problem, length 50"), problem("Copy memory"), problem("Next word")
    ('the adding problem, length 50', 'copy memory', 'next-word prediction')
    """
    name, comma, settings = label.partition(", ")
    known = {"Next word": "next-word prediction"}
    inside = known.get(name, f"the {name.lower()}" if name.endswith((" problem", " language")) else name.lower())
    return f"{inside}{comma}{settings}"


def span(values: pd.Series) -> str:
    """The range of a column of whole numbers.

    >>> span(pd.Series([300.0, 400.0])), span(pd.Series([300.0]))
    ('300 to 400', '300')
    """
    least, most = values.min(), values.max()
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


def count(number_of: int, one: str, several: str | None = None) -> str:
    """A count with its noun.

    >>> count(1, "seed"), count(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number_of} {one if number_of == 1 else several or one + 's'}"


def spread(
    over_models: Spread,
    write: Callable[[float], str] = steps,
    most: int = 5,
    each: Callable[[float], str] | None = None,
) -> str:
    """Median over models, and each model's value in brackets; with more than `most` models the interval.

    Args:
        write, each: how the median and the value of each model are written; `each` is `write` where it is left out.

    >>> from rnnvg.horizon import spread as over
    >>> spread(over([48, 54, 51])), spread(over([3, 5, 8, 13, 21, 34])), spread(over([7]))
    ('51 (48, 54, 51)', '10.5 [3, 34]', '7')
    """

    def text(value: Bounded, written: Callable[[float], str] = write) -> str:
        return mark(value, "" if math.isnan(value.seen) else written(value.seen))

    if over_models.n == 1:
        return text(over_models.median)
    if over_models.n <= most:
        return f"{text(over_models.median)} ({', '.join(text(value, each or write) for value in over_models.values)})"
    return f"{text(over_models.median)} [{text(over_models.low)}, {text(over_models.high)}]"


def over(over_models: Spread | None, write: Callable[[float], str] = steps) -> str:
    """`spread`, or "none" where nothing was measured."""
    return "none" if over_models is None else spread(over_models, write)


def values(column: pd.Series) -> str:
    """Scores or losses over seeds; those that are not finite are left out.

    >>> values(pd.Series([0.254, 0.5, 0.125])), values(pd.Series([math.nan]))
    ('0.254 (0.25, 0.5, 0.12)', 'none')
    """
    known = [float(each) for each in column if math.isfinite(each)]
    return spread(over_seeds(known), number, each=lambda value: number(float(f"{value:.2g}"))) if known else "none"


def half_life(rate: float) -> str:
    """Steps in which what decays at `rate` nats a step is halved; "inf" where it does not decay, "" for nan."""
    halved_in = steps_of_rate(rate)
    return "" if math.isnan(halved_in) else f"{halved_in:.3g}"
