"""Odd programs around a watched module: the training goes on as without, the answer is right or a refusal says why."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import rnnvg

T, B, I, H = 20, 4, 3, 8


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact_log_gains(module, x, direct):
    """ln ||dL/dh_{T-1-k}|| of a loss <direct, h_{T-1}>, over h and c, by autograd in float64: [T + 1, B]."""
    kind = next(kind for kind in (nn.RNN, nn.GRU, nn.LSTM) if isinstance(module, kind))
    plain = kind(module.input_size, module.hidden_size).double()
    plain.load_state_dict({name: getattr(module, name).detach().double() for name in module._flat_weights_names})
    state = torch.zeros(1, x.shape[1], module.hidden_size, dtype=torch.float64)
    states = [(state, state.clone()) if kind is nn.LSTM else state]
    states = [tuple(p.requires_grad_() for p in s) if isinstance(s, tuple) else s.requires_grad_() for s in states]
    for step in x.double():
        states.append(plain(step[None], states[-1])[1])
    top = states[-1][0] if kind is nn.LSTM else states[-1]
    loss = (top[0] * direct.double()).sum()
    rows = []
    for each in reversed(states):
        parts = each if isinstance(each, tuple) else (each,)
        grads = torch.autograd.grad(loss, parts, retain_graph=True, allow_unused=True)
        square = sum(grad[0].square().sum(-1) for grad in grads if grad is not None)
        rows.append(0.5 * square.log())
    return torch.stack(rows).detach().numpy()


def adds_up(watcher, module, name=None):
    found = watcher.temporal_contributions(name)
    for each, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[each], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Logging(nn.GRU):
    def forward(self, x, hx=None):
        self.last_shape = x.shape
        return super().forward(x, hx)


class Halved(nn.GRU):
    def forward(self, x, hx=None):
        return super().forward(x * 0.5, hx)


class Turned(nn.LSTM):
    def forward(self, x, hx=None):
        output, state = super().forward(x, hx)
        return output.flip(0), state


@pytest.mark.parametrize("kind", [Halved, Turned])
@pytest.mark.parametrize("steps", [T, 130])
def test_a_subclass_that_computes_something_else_is_not_measured(kind, steps):
    module = kind(I, H)
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(draw(steps, B, I))[0][-1].sum().backward()
    assert monitor.verdict() == "not measured"
    assert f"`module` is a {kind.__name__} with a forward of its own" in monitor.reason


def test_a_subclass_that_only_looks_is_measured():
    module, x = Logging(I, H), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(x)[0][-1].sum().backward()
    wanted = exact_log_gains(module, x, torch.ones(B, H))
    assert np.log(monitor.metrics()["gain_10"]) == pytest.approx((wanted[10] - wanted[0]).mean(), abs=1e-3)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("steps", [T, 130])
def test_what_the_call_used_is_measured_whatever_the_weights_are_now(kind, steps):
    module, x = kind(I, H), draw(steps, B, I)
    wanted = exact_log_gains(module, x, torch.ones(B, H))
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(x)[0][-1].sum().backward()
    module.weight_hh_l0.data.mul_(3.0)  # as a fused optimiser does, without a version
    module.load_state_dict(kind(I, H).state_dict(), assign=True)
    assert np.log(monitor.metrics()["gain_10"]) == pytest.approx((wanted[10] - wanted[0]).mean(), abs=1e-3)


def test_inputs_overwritten_without_a_version_are_not_measured():
    module, x = nn.GRU(I, H), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(x)[0][-1].sum().backward()
    x.data.add_(1.0)
    assert monitor.verdict() == "not measured"
    assert "The calls run again give another output" in monitor.reason


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_pruned_weights(kind):
    module, x = kind(I, H), draw(T, B, I)
    prune.random_unstructured(module, "weight_hh_l0", 0.5)
    with rnnvg.watch(module) as watcher:
        output = module(x)[0]
        output.square().sum().backward()
    found = watcher.profile("last").log_norm[0]
    np.testing.assert_allclose(found, exact_log_gains(module, x, 2 * output[-1].detach()), atol=1e-3)


def test_zoneout_written_into_the_loop():
    module, x = nn.LSTM(I, H), draw(12, B, I)
    with rnnvg.watch(module) as watcher:
        state, outputs = None, []
        for step in x:
            output, new = module(step[None], state)
            if state is not None:
                new = tuple(
                    torch.where(torch.rand_like(one) < 0.1, other, one) for one, other in zip(new, state, strict=True)
                )
            state = new
            outputs.append(output)
        torch.cat(outputs).square().sum().backward()
    adds_up(watcher, module)


def test_h_and_c_exchanged_between_two_calls():
    module, x = nn.LSTM(I, H), draw(12, B, I)
    with rnnvg.watch(module) as watcher:
        _, (h, c) = module(x)
        module(x, (c, h))[0].square().sum().backward()
    adds_up(watcher, module)


def test_layers_exchanged_between_two_calls():
    module, x = nn.GRU(I, H, 2), draw(12, B, I)
    with rnnvg.watch(module) as watcher:
        _, h = module(x)
        module(x, h.flip(0))[0].square().sum().backward()
    adds_up(watcher, module)


class Translator(nn.Module):
    """A bidirectional encoder whose two final states, side by side, begin the decoder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.GRU(I, H // 2, bidirectional=True), nn.GRU(I, H)

    def forward(self, x):
        _, h = self.encoder(x)
        return self.decoder(x, torch.cat([h[0], h[1]], -1)[None])[0]


def test_a_bidirectional_encoder_begins_a_decoder():
    model = Translator()
    monitor = rnnvg.GradientMonitor(model, every=1)
    with rnnvg.watch(model) as watcher:
        model(draw(12, B, I))[-1].square().sum().backward()
    adds_up(watcher, model.encoder, "encoder")
    adds_up(watcher, model.decoder, "decoder")
    assert {monitor.verdict("encoder"), monitor.verdict("decoder")} <= {"vanishing", "neither"}


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        raise ValueError("on purpose")


def test_a_backward_pass_that_fails_and_a_training_that_goes_on():
    module, x = nn.GRU(I, H), draw(T, B, I).requires_grad_()
    monitor = rnnvg.GradientMonitor(module, every=1)
    with pytest.raises(ValueError, match="on purpose"):
        module(Fails.apply(x))[0].sum().backward()
    assert monitor.metrics() == {}
    module(x)[0].sum().backward()
    assert monitor.verdict() in ("vanishing", "neither")


def test_one_model_trained_by_two_threads():
    module, x, errors = nn.GRU(I, H), draw(T, B, I), []
    monitor = rnnvg.GradientMonitor(module, every=1)

    def train():
        try:
            for _ in range(5):
                module(x)[0].square().sum().backward()
                monitor.metrics()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert monitor.step > 0


def test_a_module_that_becomes_another_dtype():
    module, x = nn.GRU(I, H), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(x)[0].sum().backward()
    first = monitor.metrics()
    module.zero_grad()
    module.double()(x.double())[0].sum().backward()
    second = monitor.metrics()
    assert (first["step"], second["step"]) == (0, 1)
    assert second["gain_10"] == pytest.approx(first["gain_10"], rel=1e-4)


def test_a_closure_called_several_times_a_step():
    weights = []
    for attached in (False, True):
        torch.manual_seed(0)
        module, x = nn.GRU(I, H), draw(10, B, I)
        optimiser = torch.optim.LBFGS(module.parameters(), max_iter=4)
        monitor = rnnvg.GradientMonitor(module, every=1) if attached else None

        def closure(module=module, x=x, optimiser=optimiser):
            optimiser.zero_grad()
            loss = (module(x)[0][-1] - 1).square().mean()
            loss.backward()
            return loss

        for _ in range(3):
            optimiser.step(closure)
            assert monitor is None or "horizon" in monitor.metrics()
        weights.append([each.detach().clone() for each in module.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
