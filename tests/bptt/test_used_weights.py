"""The weights analysed are the weights used, wherever they come from; where that cannot be, the answer is a refusal."""

import contextlib
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fused_optimisers import skipped_without_fused
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import rnnvg
from rnnvg import InputError

T, B, I, H = 12, 4, 3, 8


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(module, weights):
    """PyTorch's own module with `weights`: the reference, which knows no wrapper."""
    torch.manual_seed(0)
    kind = next(kind for kind in (nn.RNN, nn.LSTM, nn.GRU) if isinstance(module, kind))
    other = kind(module.input_size, module.hidden_size, module.num_layers).double()
    with torch.no_grad():
        for name, weight in weights.items():
            getattr(other, name).copy_(weight)
    return other


def used(module):
    """What the call that came last ran with."""
    return {n: w.detach().clone() for n, w in zip(module._flat_weights_names, module._flat_weights, strict=True)}


def same(one, two):
    np.testing.assert_allclose(one.log_norm, two.log_norm, rtol=1e-9, atol=1e-9)


class Halved(nn.Module):
    """A parametrization with dropout of its own: a new mask on every read."""

    def forward(self, weight):
        return F.dropout(weight, 0.5, self.training)


WRAPS = {
    "orthogonal": lambda m: parametrizations.orthogonal(m, "weight_hh_l0"),
    "weight_norm": lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
    "spectral_norm": lambda m: parametrizations.spectral_norm(m, "weight_hh_l0"),
    "dropout": lambda m: parametrize.register_parametrization(m, "weight_hh_l0", Halved()),
    "old weight_norm": lambda m: nn.utils.weight_norm(m, "weight_hh_l0"),
    "old spectral_norm": lambda m: nn.utils.spectral_norm(m, "weight_hh_l0"),
    "pruned": lambda m: prune.random_unstructured(m, "weight_hh_l0", 0.3),
}


def wrapped(how, cell=nn.GRU):
    torch.manual_seed(0)
    module = cell(I, H).double()
    with pytest.warns((FutureWarning, UserWarning)) if how == "old weight_norm" else contextlib.nullcontext():
        WRAPS[how](module)
    return module


@pytest.mark.parametrize("how", WRAPS)
@pytest.mark.parametrize("cell", [nn.RNN, nn.LSTM, nn.GRU])
def test_computed_weights_as_the_call_used_them(how, cell):
    module, x, weight = wrapped(how, cell), draw(T, B, I), draw(T, B, H, seed=2)
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        (module(x)[0] * weight).sum().backward()
        weights = used(module)
    want = rnnvg.gradient_profile(plain(module, weights), x, output_grad=weight, sources="all")
    module(x)  # computes them again
    same(watcher.profile(), want)
    certificate = watcher.profile().verify()
    assert certificate.residual < 1e-9
    assert max(certificate.weights.values()) < 1e-9
    assert watcher.temporal_contributions().verify().weights["weight_hh_l0"] < 1e-9
    assert monitor.verdict() == "neither"


@pytest.mark.parametrize("how", WRAPS)
def test_nothing_is_computed_once_more(how):
    def train(watched):
        module = wrapped(how)
        optimiser, losses = torch.optim.SGD(module.parameters(), 0.5), []
        monitor = rnnvg.GradientMonitor(module, every=2) if watched else None
        torch.manual_seed(3)
        for step in range(5):
            optimiser.zero_grad()
            with rnnvg.watch(module, snapshot=step % 2 == 0) as watcher:
                loss = module(draw(T, B, I, seed=step))[0][-1].square().mean()
                loss.backward()
            if watched:
                watcher.profile("last").verify(2)
                watcher.temporal_contributions()
                monitor.metrics()
                if how != "old spectral_norm" or step:
                    rnnvg.gradient_profile(module, draw(T, B, I)).verify(2)
            losses.append(loss.item())
            optimiser.step()
        return losses, [each.detach() for each in (*module.parameters(), *module.buffers())], torch.rand(3)

    (losses, tensors, noise), (others, watched, other_noise) = train(False), train(True)
    assert losses == others
    assert all(torch.equal(one, two) for one, two in zip(tensors, watched, strict=True))
    assert torch.equal(noise, other_noise)


