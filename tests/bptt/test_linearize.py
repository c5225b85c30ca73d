"""pullback and pushforward: each step's Jacobian against autograd, the two against each other, and their order in time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rnnvg.bptt import Diagonal, linearize
from rnnvg.bptt.profile import gradient_profiles
from rnnvg.bptt.why.gates import gates_along
from rnnvg.errors import InputError
from tests.bptt.test_step_functions import STEPS, problem
from tests.reference import initial_parts, unrollable, unrollable_step

MODULES = {
    "tanh": lambda: nn.RNN(2, 3, 2, dtype=torch.float64),
    "relu": lambda: nn.RNN(2, 3, 2, nonlinearity="relu", dtype=torch.float64),
    "lstm": lambda: nn.LSTM(2, 3, 2, dtype=torch.float64),
    "projected": lambda: nn.LSTM(2, 4, 2, proj_size=2, dtype=torch.float64),
    "gru": lambda: nn.GRU(2, 3, 3, dtype=torch.float64),
    "tanh cell": lambda: nn.RNNCell(2, 3, dtype=torch.float64),
    "lstm cell": lambda: nn.LSTMCell(2, 3, dtype=torch.float64),
    "gru cell": lambda: nn.GRUCell(2, 3, dtype=torch.float64),
}
NAMES = [*MODULES, *(f"step: {name}" for name in STEPS)]


def recurrence(name: str, steps: int, batch: int, seed: int):
    """(recurrence, inputs, state), float64; modules from a zero state, steps from a random one."""
    if name.startswith("step: "):
        return problem(name.removeprefix("step: "), steps, batch, seed)[:3]
    torch.manual_seed(seed)
    return MODULES[name](), torch.randn(steps, batch, 2, dtype=torch.float64), None


def order_of(linear, parts, widths) -> list[int]:
    """For each coordinate of `linear` the place it has in the reference's list of parts."""
    starts = np.concatenate([[0], np.cumsum(widths)])
    places = {(part.kind, part.layer): p for p, part in enumerate(parts)}
    found = []
    for coordinate in linear.coordinates:
        p = places[coordinate.kind, coordinate.layer]
        assert coordinate.columns.stop - coordinate.columns.start == widths[p]
        found += range(starts[p], starts[p + 1])
    return found


def jacobians(name_or_recurrence, inputs: Tensor, state, linear) -> list[Tensor]:
    """ds_t/ds_{t-1} for every step, [B, N, N] in the coordinates' order of `linear`, one sequence at a time."""
    plain = (
        unrollable(name_or_recurrence)
        if isinstance(name_or_recurrence, nn.Module)
        else unrollable_step(name_or_recurrence, state)
    )
    parts = initial_parts(name_or_recurrence, inputs, state)
    widths = [part.shape[1] for part in parts]
    order, found = order_of(linear, plain.parts, widths), []
    for x in inputs:

        def step(flat: Tensor, x: Tensor = x) -> Tensor:
            return torch.cat(plain.step(x, list(flat.split(widths, dim=1)))[1], dim=1)

        flat = torch.cat(parts, dim=1)
        whole = torch.autograd.functional.jacobian(step, flat)  # [B, N, B, N], zero between sequences
        own = torch.stack([whole[b, :, b] for b in range(len(flat))])
        found.append(own[:, order][:, :, order])
        parts = list(step(flat).detach().split(widths, dim=1))
    return found


def dense(product, t: int, size: int, batch: int) -> Tensor:
    """The matrix of a product, [B, N, N]: its columns are what it makes of the unit vectors."""
    units = torch.eye(size, dtype=torch.float64)[:, None, :].expand(size, batch, size)
    return product(t, units).permute(1, 2, 0)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 5), batch=st.integers(1, 3))
