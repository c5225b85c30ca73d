"""What a user can get wrong: an InputError that names the argument, what was found and what to pass."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import InputError, gradient_profile
from rnnvg.bptt import (
    Diagonal,
    attribute_decay,
    jacobian_singular_values,
    linearize,
    lyapunov_spectrum,
    temporal_contributions,
)

T, B, I, H = 5, 4, 2, 3
inputs = torch.linspace(-1, 1, T * B * I).reshape(T, B, I)
lstm = nn.LSTM(I, H, num_layers=2)
rnn = nn.RNN(I, H)
state = torch.zeros(B, H)


def not_finite(value: float) -> torch.Tensor:
    spoiled = inputs.clone()
    spoiled[3, 2, 1] = value
    return spoiled


def meta_state(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, device="meta")


def refused(message: str, recurrence, given, *positional, **keywords) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        gradient_profile(recurrence, given, *positional, **keywords)


NOT_FINITE = "`inputs` holds a value that is not finite; pass finite numbers."
RANK = "pass [T, B, I] (one sequence alone is a batch of 1)."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (inputs[:, 0, 0], f"`inputs` has shape [5]; {RANK}"),
        (inputs[None], f"`inputs` has shape [1, 5, 4, 2]; {RANK}"),
        (torch.zeros(T, B, 3), "`inputs` has 3 features and the module takes 2; pass [T, B, 2]."),
        (inputs.long(), "`inputs` has dtype torch.int64; pass float32 or float64."),
        (inputs.half(), "`inputs` has dtype torch.float16; pass float32 or float64."),
        (inputs.to(torch.complex64), "`inputs` has dtype torch.complex64; pass float32 or float64."),
        (
            inputs.double(),
            "`inputs` is torch.float64 and the module's weights torch.float32; pass inputs.to(torch.float32).",
        ),
        (inputs.to("meta"), "`inputs` is on meta and the module on cpu; pass inputs.to('cpu')."),
        (inputs.numpy(), "`inputs` is a ndarray; pass a tensor [T, B, I]."),
        (inputs[:0], "`inputs` is empty, shape [0, 4, 2]; pass [T, B, I] with at least one step and sequence."),
        (inputs[:, :0], "`inputs` is empty, shape [5, 0, 2]; pass [T, B, I] with at least one step and sequence."),
        (not_finite(float("nan")), NOT_FINITE),
        (not_finite(float("-inf")), NOT_FINITE),
    ],
)
def test_inputs(given, message):
    refused(message, lstm, given)


def test_only_a_padding_may_hold_what_is_not_finite():
    given = not_finite(float("nan"))
    step, sequence = (int(index[0]) for index in torch.nonzero(given.isnan().any(2), as_tuple=True))
    lengths = [T] * B
    lengths[sequence] = step + 1
    refused(NOT_FINITE, lstm, given, lengths=lengths)
    if step:
        lengths[sequence] = step
        gradient_profile(lstm, given, lengths=lengths)


SOURCES = "pass 'last', 'all', a number of sources, or a list of step indices."


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([5], "`sources` holds step 5; pass indices from -5 to 4 for 5 steps."),
        ([0, -6], "`sources` holds step -6; pass indices from -5 to 4 for 5 steps."),
        ([], "`sources` is an empty list; pass at least one step index."),
        (0, "`sources` is 0; pass from 1 to 5 sources for 5 steps."),
        (6, "`sources` is 6; pass from 1 to 5 sources for 5 steps."),
        (-1, "`sources` is -1; pass from 1 to 5 sources for 5 steps."),
        (True, f"`sources` is True; {SOURCES}"),
        (1.5, f"`sources` is 1.5; {SOURCES}"),
        ([1.5], f"`sources` is [1.5]; {SOURCES}"),
        (None, f"`sources` is None; {SOURCES}"),
        ("lst", "`sources` has no 'lst'. Did you mean 'last'? Pass one of: last, all."),
    ],
)
def test_sources(sources, message):
    refused(message, lstm, inputs, sources=sources)


@pytest.mark.parametrize("sources", [(1, 4), range(1, 3), np.array([1, -1]), torch.tensor([0, 2]), [np.int64(3)]])
def test_sources_of_every_kind_are_taken(sources):
    expected = [int(s) % T for s in sources]
    np.testing.assert_array_equal(gradient_profile(lstm, inputs, sources=sources).sources, expected)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([5, 5, 6, 5], "`lengths` holds 6; pass values from 1 to 5, the steps in `inputs`."),
        ([5, 5, 0, 5], "`lengths` holds 0; pass values from 1 to 5, the steps in `inputs`."),
        ([5, 5, -1, 5], "`lengths` holds -1; pass values from 1 to 5, the steps in `inputs`."),
        ([5, 5, 5], "`lengths` must be 4 whole numbers, one per sequence; got shape [3], int64."),
        ([[5, 5, 5, 5]], "`lengths` must be 4 whole numbers, one per sequence; got shape [1, 4], int64."),
        (5, "`lengths` must be 4 whole numbers, one per sequence; got shape [], int64."),
        ([5, 4.5, 5, 5], "`lengths` must be 4 whole numbers, one per sequence; got shape [4], float64."),
    ],
)
def test_lengths(lengths, message):
    refused(message, lstm, inputs, lengths=lengths)


@pytest.mark.parametrize("lengths", [(1, 5, 3, 2), np.array([1, 5, 3, 2]), torch.tensor([1, 5, 3, 2])])
def test_lengths_of_every_kind_are_taken(lengths):
    expected = gradient_profile(lstm, inputs, lengths=[1, 5, 3, 2]).log_norm
    np.testing.assert_array_equal(gradient_profile(lstm, inputs, lengths=lengths).log_norm, expected)


def test_bidirectional():
    """gradient_profile takes them (test_bidirectional.py); what follows states one way does not."""
    message = (
        "`recurrence` is bidirectional: its output looks both ways, so 'distance' has no single meaning; "
        "pass a module with bidirectional=False."
    )
    with pytest.raises(InputError) as error:
        linearize(nn.LSTM(I, H, bidirectional=True), inputs)
    assert str(error.value) == message


def test_dropout_between_layers_is_left_out_and_said():
    module = nn.GRU(I, H, num_layers=2, dropout=0.5)
    note = "Dropout 0.5 between the layers is analysed as off: only a watched call has masks."
    grad = torch.randn(*inputs.shape[:2], H)
    measures = {
        "profile": lambda: gradient_profile(module, inputs),
        "attribution": lambda: attribute_decay(module, inputs),
        "contributions": lambda: temporal_contributions(module, inputs, output_grad=grad),
        "spectrum": lambda: lyapunov_spectrum(module, inputs, n_exponents=2),
        "singular values": lambda: jacobian_singular_values(module, inputs, stop=2),
    }
    for name, measure in measures.items():
        training, evaluated = measure().note, (module.eval(), measure().note)[1]
        assert (training, evaluated) == (note, ""), name
        module.train()
    found = gradient_profile(module, inputs)
    assert found.note == note
    assert found.verify().residual < 1e-3
    np.testing.assert_array_equal(found.log_norm, gradient_profile(module.eval(), inputs).log_norm)


@pytest.mark.parametrize(
    ("grad", "message"),
    [
        (
            torch.ones(T, B, I),
            "`output_grad` is [5, 4, 2]; pass dL_t/d(output_t) shaped like the output, [5, 4, 3].",
        ),
        (torch.ones(B, H), "`output_grad` is [4, 3]; pass dL_t/d(output_t) shaped like the output, [5, 4, 3]."),
        (
            torch.full((T, B, H), float("nan")),
            "`output_grad` holds a value that is not finite at a source; pass finite numbers.",
        ),
        (torch.ones(T, B, H, device="meta"), "`output_grad` is on meta and the inputs on cpu; pass the same device."),
    ],
)
def test_output_grad(grad, message):
    refused(message, lstm, inputs, output_grad=grad)


def test_output_grad_of_batch_first_and_projected_modules():
    module = nn.LSTM(I, 6, proj_size=2, batch_first=True)
    message = "`output_grad` is [4, 5, 6]; pass dL_t/d(output_t) shaped like the output, [4, 5, 2]."
    refused(message, module, inputs.transpose(0, 1), output_grad=torch.ones(B, T, 6))


@pytest.mark.parametrize(
    ("recurrence", "wrt", "message"),
    [
        (lstm, "cel", "`wrt` has no 'cel'. Did you mean 'cell'? Pass one of: state, hidden, cell, input."),
        (lstm, None, "`wrt` has no None. Pass one of: state, hidden, cell, input."),
        (rnn, "cell", "`wrt` is 'cell', but this recurrence has no cell state; pass 'state' or 'hidden'."),
    ],
)
def test_wrt(recurrence, wrt, message):
    refused(message, recurrence, inputs, wrt=wrt)


def test_wrt_of_a_step_function_with_one_tensor():
    message = "`wrt` is 'cell', but this recurrence has no cell state; pass 'state' or 'hidden'."
    refused(message, lambda x, h: 0.5 * h, inputs, state, wrt="cell")


@pytest.mark.parametrize("layer", [2, -1, 1.0, True])
def test_layer(layer):
    refused(f"`layer` must be a whole number from 0 to 1; got {layer!r}.", lstm, inputs, layer=layer)


def test_layer_of_the_input():
    message = "`layer` picks a layer's state, and `wrt` is 'input'; pass layer=None."
    refused(message, lstm, inputs, wrt="input", layer=0)


def test_max_bytes():
    """S K B 8 bytes, refused before anything is computed."""
    long = torch.zeros(20_000, 1, I)
    message = (
        "`sources` needs 20000 sources x 20001 distances x 1 sequences, 3.0 GiB; "
        "pass fewer sources (an int), or max_bytes=3200160000 if there is room."
    )
    refused(message, lstm, long, sources="all")
    needed = T * (T + 1) * B * 8
    assert gradient_profile(lstm, inputs, sources="all", max_bytes=needed).log_norm.nbytes == needed
    with pytest.raises(InputError, match=f"max_bytes={needed}"):
        gradient_profile(lstm, inputs, sources="all", max_bytes=needed - 1)


PAIR = "pass the pair (h_0, c_0) of shapes [2, 4, 3] and [2, 4, 3], or None for zeros."


@pytest.mark.parametrize(
    ("recurrence", "given", "message"),
    [
        (lstm, (torch.zeros(1, B, H), torch.zeros(1, B, H)), f"`state` is [1, 4, 3] and [1, 4, 3]; {PAIR}"),
        (lstm, torch.zeros(2, B, H), f"`state` is [2, 4, 3]; {PAIR}"),
        (rnn, torch.zeros(1, B, 2), "`state` is [1, 4, 2]; pass h_0 of shape [1, 4, 3], or None for zeros."),
        (
            rnn,
            torch.zeros(1, B, H).double(),
            "`state` is torch.float64 on cpu and `inputs` torch.float32 on cpu; pass the same.",
        ),
        (
            rnn,
            meta_state(1, B, H),
            "`state` is torch.float32 on meta and `inputs` torch.float32 on cpu; pass the same.",
        ),
        (
            rnn,
            torch.full((1, B, H), float("inf")),
            "`state` holds a value that is not finite; pass finite numbers.",
        ),
    ],
)
def test_state(recurrence, given, message):
    refused(message, recurrence, inputs, given)


STEP_STATE = "a step function needs its initial state: a tensor [B, H], or a tuple of them with the output first."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, f"`state` is None; {STEP_STATE}"),
        (torch.zeros(B), f"`state` is [4]; {STEP_STATE}"),
        (torch.zeros(1, B, H), f"`state` is [1, 4, 3]; {STEP_STATE}"),
        (torch.zeros(3, H), "`inputs` has 4 sequences and `state` 3; pass the same number."),
        (state.long(), "`state` has dtype torch.int64; pass float32 or float64."),
    ],
)
def test_state_of_a_step_function(given, message):
    refused(message, lambda x, h: 0.5 * h, inputs, given)


CHANGES = "`recurrence` changes the state's shape at step 0: it was given"


@pytest.mark.parametrize(
    ("step", "initial", "message"),
    [
        (
            lambda x, h: torch.cat([h, h], 1),
            state,
            f"{CHANGES} [4, 3] and returned [4, 6]; return the same.",
        ),
        (lambda x, h: h[:2], state, f"{CHANGES} [4, 3] and returned [2, 3]; return the same."),
        (lambda x, h: h[0], (state, state), f"{CHANGES} [4, 3] and [4, 3] and returned [4, 3]; return the same."),
        (
            lambda x, h: None,
            state,
            "`recurrence` returned a NoneType at step 0; return the state as it was given.",
        ),
    ],
)
def test_a_step_that_changes_the_states_shape(step, initial, message):
    refused(message, step, inputs, initial)


def test_a_step_that_changes_the_states_shape_later():
    def step(x, h):
        return torch.cat([h, h], 1) if x.sum() > 0 else h

    first = int((inputs.sum(dim=(1, 2)) > 0).nonzero()[0])
    message = f"`recurrence` changes the state's shape at step {first}: it was given [4, 3] and returned [4, 6]; return"
    with pytest.raises(InputError, match=re.escape(message)):
        gradient_profile(step, inputs, state)


@pytest.mark.parametrize(
    "step", [lambda x, h: h + torch.randn_like(h), lambda x, h: torch.dropout(h + 1, 0.5, train=True)]
)
def test_a_step_that_is_random(step):
    message = (
        r"^`recurrence` gave another state at step \d when it was called again on the same input and state; "
        r"make it a pure function \(switch dropout and other noise off\)\.$"
    )
    with pytest.raises(InputError, match=message):
        gradient_profile(step, inputs, state)


def test_recurrence():
    message = (
        "`recurrence` is a NoneType; pass an nn.RNN, nn.LSTM, nn.GRU, one of their cells, "
        "or a function step(x_t, state) -> state."
    )
    refused(message, None, inputs)


def test_diagonal():
    refused(
        "`drive` is given and `decay` is not; pass both as functions of the inputs.",
        Diagonal(drive=torch.sin),
        torch.ones(T, B, H),
    )
    refused(
        f"`drive(inputs)` is [{T}, {B}, 1]; return [{T}, {B}, {H}], as `decay` does.",
        Diagonal(torch.sigmoid, drive=lambda x: x[..., :1]),
        torch.ones(T, B, H),
    )
    refused(
        "`decay` gives other factors for a few steps than for all; make it take each step on its own.",
        Diagonal(lambda x: torch.sigmoid(x.cumsum(0) / 9), drive=torch.sin),
        torch.ones(300, B, H),
        wrt="input",
    )
    refused(
        "`inputs` has dtype torch.int64; pass decay factors in float32, float64 or complex.",
        Diagonal(),
        torch.ones(T, B, H, dtype=torch.long),
    )
    with pytest.raises(InputError, match="the decay factors"):
        gradient_profile(Diagonal(), torch.ones(T, B))


def test_an_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)
    with pytest.raises(ValueError, match=r"^`wrt`"):
        gradient_profile(lstm, inputs, wrt="nothing")


# Where the engine does not yet do what it should


def test_a_device_that_holds_no_values():
    with pytest.raises(InputError, match="meta"):
        gradient_profile(nn.LSTM(I, H, device="meta"), inputs.to("meta"))


def test_diagonal_factors_that_are_not_finite():
    factors = torch.ones(T, B, H)
    factors[2, 1, 0] = float("nan")
    with pytest.raises(InputError, match="finite"):
        gradient_profile(Diagonal(), factors)


def test_diagonal_decay_of_another_length():
    with pytest.raises(InputError, match="decay"):
        gradient_profile(Diagonal(lambda x: x[:3]), torch.ones(T, B, H))


def test_a_step_that_wraps_its_state_in_a_tuple():
    with pytest.raises(InputError, match="tuple"):
        gradient_profile(lambda x, h: (h,), inputs, state)


def test_a_step_that_writes_in_place():
    """It may work or be refused, but the error is not torch's."""
    try:
        found = gradient_profile(lambda x, h: h.mul_(0.5), inputs, state).log_norm
    except InputError:
        return
    np.testing.assert_allclose(np.diff(found, axis=1), np.log(0.5), rtol=1e-6)


def test_a_step_that_hides_its_state_from_autograd():
    """Where the returned state has no graph and still changes with the state, a zero gradient is a wrong answer."""
    with pytest.raises(InputError, match=r"autograd|no_grad|detach"):
        gradient_profile(torch.no_grad()(lambda x, h: 0.5 * h + x[:, :1]), inputs, state)


@pytest.mark.parametrize("keywords", [{"max_bytes": "1GB"}, {"generator": 0}])
def test_generator_and_max_bytes_of_another_type(keywords):
    with pytest.raises(InputError, match=f"`{next(iter(keywords))}`"):
        gradient_profile(lstm, inputs, **keywords)


def test_a_whole_model_is_told_from_a_step_function():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.core, self.readout = nn.GRU(3, 4), nn.Linear(4, 1)

    with pytest.raises(InputError) as caught:
        gradient_profile(Model(), torch.randn(5, 2, 3))
    assert str(caught.value) == (
        "`recurrence` is a Model, a whole model: found an nn.GRU at `core`; pass model.core, or the model to "
        "rnnvg.input_profile, or watch(model) around a training step."
    )
