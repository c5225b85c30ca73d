"""The monitor's verdicts: not finite with the step and what, not measured with the reason, and never an error in the loop."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import rnnvg

T, B, I, H = 12, 4, 3, 6


def watched(module, x, loss=lambda output: output[-1].square().mean(), **settings):
    monitor = rnnvg.GradientMonitor(module, every=1, **settings)
    loss(module(x)[0]).backward()
    return monitor


def gru(seed=0):
    torch.manual_seed(seed)
    return nn.GRU(I, H)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check(monitor, step, reason):
    found = monitor.metrics()
    assert monitor.verdict() == "not finite"
    assert found["verdict"] == 2
    assert found["first_nonfinite"] == step
    assert monitor.reason == reason
    assert all(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_input_that_is_not_finite(value):
    x = draw(T, B, I)
    x[7, 2, 1] = value
    check(watched(gru(), x), 7, "The input at step 7 is not finite.")


@pytest.mark.parametrize("scale", ["log", "division", "inf"])
def test_a_loss_that_is_not_finite(scale):
    losses = {
        "log": lambda output: (output[-1] * 0).sum().log(),
        "division": lambda output: output[-1].sum() / (output[-1] * 0).sum(),
        "inf": lambda output: output[-1].sum() * math.inf,
    }
    check(
        watched(gru(), draw(T, B, I), losses[scale]),
        T - 1,
        f"The gradient at the output at step {T - 1} is not finite.",
    )


def test_a_state_that_overflows():
    torch.manual_seed(0)
    module = nn.RNN(I, H, nonlinearity="relu")
    with torch.no_grad():
        module.weight_hh_l0.copy_(40 * torch.eye(H))
        module.bias_ih_l0.fill_(1)
    monitor = watched(module, draw(60, B, I))
    output, _ = module(draw(60, B, I))
    step = int((~torch.isfinite(output)).flatten(1).any(1).nonzero()[0])
    check(monitor, step, f"The state at step {step} is not finite.")


def test_a_weight_and_an_initial_state():
    module = gru()
    module.weight_hh_l0.data[0, 0] = math.nan
    check(watched(module, draw(T, B, I)), 0, "The weight weight_hh_l0 at step 0 is not finite.")
    module, state = gru(), torch.full((1, B, H), math.inf)
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(draw(T, B, I), state)[0].sum().backward()
    check(monitor, 0, "The initial state at step 0 is not finite.")


def test_a_loss_through_the_final_state_that_is_not_finite():
    module = gru()
    monitor = rnnvg.GradientMonitor(module, every=1)
    (module(draw(T, B, I))[1].sum() * math.nan).backward()
    check(monitor, T - 1, f"The gradient at the final state at step {T - 1} is not finite.")


def test_what_lies_behind_the_ends_of_packed_sequences_does_not_matter():
    x, lengths = draw(T, B, I), torch.tensor([12, 4, 9, 11])
    for sequence, length in enumerate(lengths):
        x[length:, sequence] = math.nan
    module = gru()
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(pack_padded_sequence(x, lengths, enforce_sorted=False))[1].sum().backward()
    assert monitor.verdict() == "neither"


def test_after_a_bad_step_the_next_one_is_measured():
    module, x = gru(), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(module, every=1)
    x[3] = math.nan
    module(x)[0].sum().backward()
    assert monitor.verdict() == "not finite"
    module(draw(T, B, I))[0].sum().backward()
    assert monitor.verdict() == "neither"
    assert monitor.reason == ""


@pytest.mark.parametrize("value", [0.0, 1e-30])
def test_gradients_that_are_zero_or_tiny(value):
    monitor = watched(gru(), draw(T, B, I), lambda output: output[-1].sum() * value)
    if value:
        assert monitor.verdict() == "neither"
        return
    assert monitor.verdict() == "not measured"
    assert monitor.metrics() == {"step": 0.0, "verdict": 3.0}
    assert monitor.reason == "Every gradient that came back is exactly zero."


def test_calls_of_one_step():
    monitor = watched(gru(), draw(1, B, I))
    assert monitor.verdict() == "not measured"
    assert monitor.reason.endswith("so there is no gain over time to judge.")
    assert "gain_1" in monitor.metrics()
    module = gru()
    monitor = rnnvg.GradientMonitor(module, every=1)
    state, losses = None, []
    for t in range(5):  # a policy whose state is cut, or reset on the way
        output, state = module(draw(1, B, I, seed=t), state)
        state = state.detach() if t % 2 else state * 1.0
        losses.append(output.sum())
    torch.stack(losses).sum().backward()
    assert monitor.verdict() == "not measured"


def test_a_policy_whose_state_is_masked_where_an_episode_is_done():
    module = gru()
    monitor = rnnvg.GradientMonitor(module, every=1)
    state, losses = torch.zeros(1, B, H), []
    for t in range(5):
        output, state = module(draw(1, B, I, seed=t), state)
        state = state * (torch.arange(B) != t).to(state)[None, :, None]
        losses.append(output.sum())
    torch.stack(losses).sum().backward()
    assert monitor.verdict() == "not measured"
    assert monitor.reason.endswith(
        "so there is no gain over time to judge. The calls began from a state that was computed on the way from one to the "
        "next (multiplied by a mask where an episode is done?), which ends a sequence here; hand over the final state as it "
        "is, or reset it between two calls of more steps."
    )


def test_a_loss_at_the_first_step_alone():
    assert watched(gru(), draw(T, B, I), lambda output: output[0].sum()).verdict() == "not measured"


def test_why_nothing_has_been_measured_yet():
    module, x = gru(), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(module, every=1)
    assert monitor.reason == "The recurrent module has not been called yet."
    with torch.no_grad():
        module(x)
    module.eval()
    for _ in range(3):
        module(x)[0].sum().backward()
    assert monitor.metrics() == {}
    assert monitor.verdict() == "not measured"
    assert monitor.reason == (
        "Every call so far ran in evaluation mode or ran without gradients; calls in training mode with gradients are watched."
    )
    module.train()
    output, _ = module(x)
    assert monitor.reason == "No gradient has come back to the call watched at step 0 yet."
    output.sum().backward()
    assert monitor.reason == ""
    assert monitor.verdict() == "neither"


def test_frozen_modules_and_a_detached_output():
    module, x = gru(), draw(T, B, I)
    module.requires_grad_(False)
    monitor = rnnvg.GradientMonitor(module, every=1)
    module(x)
    assert monitor.reason.endswith("(left out: nothing in it takes a gradient).")
    module(x.requires_grad_())[0].sum().backward()
    assert monitor.verdict() == "neither"
    module = gru()
    monitor = rnnvg.GradientMonitor(module, every=1)
    for _ in range(20):  # a target network: its gradient never comes back
        module(x)[0].detach().sum().add(torch.zeros((), requires_grad=True)).backward()
    assert monitor.verdict() == "not measured"
    assert monitor.reason == "No gradient has come back to the call watched at step 16 yet."
    assert len(monitor._followers["itself"]._recording.calls) <= 8


def test_an_analysis_that_fails_is_not_measured(monkeypatch):
    from rnnvg.bptt import verdict

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(verdict, "profile_within", broken)
    monitor = watched(gru(), draw(T, B, I))
    assert monitor.verdict() == "not measured"
    assert monitor.reason == "The analysis failed: RuntimeError: out of memory"


def test_many_sequences_and_losses_are_thinned_evenly():
    module = gru()
    monitor = watched(module, draw(T, 64, I), lambda output: output.square().mean())
    with rnnvg.watch(module) as watcher:
        module(draw(T, 64, I))[0].square().mean().backward()
    whole = watcher.profile()
    found = monitor.metrics()
    assert abs(found["horizon"] - whole.horizon().last) <= 1
    assert math.log(found["gain_10"]) == pytest.approx(_mean(whole, 10), abs=1.0)


def _mean(profile, distance):
    gains = profile.log_gain(0)[:, distance]
    return float(gains[gains == gains].mean())


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
def test_chaotic_stacks_are_measured(kind, layers):
    torch.manual_seed(0)
    module = kind(I, 32, layers)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "weight_hh" in name:
                weight.normal_(0, 4)
    assert watched(module, draw(T, B, I), lambda output: output.square().sum()).verdict() != "not measured"
