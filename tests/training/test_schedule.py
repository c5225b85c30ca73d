"""Checkpoints: where to look."""

import doctest
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnvg.errors import InputError
from rnnvg.training import checkpoint_steps, schedule


@given(st.integers(0, 10**6))
def test_from_start_to_end_in_order_and_about_twelve(steps):
    looks = checkpoint_steps(steps)
    assert looks[0] == 0
    assert looks[-1] == steps
    assert all(a < b for a, b in pairwise(looks))
    assert len(looks) <= 13
    assert len(looks) >= min(steps + 1, 8)


@given(st.integers(200, 10**6))
def test_dense_early(steps):
    looks = checkpoint_steps(steps)
    assert sum(look <= 0.35 * steps for look in looks) >= 7


def test_a_budget_below_nothing_is_refused():
    with pytest.raises(InputError) as raised:
        checkpoint_steps(-1)
    assert str(raised.value) == "`steps` must be a whole number of at least 0; got -1."


def test_examples_in_the_documentation():
    assert doctest.testmod(schedule) == (0, 1)
