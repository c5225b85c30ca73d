"""What comes in another shape or dtype than [T, B, I] in float32: the same numbers as for the batch, or as for its float64."""

import numpy as np
import pytest
import torch
from torch import nn

import rnnvg
from rnnvg import InputError

T, B, I, H = 11, 4, 3, 6
MODULES = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(cell, **settings):
    torch.manual_seed(0)
    return MODULES[cell](I, H, **settings).double()


@pytest.mark.parametrize("cell", MODULES)
@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence_without_a_batch_axis(cell, batch_first):
    module, x, weight = make(cell, num_layers=2, batch_first=batch_first), draw(T, I), draw(T, H, seed=2)
    state = (draw(2, H, seed=3), draw(2, H, seed=4)) if cell == "lstm" else draw(2, H, seed=3)
    batch, batched = (0 if batch_first else 1), tuple(part.unsqueeze(1) for part in state) if cell == "lstm" else None
    batched = batched or state.unsqueeze(1)
    one, many = (x, state), (x.unsqueeze(batch), batched)
    grad, grads = weight, weight.unsqueeze(batch)
    got = rnnvg.gradient_profile(module, *one, output_grad=grad, sources=3)
    want = rnnvg.gradient_profile(module, *many, output_grad=grads, sources=3)
    np.testing.assert_array_equal(got.log_norm, want.log_norm)
    certificate = got.verify()
    assert certificate.residual < 1e-9
    assert max(certificate.weights.values()) < 1e-9
    got, want = (rnnvg.temporal_contributions(module, *a, output_grad=g) for a, g in ((one, grad), (many, grads)))
    assert all(torch.equal(got.total[name], want.total[name]) for name in want.names)
    assert max(got.verify().weights.values()) < 1e-9
    got, want = (rnnvg.attribute_decay(module, *a, output_grad=g) for a, g in ((one, grad), (many, grads)))
    np.testing.assert_array_equal(got.log_norm, want.log_norm)
    got, want = (rnnvg.lyapunov_spectrum(module, *a) for a in (one, many))
    np.testing.assert_array_equal(got.exponents, want.exponents)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cell", MODULES)
def test_narrow_modules_are_analysed_in_float32_and_say_so(cell, dtype):
    module, x = make(cell).to(dtype), draw(T, B, I).to(dtype)
    wide = MODULES[cell](I, H)
    wide.load_state_dict(module.state_dict())
    got, want = rnnvg.gradient_profile(module, x), rnnvg.gradient_profile(wide, x.float())
    np.testing.assert_array_equal(got.log_norm, want.log_norm)
    name = str(dtype).removeprefix("torch.")
    assert got.note == f"Computed in float32 from {name} weights and inputs."
    assert want.note == ""
    certificate = got.verify()
    assert certificate.residual < 1e-4
    assert certificate.dtype == "float32"
    with rnnvg.watch(module) as watcher:
        module(x)[0].float().sum().backward()
    assert watcher.profile().note == got.note
    with pytest.raises(InputError, match=rf"`inputs` is torch\.float32 and the module's weights {dtype}|has dtype"):
        rnnvg.gradient_profile(wide, x)


@pytest.mark.parametrize("cell", MODULES)
@pytest.mark.parametrize("batch_first", [False, True])
def test_what_is_behind_the_lengths_does_not_matter(cell, batch_first):
    module, x, lengths = make(cell, batch_first=batch_first), draw(T, B, I), torch.tensor([11, 4, 7, 1])
    for sequence, length in enumerate(lengths):
        x[length:, sequence] = torch.nan
    x = x.transpose(0, 1) if batch_first else x
    got = rnnvg.gradient_profile(module, x, lengths=lengths, sources=2)
    want = rnnvg.gradient_profile(module, torch.nan_to_num(x, nan=5.0), lengths=lengths, sources=2)
    np.testing.assert_array_equal(got.log_norm, want.log_norm)
    assert got.verify().residual < 1e-9
    with pytest.raises(InputError, match="holds a value that is not finite"):
        rnnvg.gradient_profile(module, x)
    with pytest.raises(InputError, match="holds a value that is not finite"):
        rnnvg.gradient_profile(module, x, lengths=[11, 5, 7, 1])


def test_states_with_more_axes():
    torch.manual_seed(0)
    conv = nn.Conv2d(2 + 3, 12, 3, padding=1).double()

    def cell(x, state):
        h, c = state
        i, f, g, o = conv(torch.cat([x, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def flat(x, state):
        return tuple(part.flatten(1) for part in cell(x, tuple(part.view(B, 3, 5, 5) for part in state)))

    x, zero, grad = draw(T, B, 2, 5, 5), torch.zeros(B, 3, 5, 5).double(), draw(T, B, 3, 5, 5, seed=2)
    got = rnnvg.gradient_profile(cell, x, (zero, zero), output_grad=grad, sources=3)
    want = rnnvg.gradient_profile(flat, x, (zero.flatten(1), zero.flatten(1)), output_grad=grad.flatten(2), sources=3)
    np.testing.assert_array_equal(got.log_norm, want.log_norm)
    assert got.verify().residual < 1e-9
    spectrum = rnnvg.lyapunov_spectrum(cell, x, (zero, zero), n_exponents=2)
    assert spectrum.exponents.shape == (B, 2)
