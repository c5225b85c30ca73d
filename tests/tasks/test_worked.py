"""A worked example is made of the steps that it prints, however long the sequence is."""

import tracemalloc

import pytest
import torch

from rnnvg import tasks
from rnnvg.tasks.worked import MOST, shown_steps, table

LONG = 100_000
# Not dyck: brackets are matched one by one, which takes a list of them.
SETTINGS = {
    "copy": {"delay": LONG},
    "adding": {"length": LONG},
    "variable-copy": {"delay": LONG},
    "selective-copy": {"length": LONG},
    "temporal-order": {"length": LONG},
    "delayed-recall": {"delay": LONG},
    "noisy-recall": {"delay": LONG},
    "multiplication": {"length": LONG},
    "parity": {"length": LONG, "scored": "all"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_an_example_of_a_long_sequence_takes_less_than_a_byte_a_step(name):
    long, short = tasks.make(name, **SETTINGS[name]), tasks.make(name)
    short.example(torch.Generator().manual_seed(0))
    batch = long.batch(1, torch.Generator().manual_seed(0))
    tracemalloc.start()
    try:
        text = long.show(batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(long.steps - 1) in text
    assert peak < LONG


def test_only_the_printed_cells_are_made():
    asked = []
    text = table({"step": lambda step: asked.append(step) or str(step)}, shown_steps(10**9, [500]))
    assert asked == [0, 1, 499, 500, 501, 10**9 - 2, 10**9 - 1]
    assert text.split() == ["step", "0", "1", "…", "499", "500", "501", "…", "999999998", "999999999"]


def test_of_many_recalled_symbols_the_first_and_the_last_are_printed():
    example = tasks.make("selective-copy", length=3000, recall=1000).example(torch.Generator().manual_seed(0))
    shown, said = example.split("\n\n")
    assert len(shown.splitlines()[0].split()) < 4 * 3 * MOST
    numbers = said.removeprefix("The scattered symbols are due at the signs '!', here ").split(" steps after")[0]
    assert len(numbers.replace(" … ", ", ").split(", ")) == MOST
