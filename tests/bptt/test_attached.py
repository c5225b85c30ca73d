"""Whatever is attached to a model never changes or stops the program: odd graphs, odd modes, copies, threads, wrong calls."""

import copy
import gc
import io
import pickle
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import rnnvg
from rnnvg import InputError

T, B, I, H = 9, 4, 3, 5
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def draw(*shape, seed=1, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def contributions_match(watcher, module, rtol=1e-4):
    found = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(
            found.total[name], parameter.grad, rtol=rtol, atol=rtol * float(parameter.grad.norm())
        )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("use", ["output", "h_n", "c_n", "output and h_n", "all"])
@pytest.mark.parametrize("packed", [False, True])
def test_outputs_that_nobody_uses(cell, dtype, use, packed):
    if "c_n" in use and cell != "lstm":
        pytest.skip("no c_n")
    torch.manual_seed(0)
    module, x = CELLS[cell](I, H, 2, dtype=dtype), draw(T, B, I, dtype=dtype)
    inputs = pack_padded_sequence(x, torch.tensor([9, 4, 7, 2]), enforce_sorted=False) if packed else x
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        output, state = module(inputs)
        h, c = state if cell == "lstm" else (state, state)
        read = (output.data if packed else output).square().sum()
        {
            "output": read,
            "h_n": h.sum(),
            "c_n": c.sum(),
            "output and h_n": read + h.sum(),
            "all": read + h.sum() + c.sum(),
        }[use].backward()
    contributions_match(watcher, module)
    assert monitor.verdict() == "neither"


class OneNode(torch.autograd.Function):
    """Output, h_n and c_n from one node, as cuDNN gives them, handing None on for what was not used."""

    @staticmethod
    def forward(ctx, *parts):
        ctx.set_materialize_grads(False)
        return tuple(part.clone() for part in parts)

    @staticmethod
    def backward(ctx, *grads):
        return grads


class LikeCudnn(nn.LSTM):
    def forward(self, x, hx=None):
        output, (h, c) = super().forward(x, hx)
        output, h, c = OneNode.apply(output, h, c)
        return output, (h, c)


@pytest.mark.parametrize("use", ["output", "h_n", "c_n"])
def test_one_node_for_output_and_states(use):
    torch.manual_seed(0)
    module = LikeCudnn(I, H).double()
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        output, (h, c) = module(draw(T, B, I).double())
        {"output": output[-1], "h_n": h, "c_n": c}[use].square().sum().backward()
    contributions_match(watcher, module, 1e-9)
    assert monitor.verdict() == "neither"


def test_an_error_in_a_hook_is_kept_and_told_by_the_one_who_answers(monkeypatch):
    from rnnvg.bptt import calls

    monkeypatch.setattr(calls, "_narrowest", lambda data: 1 / 0)
    module = nn.GRU(I, H)
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        module(draw(T, B, I))[0].sum().backward()
    with pytest.raises(
        InputError, match=r"A hook of the watcher failed .*ZeroDivisionError: division by zero"
    ) as caught:
        watcher.profile()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert monitor.metrics() == {}
    assert monitor.verdict() == "not measured"
    assert "ZeroDivisionError" in monitor.reason


def test_an_error_in_a_gradient_hook_too(monkeypatch):
    from rnnvg.bptt import passes

    monkeypatch.setattr(passes, "_is_accumulated", lambda parameter: 1 / 0)
    module = nn.GRU(I, H)
    with rnnvg.watch(module) as watcher:
        module(draw(T, B, I))[0].sum().backward()
    assert module.weight_hh_l0.grad is not None
    with pytest.raises(InputError, match="A hook of the watcher failed"):
        watcher.profile()


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_a_monitor_that_nobody_asks_between_two_calls(every):
    torch.manual_seed(0)
    module, x = nn.GRU(I, H), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(module, every=every)
    for _ in range(4):  # siamese
        (module(x)[0][-1] - module(x.flip(0))[0][-1]).square().sum().backward()
    assert monitor.verdict() == "neither"
    for _ in range(3):  # gradient accumulation
        module(x)[0][-1].sum().backward()
    assert set(monitor.metrics()) >= {"step", "horizon", "verdict"}


def test_a_decoder_called_step_by_step_is_one_sequence():
    torch.manual_seed(0)
    cell, x = nn.GRU(I, H), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(cell, every=2)
    for _ in range(3):
        state, losses = None, []
        for t in range(T):
            output, state = cell(x[t : t + 1], state)
            losses.append(output.square().sum())
        torch.stack(losses).sum().backward()
    assert monitor.step == 2
    found = monitor.metrics()
    assert found["step"] == 2
    with rnnvg.watch(cell) as watcher:
        cell(x)[0].square().sum().backward()
    assert found["horizon"] == watcher.profile().horizon().last


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant):
    torch.manual_seed(0)
    module, x = nn.GRU(I, H), draw(T, B, I).requires_grad_()
    monitor = rnnvg.GradientMonitor(module, every=1)
    for _ in range(3):
        checkpoint(lambda x: module(x)[0], x, use_reentrant=reentrant)[-1].sum().backward()
        assert monitor.verdict() == "neither"
    assert monitor.step == 2


