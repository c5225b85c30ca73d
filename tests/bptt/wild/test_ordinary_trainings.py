"""Ordinary training scripts with a monitor attached: the same bits, and every answer right or an honest "not measured".

What comes back is held against `.grad`, which knows nothing of the analyzer, and against float64 autograd by `verify`.
"""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnvg
from rnnvg import InputError

STEPS, B, V, H = 6, 4, 11, 8


class Classifier(nn.Module):
    """Packed sequences of different lengths, the last state read."""

    def __init__(self):
        super().__init__()
        self.embed, self.core, self.out = (
            nn.Embedding(V, 5, padding_idx=0),
            nn.LSTM(5, H, batch_first=True),
            nn.Linear(H, 2),
        )

    def losses(self, generator):
        lengths = torch.randint(1, 9, (B,), generator=generator)
        ids = torch.randint(1, V, (B, int(lengths.max())), generator=generator)
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.core(packed)
        yield F.cross_entropy(self.out(h[-1]), ids[:, 0] % 2)


class LanguageModel(nn.Module):
    """Tied weights, dropout between the layers and on the output, windows with a carried, detached state."""

    def __init__(self):
        super().__init__()
        self.embed, self.core = nn.Embedding(V, H), nn.LSTM(H, H, 2, dropout=0.3)
        self.out = nn.Linear(H, V)
        self.out.weight = self.embed.weight

    def losses(self, generator):
        state, ids = None, torch.randint(V, (13, B), generator=generator)
        for start in (0, 6):
            output, state = self.core(self.embed(ids[start : start + 6]), state)
            yield F.cross_entropy(self.out(F.dropout(output, 0.3)).flatten(0, 1), ids[start + 1 : start + 7].flatten())
            state = tuple(part.detach() for part in state)


class Tagger(nn.Module):
    """Bidirectional: a tag at every step."""

    def __init__(self):
        super().__init__()
        self.embed, self.core, self.out = nn.Embedding(V, 5), nn.GRU(5, H, bidirectional=True), nn.Linear(2 * H, 3)

    def losses(self, generator):
        ids = torch.randint(V, (9, B), generator=generator)
        yield F.cross_entropy(self.out(self.core(self.embed(ids))[0]).flatten(0, 1), ids.flatten() % 3)


class Translator(nn.Module):
    """An encoder and a decoder with dot-product attention."""

    def __init__(self):
        super().__init__()
        self.embed, self.encoder, self.decoder = nn.Embedding(V, H), nn.GRU(H, H), nn.GRU(H, H)
        self.out = nn.Linear(2 * H, V)

    def losses(self, generator):
        ids = torch.randint(V, (7, B), generator=generator)
        states, last = self.encoder(self.embed(ids))
        output, _ = self.decoder(self.embed(ids.flip(0)[:5]), last)
        weights = torch.softmax(torch.einsum("tbh,sbh->tbs", output, states), -1)
        seen = torch.cat([output, torch.einsum("tbs,sbh->tbh", weights, states)], -1)
        yield F.cross_entropy(self.out(seen).flatten(0, 1), ids.flip(0)[1:6].flatten())


class Siamese(nn.Module):
    """One encoder called twice in a step."""

    def __init__(self):
        super().__init__()
        self.core = nn.LSTM(3, H)

    def losses(self, generator):
        one, other = (self.core(torch.randn(9, B, 3, generator=generator))[1][0][-1] for _ in range(2))
        yield F.relu(1 - (one - other).square().sum(1)).mean()


class Accumulated(nn.Module):
    """Three small batches to an optimiser's step, under autocast with a scaler."""

    def __init__(self):
        super().__init__()
        self.core, self.out = nn.GRU(3, H), nn.Linear(H, 1)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def losses(self, generator):
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.out(self.core(torch.randn(9, B, 3, generator=generator))[0][-1]).float().square().mean() / 3
            yield self.scaler.scale(loss)


