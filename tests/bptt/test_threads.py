"""Small operations in a loop run on one thread, and the caller's number is as before in between and afterwards."""

import pytest
import torch
from torch import nn

from rnnvg import gradient_profile
from rnnvg.bptt.adjoints import Sources, adjoints
from rnnvg.bptt.cells.vanilla import Vanilla
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.threads import SMALL_WORK


class BrokenError(Exception):
    pass


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def seen(monkeypatch):
    """The number of threads at every tanh of the forward loop and every pull of the backward one."""
    numbers = {"forward": set(), "backward": set()}
    tanh, pull = torch.tanh, Vanilla.pull

    def spied_tanh(*args, **options):
        numbers["forward"].add(torch.get_num_threads())
        return tanh(*args, **options)

    def spied_pull(self, *args):
        numbers["backward"].add(torch.get_num_threads())
        return pull(self, *args)

    monkeypatch.setattr(torch, "tanh", spied_tanh)
    monkeypatch.setattr(Vanilla, "pull", spied_pull)
    return numbers


@pytest.mark.parametrize(("hidden", "expected"), [(16, {1}), (256, {3})])
def test_the_size_of_a_product_decides(seen, hidden, expected):
    batch = 40
    assert (batch * hidden**2 <= SMALL_WORK) == (expected == {1})
    gradient_profile(nn.RNN(4, hidden), torch.randn(6, batch, 4))
    assert seen == {"forward": expected, "backward": expected}
    assert torch.get_num_threads() == 3


def test_many_adjoints_at_once_are_shared(seen):
    gradient_profile(nn.RNN(4, 64), torch.randn(60, 20, 4), sources="all")
    assert seen["backward"] == {1, 3}  # one source under way at first, and at the end all of them
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_exception_puts_the_number_back(monkeypatch, where):
    def broken(*args, **options):
        raise BrokenError

    monkeypatch.setattr(*((torch, "tanh") if where == "forward" else (Vanilla, "pull")), broken)
    with pytest.raises(BrokenError):
        gradient_profile(nn.RNN(4, 8), torch.randn(6, 2, 4))
    assert torch.get_num_threads() == 3


def test_whoever_works_on_the_blocks_has_all_threads():
    linear = linearize(nn.GRU(4, 8), torch.randn(300, 2, 4))
    sources = Sources(linear, torch.tensor([[299, 299]]).numpy(), torch.ones(1, 2, 8, dtype=torch.float64))
    blocks = 0
    for _ in adjoints(linear, sources, sources.last, 1):
        assert torch.get_num_threads() == 3
        blocks += 1
    assert blocks > 2