def test_modes_in_which_nothing_can_be_kept():
    module, x = nn.LSTM(I, H), draw(T, B, I)
    weights = {name: weight.detach() for name, weight in module.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(module, weights, (x,))[0].sum()

    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        with torch.inference_mode():
            module(x.clone())
        want = torch.func.grad(loss)(weights, x)
        with torch.no_grad():
            module(x)
        with pytest.raises(
            InputError, match=r"no forward call .*left out because it ran inside a torch\.func transform"
        ):
            watcher.profile()
        output, _ = module(x)
        output.sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, want[name])
    contributions_match(watcher, module)
    assert monitor.verdict() == "neither"


def test_vmap_goes_on_inside_a_watch():
    module, x = nn.RNN(I, H), draw(2, T, B, I)

    def plain(x):
        return torch.func.vmap(lambda each: torch.tanh(each @ module.weight_ih_l0.t()), randomness="error")(x)

    with rnnvg.watch(module):
        with torch.no_grad():
            before = plain(x)
        with pytest.raises(RuntimeError) as watched:
            torch.func.vmap(lambda each: module(each)[0])(x)
    with pytest.raises(RuntimeError) as alone:
        torch.func.vmap(lambda each: module(each)[0])(x)
    assert str(watched.value) == str(alone.value)  # torch itself cannot
    assert before.shape == (2, T, B, H)


def test_functional_call_is_analysed_with_the_weights_it_was_handed():
    torch.manual_seed(0)
    module, x = nn.GRU(I, H), draw(T, B, I)
    other = {name: (weight * 1.5).detach().requires_grad_() for name, weight in module.named_parameters()}
    with rnnvg.watch(module) as watcher:
        torch.func.functional_call(module, other, (x,))[0][-1].sum().backward()
    found = watcher.temporal_contributions()
    for name, weight in other.items():
        torch.testing.assert_close(found.total[name], weight.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("allow_rnn", [False, True])
def test_compiled_models(allow_rnn):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.core, self.readout = nn.GRU(I, H), nn.Linear(H, 1)

        def forward(self, x):
            return self.readout(torch.relu(self.core(x)[0][-1]))

    torch.manual_seed(0)
    model, x = Net(), draw(T, B, I)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=allow_rnn):
        plain = model(x)
        compiled = torch.compile(model, backend="eager")
        monitor = rnnvg.GradientMonitor(compiled, every=1)
        with rnnvg.watch(compiled) as watcher:
            out = compiled(x)
            out.sum().backward()
        torch.testing.assert_close(out, plain)
        verdict = monitor.verdict()
        monitor.close()
    torch._dynamo.reset()
    if allow_rnn:  # traced through, hooks and all
        assert verdict in ("neither", "not measured")
    else:
        contributions_match(watcher, model.core)
        assert verdict == "neither"


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "save": lambda model: _saved(model),
    "average": lambda model: torch.optim.swa_utils.AveragedModel(model).module,
}