class WeightDropped(nn.Module):
    """AWD-LSTM: DropConnect on the recurrent weight, locked dropout on the inputs, activation regularisation."""

    def __init__(self):
        super().__init__()
        self.embed, self.core, self.out = nn.Embedding(V, H), nn.LSTM(H, H), nn.Linear(H, V)
        self.raw = nn.Parameter(self.core.weight_hh_l0.detach().clone())
        del self.core._parameters["weight_hh_l0"]
        self.core.weight_hh_l0 = self.raw.detach().clone()

    def losses(self, generator):
        ids = torch.randint(V, (8, B), generator=generator)
        self.core.weight_hh_l0 = F.dropout(self.raw, 0.5, self.training)
        x = self.embed(ids) * F.dropout(torch.ones(1, B, H), 0.3, self.training)
        output, _ = self.core(x)
        yield F.cross_entropy(self.out(output[:-1]).flatten(0, 1), ids[1:].flatten()) + 2 * output.square().mean()


class Policy(nn.Module):
    """A recurrent policy called step by step, its state carried by hand."""

    def __init__(self):
        super().__init__()
        self.core, self.out = nn.GRU(3, H), nn.Linear(H, 2)

    def losses(self, generator):
        state, logs = None, []
        for _ in range(12):
            output, state = self.core(torch.randn(1, B, 3, generator=generator), state)
            logs.append(F.log_softmax(self.out(output[0]), -1)[:, 0])
        yield -(torch.stack(logs) * torch.randn(12, B, generator=generator)).mean()


class Decayed(nn.Module):
    """A plain vanilla RNN of float64 numbers, its recurrent weight orthogonal by parametrization."""

    def __init__(self):
        super().__init__()
        self.core, self.out = nn.RNN(2, H, batch_first=True), nn.Linear(H, 1)
        nn.utils.parametrizations.orthogonal(self.core, "weight_hh_l0")
        self.double()

    def losses(self, generator):
        x = torch.randn(B, 15, 2, generator=generator, dtype=torch.float64)
        yield F.mse_loss(self.out(self.core(x)[0][:, -1]), x[:, 0, :1])


MODELS = [Classifier, LanguageModel, Tagger, Translator, Siamese, Accumulated, WeightDropped, Policy, Decayed]


def train(kind, attach):
    torch.manual_seed(0)
    model, generator = kind(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(model.parameters(), 0.01)
    monitor, heard = None, []
    with contextlib.suppress(InputError):
        monitor = rnnvg.GradientMonitor(model, every=2) if attach else None
    for step in range(STEPS):
        optimiser.zero_grad()
        for loss in model.losses(generator):
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if monitor is not None and step % 3 != 1:
            heard.append((monitor.metrics(), monitor.verdict(), monitor.reason))
    return [*(each.detach() for each in model.parameters()), torch.rand(3)], heard


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_bits_with_and_without(kind):
    (plain, _), (watched, heard) = train(kind, False), train(kind, True)
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    for found, verdict, reason in heard:
        assert found
        assert verdict in ("vanishing", "exploding", "neither", "not measured")
        assert (verdict == "not measured") == bool(reason)


@pytest.mark.parametrize("kind", MODELS)
def test_every_answer_is_right_or_a_refusal(kind):
    torch.manual_seed(0)
    model, generator = kind(), torch.Generator().manual_seed(1)
    rounding = 2e-2 if kind is Accumulated else 1e-4
    with rnnvg.watch(model) as watcher:
        for loss in model.losses(generator):
            loss.backward()
    for name in watcher.recorders:
        module = model.get_submodule(name)
        if module.bidirectional:
            assert watcher.profile(name, direction="forward").verify(6).residual < 1e-3
            assert watcher.profile(name, wrt="input").verify(6).residual < 1e-3
            continue
        found, profile = watcher.temporal_contributions(name), watcher.profile(name)
        for key, parameter in module.named_parameters():
            if key in found.total:
                apart = torch.linalg.vector_norm(found.total[key] - parameter.grad)
                assert apart <= rounding * torch.linalg.vector_norm(parameter.grad)
        if module.dropout:  # its masks are known to be right by the sums alone
            with pytest.raises(InputError, match="dropout between its layers"):
                profile.verify()
        else:
            assert profile.verify(6).residual < 1e-3
