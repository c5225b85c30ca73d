"""check_backward: kernels that are right pass, and each planted fault is found at the distance where it begins."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnvg import InputError, check_backward

H, I = 6, 3


class Backward(torch.autograd.Function):
    """The identity, whose adjoint is changed by a function."""

    @staticmethod
    def forward(ctx, x, change):
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return ctx.change(grad), None


def weights(seed=0, scale=0.6):
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(4 * H, I, generator=drawn) * scale, torch.randn(4 * H, H, generator=drawn) * scale


def lstm_kernel(fault=None, chunk=8, seed=0):
    """An LSTM over [T, B, I] from (h, c), with one of the faults that backward passes have."""
    into, recurrent = weights(seed)

    def fused(x, state):
        h, c = state
        rows = []
        for t in range(len(x)):
            i, f, g, o = (x[t] @ into.to(x.dtype).T + h @ recurrent.to(x.dtype).T).chunk(4, 1)
            f = torch.sigmoid(f + 2)
            if fault == "a missing gate path":
                f = f.detach()
            c = f * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            rows.append(h)
            if fault == "a dropped chunk boundary" and (t + 1) % chunk == 0:
                h, c = h.detach(), c.detach()
            if fault == "bf16 accumulation":
                h, c = (Backward.apply(part, lambda grad: grad.bfloat16().to(grad.dtype)) for part in (h, c))
        return torch.stack(rows)

    return fused


def lstm_step(seed=0):
    into, recurrent = (each.double() for each in weights(seed))

    def step(x, state):
        h, c = state
        i, f, g, o = (x @ into.T + h @ recurrent.T).chunk(4, 1)
        c = torch.sigmoid(f + 2) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    return step


class WrongOrder(torch.autograd.Function):
    """h_t = tanh(U x_t + W h_{t-1}) whose Jacobians are multiplied first to last instead of last to first."""

    @staticmethod
    def forward(ctx, x, h, into, recurrent):
        rows = []
        for t in range(len(x)):
            h = torch.tanh(x[t] @ into.T + h @ recurrent.T)
            rows.append(h)
        rows = torch.stack(rows)
        ctx.save_for_backward(rows, into, recurrent)
        return rows

    @staticmethod
    def backward(ctx, grad):
        rows, into, recurrent = ctx.saved_tensors
        slopes, last = 1 - rows**2, len(rows) - 1
        found = torch.zeros(*rows.shape[:2], into.shape[1])
        for t in range(last + 1):
            a = grad[last]
            for s in range(t + 1, last + 1):  # J_{t+1}^T first: right for one factor, wrong for two
                a = (a * slopes[s]) @ recurrent
            found[t] = (a * slopes[t]) @ into
        return found, None, None, None


def zero_state(batch=2, dtype=torch.float32):
    return torch.zeros(batch, H, dtype=dtype), torch.zeros(batch, H, dtype=dtype)


# kernels that are right -------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_pytorchs_own_kernels_are_right(data):
    whole, cell = data.draw(st.sampled_from([(nn.RNN, nn.RNNCell), (nn.LSTM, nn.LSTMCell), (nn.GRU, nn.GRUCell)]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    batch_first, steps, width = data.draw(st.booleans()), data.draw(st.integers(1, 80)), data.draw(st.integers(1, 40))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    fused = whole(I, width, batch_first=batch_first, dtype=dtype)
    step = cell(I, width)
    scale = data.draw(st.sampled_from([0.5, 1.0, 6.0, 20.0]))  # from vanishing to chaotic
    with torch.no_grad():
        fused.weight_hh_l0.mul_(scale)
    step = step.to(dtype)
    step.load_state_dict({name.removesuffix("_l0"): value for name, value in fused.state_dict().items()})
    state = None
    if data.draw(st.booleans()):
        state = torch.randn(3, width, dtype=dtype)
        state = (state, torch.randn(3, width, dtype=dtype)) if whole is nn.LSTM else state
    frame = check_backward(
        fused, step, torch.randn(*((3, steps) if batch_first else (steps, 3)), I, dtype=dtype), state
    )
    assert frame.attrs["begins"] is None, frame.to_string()
    assert list(frame["distance"]) == list(range(steps + (state is not None)))
    name = str(dtype).removeprefix("torch.")
    last = frame["decidable"].sum() - 1
    agrees = f"The gradient agrees with the float64 step at distances 0 to {last}, within rounding to {name}"
    if frame["decidable"].all():
        assert frame.attrs["sentence"] == f"{agrees}."
    else:
        assert scale > 1
        assert frame.attrs["sentence"].startswith(
            (f"{agrees}; from distance ", "Of the gradient from distance 0 on nothing")
        )
    assert not frame["wrong"].any()


CHAOTIC = [  # with the rounding of one run for a bound, each was called wrong
    (nn.LSTM, 79, 30, 20.0, 1, 6335),
    (nn.GRU, 80, 22, 20.0, 3, 390),
    (nn.RNN, 52, 36, 20.0, 1, 9858),
    (nn.RNN, 51, 30, 6.0, 3, 8857),
]


@pytest.mark.parametrize(("whole", "steps", "width", "scale", "batch", "seed"), CHAOTIC)
def test_chaos_is_no_fault_of_the_kernel(whole, steps, width, scale, batch, seed):
    torch.manual_seed(seed)
    fused = whole(I, width)
    with torch.no_grad():
        fused.weight_hh_l0.mul_(scale)
    step = getattr(nn, f"{whole.__name__}Cell")(I, width)
    step.load_state_dict({name.removesuffix("_l0"): value for name, value in fused.state_dict().items()})
    inputs = torch.randn(steps, batch, I)
    for n, generator in enumerate([None, torch.Generator().manual_seed(1)]):
        frame = check_backward(fused, step, inputs * (1 + n / 100), generator=generator, sources=["last", 2][n])
        unknown = frame[~frame["decidable"]]
        assert not frame["wrong"].any()
        assert ((30 * frame["rounding"].cummax() < 1) <= frame["decidable"]).all()
        if len(unknown):
            begins = unknown["distance"].iloc[0]
            assert list(unknown["distance"]) == list(range(begins, steps))
            assert frame.attrs["sentence"].endswith(
                f"rom distance {begins} on nothing can be said, because rounding alone changes it by "
                f"{unknown['rounding'].iloc[0]:.0e} of its size there, as in a chaotic recurrence."
            )


def test_a_gradient_too_small_for_the_dtype_is_to_be_small():
    def scan(x, h):
        rows = []
        for each in x:
            h = h / 100 + each
            rows.append(h)
        return torch.stack(rows)

    def too_large(x, h):
        return scan(torch.cat([Backward.apply(x[:1], lambda grad: grad + 1e-40), x[1:]]), h)

    inputs, h = torch.ones(60, 2, H), torch.zeros(2, H)
    right, wrong = (check_backward(fused, lambda x, h: h / 100 + x, inputs, h) for fused in (scan, too_large))
    assert right.attrs["sentence"].startswith("The gradient agrees with the float64 step at distances 0 to 60,")
    assert right["decidable"].all()
    assert right["rounding"].iloc[-1] == 1
    assert wrong.attrs["begins"] == 59


def test_a_fault_is_found_before_chaos_begins():
    """h_t = tanh(3 W h_{t-1} + x_t) with a gradient cut every fourth step."""
    torch.manual_seed(1)
    recurrent = 3 * torch.randn(H, H) / H**0.5

    def fused(x, h, cut=True):
        rows = []
        for t in range(len(x)):
            h = torch.tanh(x[t] + h @ recurrent.T)
            rows.append(h)
            if cut and (t + 1) % 4 == 0:
                h = h.detach()
        return torch.stack(rows)

    def step(x, h):
        return torch.tanh(x + h @ recurrent.double().T)

    frame = check_backward(fused, step, torch.randn(40, 2, H), torch.zeros(2, H))
    assert frame.attrs["begins"] == 4
    assert (
        check_backward(lambda x, h: fused(x, h, False), step, torch.randn(40, 2, H), torch.zeros(2, H)).attrs["begins"]
        is None
    )


def test_the_kernel_without_a_fault_passes_in_several_dtypes():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        torch.manual_seed(1)
        inputs = torch.randn(40, 2, I).to(dtype)
        frame = check_backward(lstm_kernel(), lstm_step(), inputs, zero_state(dtype=dtype), sources=3)
        # the weights were made in float32: bfloat16 rounds them, which is a forward pass of its own
        if dtype != torch.bfloat16:
            assert frame.attrs["begins"] is None
            assert frame.attrs["forward_error"] < 1e-5
        assert set(frame["n"]) <= {2, 4, 6}


# planted faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "begins"),
    [("a dropped chunk boundary", 8), ("bf16 accumulation", 1), ("a missing gate path", 0)],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_fault_is_found_where_it_begins(fault, begins, seed):
    torch.manual_seed(seed)
    frame = check_backward(lstm_kernel(fault, seed=seed), lstm_step(seed), torch.randn(40, 2, I), zero_state())
    found = frame.attrs["begins"]
    if fault == "bf16 accumulation":
        assert found in (1, 2)
        assert frame.loc[found:, "error"].between(1e-4, 1).all()
    elif fault == "a missing gate path":
        assert found in (0, 1)  # c_{-1} = 0 hides it where one step is all there is
    else:
        assert found == begins
        assert (frame.loc[8:, "error"] == 1).all()
        assert (frame.loc[:7, "error"] < 1e-5).all()
    assert re.match(rf"The gradient is wrong from distance {found} on: relative error ", frame.attrs["sentence"])


def test_jacobians_in_the_wrong_order_agree_until_there_are_two():
    torch.manual_seed(2)
    into, recurrent = torch.randn(H, I), torch.randn(H, H) / H**0.5

    def step(x, h):
        return torch.tanh(x @ into.double().T + h @ recurrent.double().T)

    frame = check_backward(
        lambda x, h: WrongOrder.apply(x, h, into, recurrent), step, torch.randn(20, 3, I), torch.zeros(3, H)
    )
    assert frame.attrs["begins"] == 2
    assert frame.loc[2, "error"] > 0.01
    assert frame.loc[:1, "error"].max() < 1e-5


def test_a_fault_in_one_sequence_is_not_averaged_away():
    def fused(x, state):
        return Backward.apply(lstm_kernel()(x, state), lambda grad: grad) * 1.0

    def last_sequence_lost(x, state):
        x = torch.cat([x[:, :-1], Backward.apply(x[:, -1:], lambda grad: torch.cat([grad[:10] * 0, grad[10:]]))], 1)
        return lstm_kernel()(x, state)

    torch.manual_seed(3)
    inputs = torch.randn(30, 9, I)
    assert check_backward(fused, lstm_step(), inputs, zero_state(9)).attrs["begins"] is None
    frame = check_backward(last_sequence_lost, lstm_step(), inputs, zero_state(9))
    assert frame.attrs["begins"] == 20
    assert frame.loc[20, "median_error"] < 1e-4


def test_a_forward_pass_that_differs_is_named_too():
    torch.manual_seed(4)
    inputs = torch.randn(12, 2, I)
    frame = check_backward(lstm_kernel(seed=1), lstm_step(), inputs, zero_state())
    assert frame.attrs["sentence"].startswith(
        "The forward pass differs from the float64 step from step 0 on, by more than rounding to float32 explains. "
        "The gradient is"
    )
    assert frame.attrs["forward_error"] > 0.1


def test_several_inputs_and_the_initial_state():
    """A linear recurrence from given factors: h_t = a_t h_{t-1} + b_t."""

    def scan(a, b, h, drop=False):
        rows = []
        for t in range(len(a)):
            h = (a[t].detach() if drop else a[t]) * h + b[t]
            rows.append(h)
        return torch.stack(rows)

    def step(x, h):
        return x[0] * h + x[1]

    torch.manual_seed(5)
    a, b, h = torch.rand(15, 2, H), torch.randn(15, 2, H), torch.randn(2, H)
    right = check_backward(scan, step, (a, b), h)
    assert right.attrs["begins"] is None
    assert list(right["distance"]) == list(range(16))
    assert check_backward(lambda a, b, h: scan(a, b, h, drop=True), step, (a, b), h).attrs["begins"] == 0
    detached = check_backward(lambda a, b, h: scan(a, b, h.detach()), step, (a, b), h)
    assert (detached.attrs["begins"], detached["error"].iloc[-1]) == (15, 1)
    exploding = check_backward(scan, step, (a + 3, b), h)
    assert exploding.attrs["begins"] is None


# bad input --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [1]}, "`inputs` is a list; pass a tensor [T, B, I] or a tuple of them, none of them empty."),
        (
            {"inputs": torch.randn(0, 2, I)},
            "`inputs` is a Tensor; pass a tensor [T, B, I] or a tuple of them, none of them empty.",
        ),
        (
            {"inputs": (torch.randn(4, 2, I), torch.randn(3, 2, I))},
            "`inputs` holds [3, 2, 3] torch.float32 beside [4, 2, 3] torch.float32; pass floating tensors of one dtype with "
            "the same steps and sequences.",
        ),
        ({"inputs": torch.randn(4, 2, I) / 0}, "`inputs` holds a value that is not finite; pass finite numbers."),
        (
            {"fused": lambda x, state: x.detach()},
            "`fused` returned a tensor without a graph; return outputs [T, B, H] that autograd can follow to `inputs`.",
        ),
        (
            {"fused": lambda x, state: {}},
            "`fused` returned a dict; return outputs [T, B, H] that autograd can follow to `inputs`.",
        ),
        ({"fused": lambda x, state: x @ x}, r"`fused` failed: RuntimeError: "),
        (
            {"fused": lambda x, state: x * 1},
            "`fused` gives outputs [4, 2, 3] and `step`'s first tensor over time is [4, 2, 6]; pass a step whose state begins "
            "with the same output.",
        ),
        (
            {"step": lambda x, state: (x @ torch.ones(I, H), state)},
            "`step` failed at step 0 in float64: RuntimeError: ",
        ),
        (
            {"step": lambda x, state: (torch.cat([state[0]] * 2, -1), state[1])},
            f"`step` changes the state's shape at step 0: it was given [2, {H}] and [2, {H}] and returned [2, {2 * H}] and "
            f"[2, {H}]; return the same.",
        ),
        (
            {"step": lambda x, state: None},
            "`step` returned a NoneType at step 0; return the state, a tensor or a tuple of tensors with the output first.",
        ),
        ({"step": torch.nn.LSTMCell}, "`step` is the class LSTMCell; pass an instance of it."),
        ({"fused": torch.nn.LSTM}, "`fused` is the class LSTM; pass an instance of it."),
        ({"margin": 1.0}, "`margin` must be a finite number above 1; got 1."),
        ({"sources": 9}, "`sources` is 9; pass from 1 to 4 sources for 4 steps."),
    ],
)
def test_bad_input_is_one_sentence(change, message):
    arguments = {
        "fused": lstm_kernel(),
        "step": lstm_step(),
        "inputs": torch.randn(4, 2, I),
        "state": zero_state(),
    } | change
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        check_backward(**arguments)


def test_nothing_of_the_users_is_touched():
    fused, step = nn.GRU(I, H), nn.GRUCell(I, H)
    inputs = torch.randn(9, 2, I, requires_grad=True)
    before = torch.get_rng_state()
    check_backward(fused, step, inputs)
    assert torch.equal(torch.get_rng_state(), before)
    assert inputs.grad is None
    assert all(parameter.grad is None for parameter in [*fused.parameters(), *step.parameters()])
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in step.parameters())