@pytest.mark.parametrize("how", ["old weight_norm", "old spectral_norm", "pruned"])
def test_weights_written_by_a_hook_are_those_of_the_next_call(how):
    module, x = wrapped(how), draw(T, B, I)
    module(x)[0].sum().backward()
    torch.optim.SGD(module.parameters(), 0.5).step()  # the attribute is now out of date
    module.eval()
    got = rnnvg.gradient_profile(module, x)
    module(x)
    same(got, rnnvg.gradient_profile(plain(module, used(module)), x))


@pytest.mark.parametrize("how", WRAPS)
def test_verify_and_every_cell(how):
    module, x = wrapped(how), draw(T, B, I)
    certificate = rnnvg.gradient_profile(module, x).verify()
    assert certificate.residual < 1e-9
    assert max(certificate.weights.values()) < 1e-9
    module(x)
    assert rnnvg.gradient_profile(module, x).verify().residual < 1e-9


class WeightDrop(nn.Module):
    """AWD-LSTM's wrapper: the recurrent weight is set anew before each call."""

    def __init__(self, core, share):
        super().__init__()
        self.core, self.share = core, share
        self.raw = nn.Parameter(core.weight_hh_l0.data.clone())
        del core._parameters["weight_hh_l0"]
        core.weight_hh_l0 = self.raw.data.clone()

    def forward(self, x, state=None):
        self.core.weight_hh_l0 = F.dropout(self.raw, self.share, self.training)
        return self.core(x, state)


@pytest.mark.parametrize("snapshot", [False, True])
def test_weight_drop(snapshot):
    torch.manual_seed(0)
    model, x, weight = WeightDrop(nn.LSTM(I, H).double(), 0.5), draw(T, B, I), draw(T, B, H, seed=2)
    with rnnvg.watch(model, snapshot=snapshot) as watcher:
        (model(x)[0] * weight).sum().backward()
    weights = used(model.core)
    model(x)
    same(watcher.profile(), rnnvg.gradient_profile(plain(model.core, weights), x, output_grad=weight, sources="all"))
    with rnnvg.watch(model, snapshot=snapshot) as watcher:
        for _ in range(2):
            model(x)[0].sum().backward()
    with pytest.raises(InputError, match="made anew for each call"):
        watcher.temporal_contributions()


def fused_step(optimiser, module):
    """One step of an optimiser that writes without a version."""
    with skipped_without_fused():
        optimiser(module.parameters(), 0.1, fused=True).step()