@settings(max_examples=6, deadline=None, derandomize=True)
def test_each_steps_jacobian(name, seed, steps, batch):
    made, inputs, state = recurrence(name, steps, batch, seed)
    linear = linearize(made, inputs, state)
    assert (linear.n_steps, linear.batch) == (steps, batch)
    for t, expected in enumerate(jacobians(made, inputs, state, linear)):
        pushed, pulled = (dense(product, t, linear.size, batch) for product in (linear.pushforward, linear.pullback))
        torch.testing.assert_close(pushed, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(pulled.transpose(1, 2), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_duality(name):
    """<J v, a> = <v, J^T a>, steps asked for in any order and more than one vector at a time."""
    made, inputs, state = recurrence(name, 7, 3, 5)
    linear = linearize(made, inputs, state)
    for t in (6, 0, 3, 3, 5, 1):
        v, a = torch.randn(2, 4, 3, linear.size, dtype=torch.float64)
        left, right = (linear.pushforward(t, v) * a).sum(-1), (v * linear.pullback(t, a)).sum(-1)
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_the_product_runs_forwards_and_its_transpose_backwards(name):
    """J_T ... J_1 v is the slope of the whole run along v; taken in another order it is not."""
    made, inputs, state = recurrence(name, 6, 2, 8)
    linear = linearize(made, inputs, state)
    product = torch.eye(linear.size, dtype=torch.float64).expand(2, -1, -1)
    for jacobian in jacobians(made, inputs, state, linear):
        product = jacobian @ product
    v, a = torch.randn(2, 2, linear.size, dtype=torch.float64)
    pushed, reversed_order, pulled = v, v, a
    for t in range(6):
        pushed = linear.pushforward(t, pushed)
        reversed_order = linear.pushforward(5 - t, reversed_order)
        pulled = linear.pullback(5 - t, pulled)
    torch.testing.assert_close(pushed, torch.einsum("bij,bj->bi", product, v), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(pulled, torch.einsum("bij,bi->bj", product, a), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(reversed_order, pushed, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["tanh", "lstm", "gru"])
def test_determinants_of_forward_and_adjoint_agree(name):
    made, inputs, state = recurrence(name, 20, 2, 9)
    linear = linearize(made, inputs, state)
    forward = [dense(linear.pushforward, t, linear.size, 2) for t in range(20)]
    adjoint = [dense(linear.pullback, t, linear.size, 2) for t in range(20)]
    product = torch.eye(linear.size, dtype=torch.float64)
    for jacobian in forward[:3]:
        product = jacobian @ product
    by_step = sum(torch.linalg.slogdet(jacobian)[1] for jacobian in adjoint[:3])
    torch.testing.assert_close(torch.linalg.slogdet(product)[1], by_step, rtol=1e-6, atol=1e-6)
    for one, other in zip(forward, adjoint, strict=True):
        torch.testing.assert_close(torch.linalg.slogdet(one)[1], torch.linalg.slogdet(other)[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keep_bytes", [0, 2000])
def test_states_kept_at_checkpoints_alone_change_nothing(name, keep_bytes):
    made, inputs, state = recurrence(name, 100, 3, 6)
    kept = linearize(made, inputs, state)
    sparse = linearize(made, inputs, state, keep_bytes=keep_bytes)
    v = torch.randn(3, kept.size, dtype=torch.float64)
    for t in (*range(99, -1, -1), 50, 3, 99, *range(0, 100, 7)):
        torch.testing.assert_close(sparse.pullback(t, v), kept.pullback(t, v), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(sparse.pushforward(t, v), kept.pushforward(t, v), rtol=1e-12, atol=1e-14)


def test_complex_diagonal_keeps_its_inner_product():
    torch.manual_seed(7)
    factors = torch.randn(4, 2, 3, dtype=torch.complex128)
    linear = linearize(Diagonal(), factors)
    v, a = torch.randn(2, 2, 3, dtype=torch.complex128)
    for t in range(4):
        torch.testing.assert_close(linear.pushforward(t, v), factors[t] * v)
        torch.testing.assert_close(linear.pullback(t, a), factors[t].conj() * a)


def test_batch_first_and_initial_states():
    torch.manual_seed(8)
    module = nn.GRU(2, 3, 2, batch_first=True, dtype=torch.float64)
    inputs, state = torch.randn(4, 6, 2, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)
    linear = linearize(module, inputs, state)
    assert (linear.n_steps, linear.batch) == (6, 4)
    for t, expected in enumerate(jacobians(module, inputs.transpose(0, 1), state, linear)):
        torch.testing.assert_close(dense(linear.pushforward, t, 6, 4), expected, rtol=1e-10, atol=1e-12)


def test_a_run_of_pulls_cuts_its_own_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the segment is, all runs of pulls together cut each step once."""
    monkeypatch.setattr("rnnvg.bptt.stack.RUN_NUMBERS", 64)
    cut: list[int] = []

    class Counted(list):
        def __getitem__(self, which):
            found = super().__getitem__(which)
            cut.append(len(found) if isinstance(which, slice) else 1)
            return found

    module, inputs = nn.RNN(2, 8), torch.randn(2000, 1, 2)
    linear = linearize(module, inputs, trajectory=False)
    segment = linear.segment(0)
    segment._steps = [Counted(steps) for steps in segment._steps]
    gradient_profiles(module, inputs, None, wrt=("state",), known=linear)
    assert max(cut) > 1
    assert sum(cut) <= 2000


def test_without_a_trajectory_only_adjoints_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnvg.bptt.stack.RUN_NUMBERS", 64)
    linear = linearize(nn.LSTM(2, 8, 2), torch.randn(50, 3, 2), trajectory=False)
    sentence = "^`trajectory` was False, and only adjoints can be asked for; linearise with trajectory=True.$"
    for ask in (linear.outputs, lambda: next(linear.states()), lambda: linear.changed_segment(0, "any")):
        with pytest.raises(InputError, match=sentence):
            ask()
    with pytest.raises(InputError, match=sentence):
        list(gates_along(linear))


@pytest.mark.parametrize("name", MODULES)
def test_factors_without_a_trajectory_are_those_along_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that overwrite each other, the last of them shorter; a state that is not finite is found in a later block."""
    module, inputs, state = recurrence(name, 23, 4, seed=5)
    with torch.no_grad():
        for weight_name, weight in module.named_parameters():
            weight *= 1e6 if "weight_ih" in weight_name and not weight_name.endswith(("l1", "l2")) else 1
    inputs /= 1e6
    inputs[13, 2] = torch.tensor([1e305, -1e305], dtype=torch.float64)
    monkeypatch.setattr("rnnvg.bptt.stack.RUN_NUMBERS", 5 * 4 * 16)
    whole, alone = (linearize(module, inputs, state, trajectory=kept) for kept in (True, False))
    assert alone.first_nonfinite.tolist() == whole.first_nonfinite.tolist()
    assert name != "relu" or alone.first_nonfinite.tolist() == [-1, -1, 13, -1]
    adjoint = torch.randn(3, 4, whole.size, dtype=torch.float64)
    for t in (0, 4, 5, 12, 13, 22):
        expected = whole.pullback(t, adjoint)
        assert bool(torch.isfinite(expected[:, :2]).all())
        torch.testing.assert_close(alone.pullback(t, adjoint), expected, rtol=1e-12, atol=1e-14, equal_nan=True)
