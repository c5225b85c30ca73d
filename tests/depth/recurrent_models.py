"""Recurrent models with one known fault, and healthy ones: what `diagnose` must tell apart. Each is drawn from a seed."""

import random

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rnnvg.models.initialisers import initialise


class Last(nn.Module):
    """A score for each sequence, from the last step's output."""

    def __init__(self, kind, n_inputs=3, hidden=32, **options):
        super().__init__()
        self.rnn = getattr(nn, kind)(n_inputs, hidden, batch_first=True, **options)
        width = options.get("proj_size") or hidden
        self.out = nn.Linear(width * (2 if options.get("bidirectional") else 1), 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Tagger(Last):
    def forward(self, x):
        return self.out(self.rnn(x)[0])


class Packed(Last):
    """Sequences of unequal lengths, in any order; a score from the last state."""

    def forward(self, batch):
        x, lengths = batch
        state = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[1]
        return self.out((state[0] if isinstance(state, tuple) else state)[-1])


class PackedTagger(Last):
    def forward(self, batch):
        x, lengths = batch
        packed = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[0]
        return self.out(pad_packed_sequence(packed, batch_first=True)[0])


class LanguageModel(nn.Module):
    """Tied, with dropout between its layers."""

    def __init__(self, kind, tokens=50, hidden=64):
        super().__init__()
        self.embedding, self.out = nn.Embedding(tokens, hidden), nn.Linear(hidden, tokens)
        self.rnn = getattr(nn, kind)(hidden, hidden, 2, dropout=0.3)
        self.out.weight = self.embedding.weight

    def forward(self, x):
        return self.out(self.rnn(self.embedding(x))[0]).flatten(0, 1)


class Translator(nn.Module):
    """Encoder and decoder, the decoder a module or a cell called step by step, with attention or without, and with teacher
    forcing by Python's own random numbers."""

    def __init__(self, kind, attention=False, cell=False, hidden=32, tokens=20):
        super().__init__()
        self.embedding, self.out = nn.Embedding(tokens, hidden), nn.Linear(hidden, tokens)
        self.encoder = getattr(nn, kind)(hidden, hidden, batch_first=True)
        width = hidden * (2 if attention else 1)
        self.decoder = (
            getattr(nn, f"{kind}Cell")(width, hidden) if cell else getattr(nn, kind)(width, hidden, batch_first=True)
        )
        self.lstm, self.attention, self.cell = kind == "LSTM", attention, cell

    def forward(self, batch):
        source, target = batch
        memory, state = self.encoder(self.embedding(source))
        if not self.attention and not self.cell:
            return self.out(self.decoder(self.embedding(target), state)[0]).flatten(0, 1)
        if self.cell:
            state = tuple(each[0] for each in state) if self.lstm else state[0]
        outputs, x = [], self.embedding(target[:, 0])
        for t in range(target.shape[1]):
            if random.random() < 0.5:
                x = self.embedding(target[:, t])
            if self.attention:
                query = state[0] if self.lstm else state
                weights = (memory @ (query if self.cell else query[0]).unsqueeze(-1)).softmax(1)
                x = torch.cat([x, (memory * weights).sum(1)], -1)
            if self.cell:
                state = self.decoder(x, state)
                y = state[0] if self.lstm else state
            else:
                y, state = self.decoder(x.unsqueeze(1), state)
                y = y[:, 0]
            outputs.append(self.out(y))
            x = self.embedding(outputs[-1].argmax(-1))
        return torch.stack(outputs, 1).flatten(0, 1)


class Stepped(nn.Module):
    """A cell called step by step."""

    def __init__(self, kind, hidden=32):
        super().__init__()
        self.cell, self.out = getattr(nn, kind)(3, hidden), nn.Linear(hidden, 1)

    def forward(self, x):
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.out(state[0] if isinstance(state, tuple) else state)


class HandWritten(nn.Module):
    """An LSTM or a ReLU network of plain linear layers."""

    def __init__(self, gated, hidden=32):
        super().__init__()
        self.step, self.out = nn.Linear(3 + hidden, hidden * (4 if gated else 1)), nn.Linear(hidden, 1)
        self.gated, self.hidden = gated, hidden

    def forward(self, x):
        h = c = x.new_zeros(len(x), self.hidden)
        for t in range(x.shape[1]):
            z = self.step(torch.cat([x[:, t], h], -1))
            if self.gated:
                i, f, g, o = z.chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                h = torch.relu(z)
        return self.out(h)


def squared(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()  # PyTorch 2.3 has no mse_loss in half precision on the CPU


def crossed(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1].flatten())


def drawn(steps=30, batch=16, scale=1.0, tags=False):
    x = scale * torch.randn(batch, steps, 3)
    return x, torch.randn(batch, steps, 1) if tags else torch.randn(batch, 1)


def unequal(steps=30, batch=16, scale=1.0, tags=False):
    lengths = torch.randint(2, steps + 1, (batch,))
    lengths[3] = steps
    x, y = drawn(steps, batch, scale, tags)
    return (x, lengths), y


def texts(steps=35, batch=8):
    x = torch.randint(50, (steps, batch))
    return x, torch.randint(50, (steps, batch))


def pairs(batch=8):
    target = torch.randint(20, (batch, 20))
    return (torch.randint(20, (batch, 25)), target), target


def started(model, init, cell, t_max=None):
    initialise(model.rnn, cell, init, t_max)
    return model


@torch.no_grad()
def scaled(model, name, factor):
    for each, parameter in model.named_parameters():
        if name in each:
            parameter.mul_(factor)
    return model


@torch.no_grad()
def shut(model, gate, of, value):
    """The biases of one gate at `value`; gates are in PyTorch's order, `of` many."""
    for name, parameter in model.named_parameters():
        if "bias_ih" in name:
            parameter.view(of, -1)[gate] = value
    return model


def healthy():
    found = {}
    for kind in ("LSTM", "GRU"):
        made = {
            "": lambda kind=kind: (Last(kind), drawn(), squared),
            "long": lambda kind=kind: (Last(kind, hidden=64), drawn(steps=200, batch=8), squared),
            "small": lambda kind=kind: (Last(kind, hidden=8), drawn(steps=50, batch=8), squared),
            "stacked": lambda kind=kind: (Last(kind, num_layers=3, dropout=0.2), drawn(), squared),
            "bidirectional": lambda kind=kind: (Last(kind, bidirectional=True, num_layers=2), drawn(), squared),
            "bidirectional tagger": lambda kind=kind: (Tagger(kind, bidirectional=True), drawn(tags=True), squared),
            "packed": lambda kind=kind: (Packed(kind), unequal(), squared),
            "packed bidirectional tagger": lambda kind=kind: (
                PackedTagger(kind, bidirectional=True),
                unequal(tags=True),
                squared,
            ),
            "language model": lambda kind=kind: (LanguageModel(kind), texts(), crossed),
            "translator": lambda kind=kind: (Translator(kind), pairs(), crossed),
            "translator with attention": lambda kind=kind: (Translator(kind, attention=True), pairs(), crossed),
            "translator of cells": lambda kind=kind: (Translator(kind, cell=True), pairs(), crossed),
            "cell": lambda kind=kind: (Stepped(f"{kind}Cell"), drawn(), squared),
            "orthogonal": lambda kind=kind: (started(Last(kind), "orthogonal", kind.lower()), drawn(), squared),
            "chrono": lambda kind=kind: (started(Last(kind), "chrono", kind.lower(), 1000), drawn(), squared),
            "inputs of 5": lambda kind=kind: (Last(kind), drawn(scale=5.0), squared),
        }
        found |= {f"{kind} {name}".strip(): make for name, make in made.items()}
    found["LSTM forget bias"] = lambda: (started(Last("LSTM"), "forget-bias", "lstm"), drawn(), squared)
    found["LSTM projected"] = lambda: (Last("LSTM", proj_size=8), drawn(), squared)
    found["LSTM by hand"] = lambda: (HandWritten(gated=True), drawn(), squared)
    found["RNN tagger"] = lambda: (Tagger("RNN"), drawn(tags=True), squared)
    found["RNN identity"] = lambda: (
        started(Last("RNN", nonlinearity="relu"), "identity", "rnn-relu"),
        drawn(scale=0.3),
        squared,
    )
    return found


def stretched(make, init, cell, factor, **options):
    return scaled(started(make("RNN", **options), init, cell), "weight_hh", factor)


def not_finite(value, target=False):
    x, y = drawn()
    if target:
        y[2] = value
    else:
        x[3, 7, 1] = value
    return x, y


@torch.no_grad()
def without(model):
    model.rnn.weight_hh_l0[1, 2] = torch.nan
    return model


SATURATED, EXPLODING, VANISHING = "saturated-gates", "exploding-through-time", "vanishing-through-time"
RELU = {"nonlinearity": "relu"}
FAULTY = {
    "LSTM unscaled": (SATURATED, lambda: (Last("LSTM"), drawn(scale=100.0), squared)),
    "GRU unscaled": (SATURATED, lambda: (Last("GRU"), drawn(scale=255.0), squared)),
    "RNN unscaled": ("saturated-units", lambda: (Last("RNN"), drawn(scale=100.0), squared)),
    "LSTM packed unscaled": (SATURATED, lambda: (Packed("LSTM"), unequal(scale=100.0), squared)),
    "GRU bidirectional unscaled": (SATURATED, lambda: (Last("GRU", bidirectional=True), drawn(scale=100.0), squared)),
    "LSTMCell unscaled": (SATURATED, lambda: (Stepped("LSTMCell"), drawn(scale=100.0), squared)),
    "GRUCell unscaled": (SATURATED, lambda: (Stepped("GRUCell"), drawn(scale=100.0), squared)),
    "translator unscaled": (SATURATED, lambda: (scaled(Translator("LSTM"), "embedding", 100.0), pairs(), crossed)),
    "LSTM input gate shut": (SATURATED, lambda: (shut(Last("LSTM"), 0, 4, -10.0), drawn(), squared)),
    "LSTM forget gate shut": (SATURATED, lambda: (shut(Last("LSTM"), 1, 4, -10.0), drawn(), squared)),
    "LSTM output gate shut": (SATURATED, lambda: (shut(Last("LSTM"), 3, 4, -10.0), drawn(), squared)),
    "RNN chaotic": (EXPLODING, lambda: (stretched(Last, "orthogonal", "rnn", 2.5), drawn(60, scale=0.1), squared)),
    "RNN chaotic tagger": (
        EXPLODING,
        lambda: (stretched(Tagger, "orthogonal", "rnn", 2.5), drawn(60, scale=0.1, tags=True), squared),
    ),
    "ReLU": (EXPLODING, lambda: (stretched(Last, "identity", "rnn-relu", 1.3, **RELU), drawn(60, scale=0.1), squared)),
    "ReLU beyond float32": (
        EXPLODING,
        lambda: (stretched(Last, "identity", "rnn-relu", 3.0, **RELU), drawn(100), squared),
    ),
    "RNN packed": (
        EXPLODING,
        lambda: (stretched(PackedTagger, "orthogonal", "rnn", 2.5), unequal(60, scale=0.1, tags=True), squared),
    ),
    "RNNCell": (EXPLODING, lambda: (scaled(Stepped("RNNCell"), "weight_hh", 6.0), drawn(60, scale=0.1), squared)),
    "GRU stretched": (EXPLODING, lambda: (scaled(Last("GRU"), "weight_hh", 14.0), drawn(80, scale=0.1), squared)),
    "ReLU by hand": (
        EXPLODING,
        lambda: (scaled(HandWritten(gated=False), "step.weight", 4.0), drawn(60, scale=0.1), squared),
    ),
    "RNN": (VANISHING, lambda: (Last("RNN"), drawn(60), squared)),
    "RNN of small weights": (VANISHING, lambda: (scaled(Last("RNN"), "weight_hh", 0.2), drawn(20), squared)),
    "RNN packed to its end": (VANISHING, lambda: (Packed("RNN"), unequal(60), squared)),
    "RNN bidirectional": (VANISHING, lambda: (Last("RNN", bidirectional=True), drawn(60), squared)),
    "RNNCell far": (VANISHING, lambda: (Stepped("RNNCell"), drawn(60), squared)),
    "LSTM forgetful": (VANISHING, lambda: (shut(Last("LSTM"), 1, 4, -3.0), drawn(), squared)),
    "LSTMCell forgetful": (VANISHING, lambda: (shut(Stepped("LSTMCell"), 1, 4, -3.0), drawn(), squared)),
    "GRU forgetful": (VANISHING, lambda: (scaled(shut(Last("GRU"), 1, 3, -3.0), "weight_hh", 0.3), drawn(), squared)),
    "nan in inputs": ("non-finite-batch", lambda: (Last("LSTM"), not_finite(torch.nan), squared)),
    "inf in inputs": ("non-finite-batch", lambda: (Last("GRU"), not_finite(torch.inf), squared)),
    "inf in targets": ("non-finite-batch", lambda: (Last("RNN"), not_finite(torch.inf, target=True), squared)),
    "nan in weights": ("non-finite-weights", lambda: (without(Last("LSTM")), drawn(), squared)),
    "log of 0": (
        "non-finite-loss",
        lambda: (Last("LSTM"), drawn(), lambda model, batch: model(batch[0]).mul(0).log().mean()),
    ),
}


def make(factory, seed):
    """(model, batch, loss), drawn from one seed."""
    torch.manual_seed(seed)
    random.seed(seed)
    return factory()