CHANGES = {
    "p.data.add_": lambda m: [p.data.add_(p.grad, alpha=-0.5) for p in m.parameters()],
    "p.data =": lambda m: [setattr(p, "data", p.data - 0.5 * p.grad) for p in m.parameters()],
    "clamp": lambda m: [p.data.clamp_(-0.05, 0.05) for p in m.parameters()],
    "SGD": lambda m: torch.optim.SGD(m.parameters(), 0.5).step(),
    "Adam, fused": lambda m: fused_step(torch.optim.Adam, m),
    "SGD, fused": lambda m: fused_step(torch.optim.SGD, m),
    "Adam, foreach": lambda m: torch.optim.Adam(m.parameters(), 0.1, foreach=True).step(),
    "set_": lambda m: m.weight_hh_l0.data.set_(torch.zeros_like(m.weight_hh_l0)),
    "half and back": lambda m: m.half().double(),
    "load": lambda m: m.load_state_dict({k: 2 * v for k, v in m.state_dict().items()}),
    "NumPy": lambda m: np.multiply(m.weight_hh_l0.detach().numpy(), 2, out=m.weight_hh_l0.detach().numpy()),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", [nn.RNN, nn.LSTM, nn.GRU])
def test_weights_changed_in_any_way_since(how, dtype, cell):
    torch.manual_seed(0)
    module, x = cell(I, H, dtype=dtype), draw(T, B, I).to(dtype)
    ones = torch.ones(T, B, H, dtype=dtype)
    want = rnnvg.gradient_profile(copy.deepcopy(module), x, output_grad=ones, sources="all")
    with rnnvg.watch(module) as watcher, rnnvg.watch(module, snapshot=True) as keeper:
        module(x)[0].sum().backward()
    CHANGES[how](module)
    np.testing.assert_allclose(keeper.profile().log_norm, want.log_norm, rtol=1e-5, atol=1e-5)
    refusal, got = None, None
    try:
        got = watcher.profile()
    except InputError as error:
        refusal = str(error)
    if got is None:
        assert "snapshot=True" in refusal
    else:
        np.testing.assert_allclose(got.log_norm, want.log_norm, rtol=1e-5, atol=1e-5)


def test_a_profile_made_in_time_can_be_verified_after_the_step():
    module, x = nn.GRU(I, H).double(), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        module(x)[0].sum().backward()
    profile = watcher.profile()
    fused_step(torch.optim.Adam, module)
    assert profile.verify().residual < 1e-9


def test_inputs_changed_without_a_version():
    module, x = nn.GRU(I, H).double(), draw(T, B, I)
    for snapshot in (False, True):
        with rnnvg.watch(module, snapshot=snapshot) as watcher:
            module(x)[0].sum().backward()
        x.data.mul_(0.5)
        with pytest.raises(InputError, match=r"give another output than the one that was seen, from step 0 on"):
            watcher.profile()


class DropsInput(nn.LSTM):
    def forward(self, x, hx=None):
        return super().forward(F.dropout(x, 0.5, self.training), hx)


class ScalesOutput(nn.GRU):
    def forward(self, x, hx=None):
        output, state = super().forward(x, hx)
        return 2 * output, state


class Plain(nn.GRU):
    def forward(self, x, hx=None):
        return super().forward(x, hx)


@pytest.mark.parametrize("kind", [DropsInput, ScalesOutput])
def test_a_forward_of_its_own_is_refused_by_what_it_does(kind):
    torch.manual_seed(0)
    module = kind(I, H).double()
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        module(draw(T, B, I))[0].sum().backward()
    for ask in (watcher.profile, watcher.temporal_contributions):
        with pytest.raises(InputError, match=f"`module` is a {kind.__name__} with a forward of its own"):
            ask()
    assert monitor.verdict() == "not measured"
    assert "with a forward of its own" in monitor.reason
    module.eval()
    with rnnvg.watch(module) as watcher:
        module(draw(T, B, I))[0].sum().backward()
    if kind is DropsInput:  # which now does nothing of its own
        assert watcher.profile().verify().residual < 1e-9


def test_a_forward_of_its_own_that_changes_nothing_is_analysed():
    torch.manual_seed(0)
    module = Plain(I, H).double()
    with rnnvg.watch(module) as watcher:
        module(draw(T, B, I))[0].sum().backward()
    assert watcher.profile().verify().residual < 1e-9


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_chaos_is_no_reason_to_refuse(gain):
    torch.manual_seed(0)
    module = nn.RNN(I, 64)
    with torch.no_grad():
        module.weight_hh_l0.normal_(0, gain / 8)
    with rnnvg.watch(module) as watcher:
        module(draw(300, B, I).float())[0][-1].sum().backward()
    assert watcher.profile("last").log_norm.shape == (1, 301, B)
    with torch.no_grad():
        module.weight_hh_l0.data.mul_(1.01)
    with pytest.raises(InputError, match="give another output"):
        watcher.profile("last")


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_numbers_pass_and_other_weights_do_not(cell, dtype, layers):
    torch.manual_seed(0)
    module, x = cell(I, 32, layers).to(dtype), (3 * draw(200, B, I)).to(dtype)
    with rnnvg.watch(module) as watcher:
        module(x)[0][-1].float().sum().backward()
    assert watcher.profile("last").log_norm.shape[2] == B
    for weight in module.parameters():
        weight.data.mul_(1.5)
    with pytest.raises(InputError, match="give another output"):
        watcher.profile("last")


def test_an_output_changed_in_place_is_compared_by_its_final_state():
    torch.manual_seed(0)
    module, x = nn.GRU(I, H).double(), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        output, _ = module(x)
        output *= (torch.arange(T) > 5).double()[:, None, None]
        output.square().sum().backward()
    found = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)
    module.weight_hh_l0.data.mul_(0.9)
    with pytest.raises(InputError, match="give another output"):
        watcher.profile()
