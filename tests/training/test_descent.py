"""Descent, the steps of every training: the clipped gradient, the update, and what stops one."""

import math

import pytest
import torch

from rnnvg.training.descent import Descent


def weight(start=2.0):
    return torch.tensor([start], dtype=torch.float64, requires_grad=True)


def test_steps_on_a_parabola_in_closed_form():
    """x <- x - lr 2 x, and each loss is that of the weights as the step before left them."""
    x = weight()
    descent = Descent(torch.optim.SGD([x], lr=0.1))
    found = list(descent.follow(x.square().sum() for _ in range(5)))
    assert found == pytest.approx([4 * 0.64**step for step in range(5)])
    assert x.item() == pytest.approx(2 * 0.8**5)
    assert (descent.fault, descent.clipped) == (None, 0)


def test_only_gradients_longer_than_the_norm_are_clipped_and_counted():
    x, seen = weight(), []
    descent = Descent(torch.optim.SGD([x], lr=1.0), clip=1.0)
    assert descent.gradient(3 * x.sum(), before_clipping=lambda: seen.append(x.grad.item())) == 6
    assert (x.grad.item(), seen, descent.clipped) == (pytest.approx(1, rel=1e-5), [3.0], 1)
    assert descent.gradient(0.5 * x.sum(), penalty=0.25 * x.sum()) == 1
    assert (x.grad.item(), descent.clipped) == (0.75, 1)


@pytest.mark.parametrize(
    ("loss", "fault"),
    [
        (lambda x: x.sum() * math.nan, ("loss", "nan")),
        (lambda x: x.sum() * 1e308 * 1e308, ("loss", "inf")),
        (lambda x: (x - x).sqrt().sum(), ("gradient's norm", "nan")),
    ],
)
def test_what_is_not_finite_is_named_and_moves_nothing(loss, fault):
    x = weight()
    descent = Descent(torch.optim.SGD([x], lr=0.1), clip=1.0)
    assert list(descent.follow([x.square().sum(), loss(x), x.sum()])) == [4.0]
    assert (descent.fault[0], str(descent.fault[1])) == fault
    assert x.item() == pytest.approx(2 - 0.1)
    assert descent.clipped == 1