def _saved(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("how", COPIES)
def test_copies_carry_no_live_hook(how):
    torch.manual_seed(0)
    model = nn.Sequential()
    model.core = nn.GRU(I, H)
    x = draw(T, B, I)
    monitor = rnnvg.GradientMonitor(model, every=1)
    with rnnvg.watch(model) as watcher:
        output, state = model.core(x)
        other = COPIES[how](model)
        output.sum().backward()
        model.core(x, state.detach())
        COPIES[how](model)
        seen, counted = len(watcher.calls), monitor.step
        core = copy.copy(model.core) if how == "copy" else other.core
        got, _ = core(x)
        got.sum().backward()
    assert torch.equal(got, output)
    assert (len(watcher.calls), monitor.step) == (seen, counted)
    assert monitor.verdict() == "neither"
    monitor.close()


def test_a_copy_needs_nothing_of_ours_to_be_loaded():
    module = nn.GRU(I, H)
    with rnnvg.watch(module), io.BytesIO() as buffer:
        rnnvg.GradientMonitor(module)
        pickle.dump(module, buffer)
        assert b"rnnvg" not in buffer.getvalue()


class Monitored(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = nn.GRU(I, H)
        self.monitor, self.watcher = rnnvg.GradientMonitor(self.core, every=1), rnnvg.watch(self.core)


def test_a_monitor_or_watcher_kept_inside_the_model_is_copied_without_what_it_saw():
    model = Monitored()
    with model.watcher:
        model.core(draw(T, B, I))[0].sum().backward()
        other = copy.deepcopy(model)
        assert _saved(model).monitor.every == 1
    assert other.monitor.modules["itself"] is other.core
    other.core(draw(T, B, I))[0].sum().backward()
    assert other.monitor.metrics() == {}
    assert not other.watcher.calls
    assert len(model.watcher.calls) == 1
    other.monitor.close()


def test_a_watcher_entered_twice_sees_each_call_once():
    module, x = nn.GRU(I, H), draw(T, B, I)
    watcher = rnnvg.watch(module)
    with watcher:
        with watcher:
            module(x)[0].sum().backward()
        module(x)[0].sum().backward()
    module(x)[0].sum().backward()
    assert len(watcher.calls) == 2
    assert not module._forward_hooks
    with watcher:
        module(x)[0].sum().backward()
    assert len(watcher.calls) == 3


@pytest.mark.parametrize("shared", [False, True])
def test_six_threads(shared):
    torch.manual_seed(0)
    one = nn.GRU(I, H)
    modules = [one if shared else nn.GRU(I, H) for _ in range(6)]
    monitors = [rnnvg.GradientMonitor(module, every=1) for module in modules]
    errors = []

    def train(number):
        try:
            x = draw(T, B, I, seed=number)
            for _ in range(5):
                with rnnvg.watch(modules[number]) as watcher:
                    output, state = modules[number](x[:4])
                    (modules[number](x[4:], state)[0].sum() + output.sum()).backward()
                if not shared:
                    assert watcher.profile("last").log_norm.shape == (1, T + 1, B)
                    assert monitors[number].verdict() == "neither"
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=train, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for monitor in monitors:
        assert monitor.verdict() == "neither"
        monitor.close()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in modules)


WRONG = {
    "no argument": lambda m: m(),
    "a wrong keyword": lambda m: m(x=draw(T, B, I)),
    "a list": lambda m: m([1.0, 2.0]),
    "features": lambda m: m(draw(T, B, I + 1)),
    "four axes": lambda m: m(draw(1, T, B, I)),
    "a state that is a number": lambda m: m(draw(T, B, I), 3.0),
    "a state of a wrong shape": lambda m: m(draw(T, B, I), draw(1, B, H + 1)),
    "too many": lambda m: m(draw(T, B, I), None, None),
    "no tensor": lambda m: m(None),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_call_raises_what_torch_raises(how):
    module = nn.GRU(I, H)
    with pytest.raises(Exception) as plain:
        WRONG[how](module)
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        with pytest.raises(type(plain.value)) as watched:
            WRONG[how](module)
        assert str(watched.value) == str(plain.value)
        module(draw(T, B, I))[0].sum().backward()
    contributions_match(watcher, module)
    assert monitor.verdict() == "neither"


def autocast_dtype():
    """What a product is computed in now: every version of PyTorch says it, and each asks for autocast in words of its own."""
    return (torch.ones(1, 1) @ torch.ones(1, 1)).dtype


def test_random_state_and_flags_are_as_they_were():
    torch.manual_seed(0)
    module, x = nn.LSTM(I, H, 2), draw(T, B, I)
    monitor = rnnvg.GradientMonitor(module, every=1)
    watcher = rnnvg.watch(module)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), module.training, torch.is_grad_enabled()
    numbers = torch.get_num_threads(), torch.get_default_dtype(), autocast_dtype()
    with watcher:
        module(x)[0].square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in module.parameters()]
    profile = watcher.profile()
    profile.verify()
    watcher.temporal_contributions().verify()
    monitor.metrics(), monitor.verdict(), monitor.reason
    monitor.close()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert (module.training, torch.is_grad_enabled()) == before[2:]
    assert (torch.get_num_threads(), torch.get_default_dtype(), autocast_dtype()) == numbers
    assert all(
        torch.equal(parameter.grad, kept) for parameter, kept in zip(module.parameters(), gradients, strict=True)
    )


def test_hooks_of_the_user_may_change_inputs_and_outputs():
    torch.manual_seed(0)
    module, x = nn.GRU(I, H).double(), draw(T, B, I).double()
    module.register_forward_pre_hook(lambda module, args: (2 * args[0], *args[1:]))
    module.register_forward_hook(lambda module, args, result: (result[0] * 3, result[1]))
    monitor = rnnvg.GradientMonitor(module, every=1)
    with rnnvg.watch(module) as watcher:
        module(x)[0].square().sum().backward()
    contributions_match(watcher, module, 1e-9)
    assert monitor.verdict() == "neither"


def test_graphs_outlive_the_watcher():
    module, x = nn.GRU(I, H), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        output, state = module(x)
    del watcher
    gc.collect()
    (output.sum() + state.sum()).backward()
    assert module.weight_hh_l0.grad is not None
