"""Cut off or vanished: against autograd through windows whose carried state is detached."""

import numpy as np
import pytest
import torch
from torch import nn

from rnnvg import models, tasks
from rnnvg.errors import InputError
from rnnvg.functional import truncation

TASK = tasks.make("next-word", distance=4, n_words=6000, bptt=10)
IDS = TASK.corpus.valid[:18]


def build(cell):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return models.build(TASK, cell, hidden=6).double()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bptt", [1, 5, 17, 40])
def test_windows_see_what_autograd_sees(cell, bptt):
    model = build(cell)
    words = torch.tensor(IDS.astype(np.int64))
    embedded = model.encoder(words[:-1, None]).detach().requires_grad_()
    losses, state = [], None
    for start in range(0, 17, bptt):
        hidden, state = model.core(embedded[start : start + bptt], model.detach_state(state))
        losses += nn.functional.cross_entropy(
            model.readout(hidden)[:, 0], words[start + 1 : start + bptt + 1], reduction="none"
        )
    found = truncation(model, IDS, bptt)
    for s, loss in enumerate(losses):
        (gradient,) = torch.autograd.grad(loss, embedded, retain_graph=True)
        with np.errstate(divide="ignore"):
            expected = np.log(gradient[: s + 1, 0].norm(dim=-1).numpy())
        np.testing.assert_allclose(found.log_norm[s, : s + 1], expected, atol=1e-9)
    assert np.isfinite(found.whole.log_norm[np.tril_indices(17)]).all()


def test_a_cut_is_a_share_and_a_vanished_gradient_is_a_number():
    model = build("rnn")
    with torch.no_grad():
        model.core.weight_hh_l0.mul_(1e-9)
    frame = truncation(model, IDS, 5).to_frame()
    assert frame["cut"].iloc[0] == 0
    assert (frame["cut"].iloc[5:] == 1).all()
    assert frame["log10_seen"].iloc[5:].isna().all()
    # Words 1, 6 and 11 of 16 pairs at distance 2 start a window.
    assert frame["cut"].iloc[1] == pytest.approx(3 / 16)
    assert frame["log10_whole"].iloc[10] < -80
    np.testing.assert_allclose(truncation(model, IDS, 17).to_frame()["cut"], 0)


def test_the_figure_shows_both():
    found = truncation(build("gru"), IDS, 5)
    axes = found.plot()
    whole, seen = axes.lines[:2]
    np.testing.assert_allclose(whole.get_ydata(), found.to_frame()["log10_whole"])
    assert np.isnan(seen.get_ydata()[5:].astype(float)).all()


def test_misuse_is_one_clear_sentence():
    with pytest.raises(InputError, match=r"^`bptt` must be a whole number of at least 1; got 0\.$"):
        truncation(build("rnn"), IDS, 0)
