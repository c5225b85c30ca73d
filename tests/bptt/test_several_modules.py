"""Several recurrent modules in one model: each by its name, and an encoder's state handed to a decoder as one path."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnvg
from rnnvg import InputError

E, D, B, I, H = 7, 5, 4, 3, 6
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Seq2Seq(nn.Module):
    def __init__(self, cell, layers=1, attention=False, batch_first=False):
        super().__init__()
        torch.manual_seed(0)
        settings = {"num_layers": layers, "batch_first": batch_first}
        self.encoder, self.decoder = CELLS[cell](I, H, **settings), CELLS[cell](I + 1, H, **settings)
        self.attention = attention
        self.double()

    def forward(self, x, y, lengths=None):
        inputs = x if lengths is None else pack_padded_sequence(x, lengths, enforce_sorted=False)
        states, state = self.encoder(inputs)
        output, _ = self.decoder(y, state)
        if self.attention:
            weights = torch.softmax(torch.einsum("tbh,sbh->tbs", output, states), -1)
            output = output + torch.einsum("tbs,sbh->tbh", weights, states)
        return output


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def reference(model, x, y, direct, source, length):
    """ln of the norm of d<direct, out_source> / d(state) by autograd, decoder first and then encoder, for one sequence."""
    found = []
    for back in range(source + 2 + length):
        into_encoder = back > source + 1
        state = None
        if into_encoder:
            keep = length - (back - source - 1)
            if keep:
                state = model.encoder(x[:keep], None)[1]
            else:
                state = tuple(torch.zeros(model.encoder.num_layers, 1, H).double() for _ in range(2))
                state = state if isinstance(model.encoder, nn.LSTM) else state[0]
        else:
            state = model.encoder(x[:length])[1]
            if source + 1 - back:
                state = model.decoder(y[: source + 1 - back], state)[1]
        leaves = [part.detach().requires_grad_() for part in parts(state)]
        state = tuple(leaves) if len(leaves) > 1 else leaves[0]
        if into_encoder:
            state = model.encoder(x[keep:length], state)[1]
            output, _ = model.decoder(y[: source + 1], state)
            top = output[-1]
        elif back:
            output, _ = model.decoder(y[source + 1 - back : source + 1], state)
            top = output[-1]
        else:
            top = leaves[0][-1]
        grads = torch.autograd.grad((top * direct).sum(), leaves, allow_unused=True)
        square = sum(float(grad.square().sum()) for grad in grads if grad is not None)
        found.append(0.5 * math.log(square) if square else -math.inf)
    return np.array(found)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", [None, [7, 2, 5, 1]])
def test_an_encoders_state_handed_to_a_decoder_is_one_path(cell, layers, lengths):
    model, x, y, weight = Seq2Seq(cell, layers), draw(E, B, I), draw(D, B, I + 1, seed=2), draw(D, B, H, seed=3)
    with rnnvg.watch(model) as watcher:
        (model(x, y, None if lengths is None else torch.tensor(lengths)) * weight).sum().backward()
    profile = watcher.profile("decoder")
    assert profile.note.startswith("From distance source + 1 on the path goes through the module")
    for source in (0, 2, D - 1):
        for sequence, length in enumerate(lengths or [E] * B):
            own = slice(sequence, sequence + 1)
            want = reference(model, x[:, own], y[:, own], weight[source, sequence], source, length)
            got = profile.log_norm[source, :, sequence]
            np.testing.assert_allclose(got[: len(want)], want, rtol=1e-9, atol=1e-9)
            assert np.isnan(got[len(want) :]).all()
    last = watcher.profile("decoder", "last", "hidden")
    assert last.log_norm.shape == (1, D + E + 1, B)
    assert watcher.profile("decoder", wrt="input").log_norm.shape == (D, D + E + 1, B)
    assert profile.verify(20).residual < 1e-9
    assert watcher.profile("decoder", layer=0).log_norm.shape == (D, D + 1, B)


@pytest.mark.parametrize("cell", CELLS)
def test_each_modules_contributions_add_up_with_attention_or_without(cell):
    for attention in (False, True):
        model, x, y = Seq2Seq(cell, 2, attention), draw(E, B, I), draw(D, B, I + 1, seed=2)
        with rnnvg.watch(model) as watcher:
            model(x, y).square().sum().backward()
        for name in ("encoder", "decoder"):
            found = watcher.temporal_contributions(name)
            for key, parameter in getattr(model, name).named_parameters():
                torch.testing.assert_close(found.total[key], parameter.grad, rtol=1e-9, atol=1e-12)
    profile = watcher.profile("encoder")
    assert np.isfinite(profile.log_norm[2, 0]).all()  # the direct paths of attention
    assert profile.note == ""


def test_the_input_beyond_the_border_is_the_encoders():
    model, x, y = Seq2Seq("gru"), draw(E, B, I).requires_grad_(), draw(D, B, I + 1, seed=2).requires_grad_()
    with rnnvg.watch(model) as watcher:
        model(x, y)[-1].sum().backward()
    got = watcher.profile("decoder", "last", "input").log_norm[0]
    want = torch.cat([y.grad.flip(0).norm(dim=2), x.grad.flip(0).norm(dim=2)]).log()
    np.testing.assert_allclose(got[:-1], want, rtol=1e-9)
    assert np.isnan(got[-1]).all()


def test_a_chain_of_three_and_calls_in_pieces():
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.GRU(I, H) for name in "abc"}).double()
    x = draw(3, E, B, I)
    with rnnvg.watch(model) as watcher:
        _, state = model["a"](x[0])
        _, state = model["b"](x[1][:3], state)
        _, state = model["b"](x[1][3:], state)
        model["c"](x[2], state)[0][-1].sum().backward()
    profile = watcher.profile("c", "last")
    assert profile.log_norm.shape == (1, 3 * E + 1, B)
    for name, _ in (("a", 0), ("b", 1)):
        model["c"].load_state_dict(model["c"].state_dict())
        assert watcher.profile(name).log_norm.shape[1] >= E + 1
    one = nn.GRU(I, H).double()
    for each in model.values():
        each.load_state_dict(one.state_dict())
    with rnnvg.watch(model) as watcher:
        state = model["b"](x[1], model["a"](x[0])[1])[1]
        model["c"](x[2], state)[0][-1].sum().backward()
    ones = torch.ones(3 * E, B, H, dtype=torch.float64)
    want = rnnvg.gradient_profile(one, x.flatten(0, 1), output_grad=ones)
    np.testing.assert_allclose(watcher.profile("c", "last").log_norm, want.log_norm, rtol=1e-9, atol=1e-9)


def test_names():
    model, x, y = Seq2Seq("lstm"), draw(E, B, I), draw(D, B, I + 1, seed=2)
    with rnnvg.watch(model) as watcher:
        output = model(x, y)
        with pytest.raises(InputError, match="No gradient has come back"):
            watcher.profile("encoder")
        output.sum().backward()
    message = (
        r"^`module` has 2 recurrent modules inside: encoder \(LSTM\), decoder \(LSTM\); pass one of the names, as in "
        r"profile\('encoder'\)\.$"
    )
    for ask in (watcher.profile, watcher.temporal_contributions, lambda: watcher.profile("last", "hidden")):
        with pytest.raises(InputError, match=message):
            ask()
    with pytest.raises(InputError, match=r"`name`.*'decode'"):
        watcher.profile("decode")
    with pytest.raises(InputError, match="`wrt` is given twice"):
        watcher.profile("encoder", "last", "hidden", wrt="state")
    with pytest.raises(InputError, match="is given twice"):
        watcher.profile("encoder", "last", "hidden", 3)


def test_a_monitor_follows_each_of_them():
    model, x, y = Seq2Seq("gru"), draw(E, B, I), draw(D, B, I + 1, seed=2)
    monitor = rnnvg.GradientMonitor(model, every=1)
    assert monitor.metrics() == {}
    assert monitor.reason.startswith("encoder: The recurrent module has not been called yet. decoder:")
    model(x, y)[-1].sum().backward()
    found = monitor.metrics()
    assert {"encoder/horizon", "decoder/horizon", "encoder/verdict", "decoder/step"} <= found.keys()
    assert monitor.verdict() == monitor.verdict("encoder") == "neither"
    x[3] = math.nan
    model(x, y)[-1].sum().backward()
    assert monitor.verdict() == monitor.verdict("encoder") == "not finite"
    assert monitor.reason.startswith("encoder: The input at step 3 is not finite. decoder: The initial state")
    monitor.close()
    assert not model.encoder._forward_hooks
    assert not model.decoder._forward_pre_hooks
