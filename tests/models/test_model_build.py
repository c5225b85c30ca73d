"""Networks that fit a task: shapes, counts, what is handed to the core, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnvg import models, tasks
from rnnvg.errors import InputError

NUMBERS = tasks.make("adding", length=10)
TOKENS = tasks.make("copy", delay=5, n_symbols=4)
TEXT = SimpleNamespace(name="next-word", kind="tokens", n_inputs=30, n_outputs=30, distances=None)
GATES = {"rnn": 1, "rnn-relu": 1, "lstm": 4, "gru": 3}


def by_hand(task, cell, hidden, layers=1, embed=None, tied=False):
    """The number of parameters, counted on paper."""
    width = (embed or hidden) if task.kind == "tokens" else (embed or task.n_inputs)
    encoder = task.n_inputs * width if task.kind == "tokens" else (task.n_inputs + 1) * width if embed else 0
    core = sum(GATES[cell] * hidden * ((width if layer == 0 else hidden) + hidden + 2) for layer in range(layers))
    return encoder + core + (0 if tied else hidden * task.n_outputs) + task.n_outputs


@given(
    cell=st.sampled_from(models.CELLS),
    tokens=st.booleans(),
    hidden=st.integers(1, 6),
    layers=st.integers(1, 3),
    embed=st.none() | st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_shapes_and_counts(cell, tokens, hidden, layers, embed):
    task = TOKENS if tokens else NUMBERS
    model = models.build(task, cell, hidden=hidden, layers=layers, embed=embed)
    batch = task.batch(3, torch.Generator())
    encoded = model.encode(batch.inputs)
    outputs, state = model(batch.inputs)
    assert encoded.shape == (task.steps, 3, model.core.input_size)
    assert outputs.shape == (task.steps, 3, task.n_outputs)
    assert [each.shape for each in (state if cell == "lstm" else (state,))] == [(layers, 3, hidden)] * (
        1 + (cell == "lstm")
    )
    assert models.count_parameters(model) == by_hand(task, cell, hidden, layers, embed)


def test_the_core_is_pytorchs_own_module_time_first():
    kinds = {cell: models.build(NUMBERS, cell, hidden=2).core for cell in models.CELLS}
    assert [type(core) for core in kinds.values()] == [nn.RNN, nn.RNN, nn.LSTM, nn.GRU]
    assert kinds["rnn"].nonlinearity == "tanh"
    assert kinds["rnn-relu"].nonlinearity == "relu"
    assert not any(core.batch_first or core.dropout for core in kinds.values())


@pytest.mark.parametrize("cell", models.CELLS)
def test_a_sequence_in_two_parts_gives_the_same_outputs(cell):
    model = models.build(TOKENS, cell, hidden=4, layers=2)
    inputs = TOKENS.batch(3, torch.Generator()).inputs
    whole, end = model(inputs)
    first, state = model(inputs[:3])
    second, last = model(inputs[3:], model.detach_state(state))
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)


def test_detach_state_cuts_the_graph_and_keeps_the_numbers():
    for cell in ("gru", "lstm"):
        model = models.build(NUMBERS, cell, hidden=2)
        _, state = model(torch.ones(3, 1, 2))
        cut = model.detach_state(state)
        assert type(cut) is type(state)
        for before, after in zip(state, cut, strict=True):
            assert before.requires_grad
            assert not after.requires_grad
            assert torch.equal(before, after)
    assert model.detach_state(None) is None


def test_building_draws_from_the_global_generator_alone():
    torch.manual_seed(3)
    one = models.build(TOKENS, "lstm", hidden=4, init="chrono")
    torch.manual_seed(3)
    two = models.build(TOKENS, "lstm", hidden=4, init="chrono")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_tied_readout_is_the_embedding():
    model = models.build(TEXT, "gru", hidden=6, tied=True)
    assert model.readout.weight is model.encoder.weight
    assert model.readout.weight.abs().max() <= 0.1
    assert models.count_parameters(model) == by_hand(TEXT, "gru", 6, tied=True)
    model(torch.zeros(4, 2, dtype=torch.long))[0].sum().backward()
    assert model.encoder.weight.grad.abs().sum() > 0


def test_the_spec_gives_the_same_shapes_again():
    model = models.build(TEXT, "lstm", hidden=6, layers=2, embed=6, tied=True, dropout=0.3)
    again = models.SequenceModel(**model.spec)
    assert again.spec == model.spec
    assert [p.shape for p in again.parameters()] == [p.shape for p in model.parameters()]


def test_locked_dropout_keeps_one_mask_over_all_steps_and_none_in_evaluation():
    model = models.build(NUMBERS, "gru", hidden=3, embed=200, dropout=0.25)
    inputs = torch.rand(7, 2, 2)
    whole = model.eval().encode(inputs)
    kept = model.train().encode(inputs) / whole
    assert torch.equal(whole, model.encoder(inputs))
    torch.testing.assert_close(kept, kept[:1].expand_as(kept))
    torch.testing.assert_close(kept[kept > 0], torch.full_like(kept[kept > 0], 4 / 3))
    assert not torch.equal(kept[0, 0], kept[0, 1])
    assert 0.6 < (kept > 0).float().mean() < 0.9


def test_dropout_reaches_the_readout_but_not_the_recurrence():
    model = models.build(NUMBERS, "rnn", hidden=50, dropout=0.5).train()
    seen = []
    model.readout.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    inputs = torch.rand(4, 1, 2)
    model.encoder.register_forward_hook(lambda *_: torch.zeros(4, 1, 2))  # nothing left for the first mask to change
    model(inputs)
    model.eval()(inputs)
    dropped, whole = seen
    kept = dropped != 0
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert 0 < kept.float().mean() < 1
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])


@pytest.mark.parametrize("cell", models.CELLS)
@pytest.mark.parametrize("more", [{}, {"embed": 5}, {"layers": 2}])
def test_matched_hidden_is_the_nearest_size(cell, more):
    for wanted in (1, 60, 500, 7001):
        found = models.matched_hidden(NUMBERS, cell, wanted, **more)
        distance = [abs(by_hand(NUMBERS, cell, hidden, **more) - wanted) for hidden in range(1, 100)]
        assert found == 1 + int(np.argmin(distance))


def test_matched_hidden_finds_a_model_by_its_own_count_and_draws_nothing():
    state = torch.get_rng_state()
    for task, more in ((TEXT, {"tied": True}), (TOKENS, {}), (NUMBERS, {"layers": 3})):
        assert models.matched_hidden(task, "gru", by_hand(task, "gru", 37, **more), **more) == 37
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (
            NUMBERS,
            {"cell": "lsmt"},
            "`cell` has no 'lsmt'. Did you mean 'lstm'? "
            "Pass one of: rnn, rnn-relu, lstm, gru, leaky, residual, layer-norm, mingru, lru, lem, attention, tcn.",
        ),
        (NUMBERS, {"hidden": 0}, "`hidden` must be a whole number of at least 1; got 0."),
        (NUMBERS, {"layers": -1}, "`layers` must be a whole number of at least 1; got -1."),
        (NUMBERS, {"embed": 0}, "`embed` must be a whole number of at least 1; got 0."),
        (NUMBERS, {"dropout": 1.0}, "`dropout` must be a number strictly between 0 and 1; got 1."),
        (NUMBERS, {"t_max": 1, "init": "chrono"}, "`t_max` must be a whole number of at least 2; got 1."),
        (
            NUMBERS,
            {"init": "crono"},
            "`init` has no 'crono'. Did you mean 'chrono'? "
            "Pass one of: default, orthogonal, identity, forget-bias, chrono, keras, xavier.",
        ),
        (
            NUMBERS,
            {"cell": "rnn", "init": "chrono"},
            "`init` 'chrono' sets the biases of gates and does not fit cell 'rnn'. It fits: lstm, gru.",
        ),
        (
            NUMBERS,
            {"init": "identity"},
            "`init` 'identity' makes the one recurrent matrix of a network without gates the identity "
            "and does not fit cell 'lstm'. It fits: rnn, rnn-relu.",
        ),
        (
            NUMBERS,
            {"cell": "gru", "init": "forget-bias"},
            "`init` 'forget-bias' sets the bias of a forget gate and does not fit cell 'gru'. It fits: lstm.",
        ),
        (
            TEXT,
            {"init": "chrono"},
            "`init` 'chrono' needs the longest dependency in steps, which task 'next-word' does not know. "
            "Pass t_max, for example t_max=35.",
        ),
        (
            NUMBERS,
            {"tied": True},
            "`tied` shares an embedding with the readout; task 'adding' has none. Pass tied=False.",
        ),
        (
            TOKENS,
            {"tied": True},
            "`tied` needs as many outputs as tokens; task 'copy' has 6 tokens and 5 outputs. Pass tied=False.",
        ),
        (
            TEXT,
            {"tied": True, "embed": 3},
            "`tied` needs `embed` and `hidden` to be equal; got 3 and 4. Pass embed=4 or tied=False.",
        ),
    ],
)
def test_misuse_is_one_sentence(task, arguments, message):
    with pytest.raises(InputError) as raised:
        models.build(task, **{"cell": "lstm", "hidden": 4, **arguments})
    assert str(raised.value) == message
