"""Influence of earlier words against autograd and gradient_profile; loss without context against reading word by word."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rnnvg import gradient_profile, models, tasks
from rnnvg.errors import InputError
from rnnvg.functional import context_loss, influence
from tests.reference import rounding

TASK = tasks.make("next-word", distance=4, n_words=6000, bptt=10)
IDS = TASK.corpus.valid[:40]


def build(cell="lstm", layers=1, dtype=torch.float64, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return models.build(TASK, cell, hidden=12, layers=layers, **settings).to(dtype)


def by_autograd(model, ids, before=()):
    """ln ||d loss of word s + 1 / d embedding of word j|| and losses, one backward pass a word."""
    words = torch.tensor(np.array(ids, dtype=np.int64))
    state = model.core(model.encode(torch.tensor(before)[:, None]))[1] if len(before) else None
    embedded = model.encoder(words[:-1, None]).detach().requires_grad_()
    hidden, _ = model.core(embedded, model.detach_state(state))
    losses = nn.functional.cross_entropy(model.readout(hidden)[:, 0], words[1:], reduction="none")
    size = len(losses)
    found = np.full((size, size), np.nan)
    for s in range(size):
        (gradient,) = torch.autograd.grad(losses[s], embedded, retain_graph=True)
        found[s, : s + 1] = gradient[: s + 1, 0].norm(dim=-1).log().numpy()
    return found, losses.detach().numpy()


@pytest.mark.parametrize("cell", models.CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_influence_is_autograds(cell, layers):
    model = build(cell, layers, tied=True, dropout=0.5)
    model.train()
    found = influence(model, IDS[:15])
    slowly, losses = by_autograd(model.eval(), IDS[:15])
    np.testing.assert_allclose(found.log_norm, slowly, atol=1e-9)
    np.testing.assert_allclose(found.loss, losses, atol=1e-12)


@given(size=st.integers(1, 12), n_before=st.integers(0, 6))
def test_what_was_read_before_counts_through_the_state(size, n_before):
    model = build("gru")
    before = IDS[:n_before].tolist()
    ids = IDS[n_before : n_before + size + 1]
    found = influence(model, ids, before=before)
    slowly, losses = by_autograd(model, ids, before)
    np.testing.assert_allclose(found.log_norm, slowly, atol=1e-9)
    np.testing.assert_allclose(found.loss, losses, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_influence_of_distance_is_gradient_profiles(dtype):
    model = build("lstm", dtype=dtype)
    words = torch.tensor(IDS.astype(np.int64))[:, None]
    with torch.no_grad():
        inputs = model.encode(words[:-1])
    hidden = model.core(inputs)[0].detach().requires_grad_()
    loss = nn.functional.cross_entropy(model.readout(hidden).flatten(0, 1), words[1:, 0], reduction="sum")
    (output_grad,) = torch.autograd.grad(loss, hidden)
    profile = gradient_profile(model.core, inputs, output_grad=output_grad, sources="all", wrt="input")
    found = influence(model, words[:, 0])
    close = rounding(dtype, steps=len(IDS), terms=4 * model.core.hidden_size)
    np.testing.assert_allclose(found.profile.log_norm, profile.log_norm, atol=close)
    theirs = profile.curve(reference=0)
    theirs = theirs[theirs["n"] > 0]
    np.testing.assert_allclose(found.curve()["log10_gain"], theirs["log10_gain"], atol=close)
    assert found.curve()["distance"].tolist() == list(range(1, len(IDS)))


def test_a_vanished_influence_has_a_size_and_a_certain_word_a_gradient():
    model = build("rnn", dtype=torch.float32)
    with torch.no_grad():
        model.core.weight_hh_l0.mul_(1e-20)
        model.readout.bias[int(IDS[-1])] = 60.0
    found = influence(model, IDS)
    assert found.loss[-1] < 1e-20
    assert np.isfinite(found.log_norm[np.tril_indices(len(IDS) - 1)]).all()
    assert found.log_norm[-1, 0] < -1500


def test_tables_have_a_row_a_pair_and_a_row_a_distance():
    model = build()
    found = influence(model, IDS[:5])
    frame = found.to_frame(TASK.vocabulary.decode(IDS[:5]))
    assert len(frame) == 4 * 5 / 2
    row = frame[(frame["position"] == 4) & (frame["source_position"] == 1)].iloc[0]
    assert row["distance"] == 3
    assert row["word"] == TASK.vocabulary.words[IDS[4]]
    assert row["source_word"] == TASK.vocabulary.words[IDS[1]]
    assert row["log10_influence"] == pytest.approx(found.log_norm[3, 1] / math.log(10))
    assert row["loss"] == found.loss[3]
    assert found.to_frame()["word"].iloc[0] == int(IDS[1])
    axes = found.plot()
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), found.curve()["log10_gain"])


def slow_loss(model, context, due, state=None):
    """The price of one word after a context, read word by word."""
    for word in context:
        outputs, state = model(torch.tensor([[int(word)]]), state)
    return float(-outputs[0, 0].log_softmax(-1)[int(due)])


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 2), ("gru", 1), ("rnn", 1)])
def test_dropped_context_is_a_shorter_text(cell, layers):
    model = build(cell, layers)
    found = context_loss(model, IDS[:12], [1, 3, 10])
    with torch.no_grad():
        for k, loss in found.changed["dropped"].items():
            assert np.isnan(loss[:k]).all()
            slowly = [slow_loss(model, IDS[s - k + 1 : s + 1], IDS[s + 1]) for s in range(k, 11)]
            np.testing.assert_allclose(loss[k:], slowly, atol=1e-10)
        np.testing.assert_allclose(found.loss, influence(model, IDS[:12]).loss, atol=1e-12)


def test_shuffled_context_keeps_the_last_words_in_order(monkeypatch):
    model = build("lstm")
    turned = lambda n, generator=None: torch.arange(n - 1, -1, -1)  # noqa: E731
    monkeypatch.setattr(torch, "randperm", turned)
    found = context_loss(model, IDS[5:17], [2], before=IDS[:5])
    with torch.no_grad():
        state = model(torch.tensor(IDS[:5].astype(np.int64))[:, None])[1]
        ids = IDS[5:17]
        for s in range(3, 11):
            context = [*ids[: s - 1][::-1], *ids[s - 1 : s + 1]]
            assert found.changed["shuffled"][2][s] == pytest.approx(slow_loss(model, context, ids[s + 1], state))
    assert np.isnan(found.changed["shuffled"][2][:3]).all()


def test_the_same_seed_shuffles_the_same_and_parts_do_not_matter(monkeypatch):
    model = build("gru")
    first = context_loss(model, IDS, [1, 2], generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr("rnnvg.functional.context.READ_AT_ONCE", 50)
    again = context_loss(model, IDS, [1, 2], generator=torch.Generator().manual_seed(1))
    for how in ("dropped", "shuffled"):
        np.testing.assert_allclose(first.changed[how][2], again.changed[how][2], atol=1e-12)
    other = context_loss(model, IDS, [1, 2], generator=torch.Generator().manual_seed(2))
    assert not np.allclose(first.changed["shuffled"][1][5:], other.changed["shuffled"][1][5:])


def test_the_table_of_losses_compares_the_same_words():
    model = build()
    found = context_loss(model, IDS)
    frame = found.to_frame().set_index(["how", "context"])
    assert [k for how, k in frame.index if how == "dropped"] == [1, 2, 5, 10]
    row = frame.loc[("dropped", 5)]
    loss = found.changed["dropped"][5]
    assert row["n"] == len(IDS) - 1 - 5
    assert row["increase"] == pytest.approx(np.mean(loss[5:] - found.loss[5:]))


def test_a_network_without_memory_loses_nothing():
    model = build("rnn")
    with torch.no_grad():
        model.core.weight_hh_l0.zero_()
    frame = context_loss(model, IDS).to_frame()
    np.testing.assert_allclose(frame["increase"], 0, atol=1e-12)
    assert np.isneginf(influence(model, IDS).log_norm[5, :5]).all()


def numbers_model():
    return models.build(tasks.make("adding"), "rnn", hidden=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: influence(numbers_model(), IDS),
            "`model` must be a SequenceModel that reads words; got one that reads numbers.",
        ),
        (lambda: influence(nn.LSTM(2, 2), IDS), "`model` must be a SequenceModel that reads words; got LSTM."),
        (
            lambda: influence(build(), IDS[:1]),
            "`ids` needs at least 2 words, one to read and one to predict; got 1.",
        ),
        (lambda: influence(build(), [3, 251]), "`ids` holds 251, and the model knows the ids 0 to 250."),
        (lambda: influence(build(), [3, 2], before=[-1]), "`before` holds -1, and the model knows the ids 0 to 250."),
        (
            lambda: influence(build(), [0.5, 1]),
            "`ids` must be word ids, whole numbers in one row; got float64 (2,).",
        ),
        (
            lambda: context_loss(build(), IDS[:4], [3]),
            "`contexts` must be numbers of words from 1 to 2, fewer than the 3 that are read; got [3].",
        ),
        (lambda: context_loss(build(), IDS, [0]), "`contexts` must be a whole number of at least 1; got 0."),
    ],
)
def test_misuse_is_one_clear_sentence(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == message


def test_a_model_that_is_lost_says_where():
    model = build()
    with torch.no_grad():
        model.readout.bias.fill_(math.nan)
    with pytest.raises(InputError) as caught:
        influence(model, IDS)
    assert str(caught.value) == "The model's loss at word 1 is nan; pass a model whose training stayed finite."
