"""watch(): the same profile as gradient_profile gives, from unmodified modules in real training code."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnvg
from rnnvg import InputError

T, B, I, H = 9, 4, 3, 5
MODULES = {
    "rnn": lambda **k: nn.RNN(I, H, **k),
    "relu": lambda **k: nn.RNN(I, H, nonlinearity="relu", **k),
    "lstm": lambda **k: nn.LSTM(I, H, **k),
    "gru": lambda **k: nn.GRU(I, H, **k),
}


def make(cell, seed=0, **settings):
    torch.manual_seed(seed)
    return MODULES[cell](**settings).double()


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(one, two):
    np.testing.assert_allclose(one.log_norm, two.log_norm, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(one.sources, two.sources)


@pytest.mark.parametrize("cell", MODULES)
@pytest.mark.parametrize("wrt", ["state", "hidden", "input"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_loss_at_every_step_gives_what_gradient_profile_gives(cell, wrt, layers):
    module, x, weight = make(cell, num_layers=layers), draw(T, B, I), draw(T, B, H, seed=2)
    with rnnvg.watch(module) as watcher:
        (module(x)[0] * weight).sum().backward()
    same(watcher.profile(wrt=wrt), rnnvg.gradient_profile(module, x, output_grad=weight, sources="all", wrt=wrt))
    same(watcher.profile("last", wrt), rnnvg.gradient_profile(module, x, output_grad=weight, wrt=wrt))
    assert watcher.profile().verify(12).residual < 1e-9


def test_batch_first_and_a_single_layer_choice():
    module, x, weight = make("lstm", num_layers=2, batch_first=True), draw(B, T, I), draw(B, T, H, seed=2)
    with rnnvg.watch(module) as watcher:
        (module(x)[0] * weight).sum().backward()
    want = rnnvg.gradient_profile(module, x, output_grad=weight, sources=3, wrt="cell", layer=0)
    same(watcher.profile(3, "cell", layer=0), want)


def test_a_step_without_a_loss_is_an_exact_zero_and_is_left_out_of_the_curve():
    module, x = make("gru"), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        module(x)[0][-1].sum().backward()
    profile = watcher.profile()
    assert np.isneginf(profile.log_norm[3, :5]).all()
    assert np.isnan(profile.log_norm[3, 5:]).all()
    curve = profile.curve()
    assert (curve["n"][1:] == B).all()
    ones = torch.zeros(T, B, H, dtype=torch.float64)
    ones[-1] = 1
    same(profile, rnnvg.gradient_profile(module, x, output_grad=ones, sources="all"))


@pytest.mark.parametrize("cell", MODULES)
@pytest.mark.parametrize("packed", [False, True])
def test_nothing_changes_for_the_one_who_is_watched(cell, packed):
    def train(watched):
        module = make(cell, num_layers=2)
        x, lengths = draw(T, B, I), torch.tensor([9, 2, 5, 7])
        torch.manual_seed(3)
        inputs = pack_padded_sequence(x, lengths, enforce_sorted=False) if packed else x
        state, results = None, []
        watcher = rnnvg.watch(module) if watched else None
        if watcher:
            watcher.__enter__()
        for _ in range(2):
            output, state = module(inputs, state)
            results.append(pad_packed_sequence(output)[0] if packed else output)
        loss = sum((each**2).sum() for each in results) + sum(part.sum() for part in state)
        loss.backward()
        if watcher:
            watcher.__exit__()
        return [*results, *(p.grad for p in module.parameters()), torch.rand(3)], module

    (plain, _), (seen, module) = train(False), train(True)
    assert all(torch.equal(one, two) for one, two in zip(plain, seen, strict=True))
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


@pytest.mark.parametrize("cell", MODULES)
def test_packed_sequences_count_distance_from_their_own_end(cell):
    module, x, weight = make(cell), draw(T, B, I), draw(T, B, H, seed=2)
    lengths = torch.tensor([6, 9, 2, 7])
    with rnnvg.watch(module) as watcher:
        output, _ = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
        (pad_packed_sequence(output)[0] * weight).sum().backward()
    for sources in ("all", "last", 2, [-2, 1]):
        want = rnnvg.gradient_profile(module, x, output_grad=weight, sources=sources, lengths=lengths)
        same(watcher.profile(sources), want)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_loss_through_the_final_state_alone(layers):
    module, x = make("lstm", num_layers=layers), draw(T, B, I)
    h_weight, c_weight = draw(layers, B, H, seed=2), draw(layers, B, H, seed=3)
    with rnnvg.watch(module) as watcher:
        _, (h, c) = module(x)
        ((h * h_weight).sum() + (c * c_weight).sum()).backward()
    profile = watcher.profile("last")
    start = torch.cat([h_weight, c_weight], -1).square().sum((0, 2)).sqrt().log()
    np.testing.assert_allclose(profile.log_norm[0, 0], start, rtol=1e-12)
    certificate = profile.verify(T + 1)
    assert certificate.residual < 1e-9
    assert max(certificate.weights.values()) < 1e-9
    assert np.isneginf(watcher.profile().log_norm[2, 0]).all()


def test_a_packed_loss_through_the_final_state_enters_at_each_last_valid_step():
    module, x, lengths = make("gru"), draw(T, B, I), torch.tensor([6, 9, 2, 7])
    with rnnvg.watch(module) as watcher:
        module(pack_padded_sequence(x, lengths, enforce_sorted=False))[1].sum().backward()
    ones = torch.zeros(T, B, H, dtype=torch.float64)
    ones[lengths - 1, torch.arange(B)] = 1
    same(watcher.profile(), rnnvg.gradient_profile(module, x, output_grad=ones, sources="all", lengths=lengths))


@pytest.mark.parametrize("cell", MODULES)
def test_calls_joined_through_their_state_are_one_sequence(cell):
    module, x, weight = make(cell), draw(T, B, I), draw(T, B, H, seed=2)
    with rnnvg.watch(module) as watcher:
        first, state = module(x[:4])
        second, state = module(x[4:], state)
        (torch.cat([first, second]) * weight).sum().backward()
    same(watcher.profile(), rnnvg.gradient_profile(module, x, output_grad=weight, sources="all"))


def test_a_loss_that_also_reads_the_state_between_two_calls():
    module, x = make("lstm"), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        _, state = module(x[:4])
        second, _ = module(hx=state, input=x[4:])
        (second[-1].sum() + 2 * state[1].sum()).backward()
    profile = watcher.profile()
    np.testing.assert_allclose(profile.log_norm[3, 0], np.log(2 * np.sqrt(H)), rtol=1e-9)
    assert profile.verify(40).residual < 1e-9
    contributions = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(contributions.total[name], parameter.grad, rtol=1e-9, atol=1e-12)


def test_truncated_backpropagation_begins_a_new_sequence_with_the_state_it_was_given():
    module, x = make("gru"), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        first, state = module(x[:4])
        second, _ = module(x[4:], state.detach())
        (first.sum() + second.sum()).backward()
    profile = watcher.profile("last")
    assert profile.log_norm.shape == (1, 6, 2 * B)
    whole = rnnvg.gradient_profile(module, x, output_grad=torch.ones(T, B, H, dtype=torch.float64))
    np.testing.assert_allclose(profile.log_norm[0, :6, B:], whole.log_norm[0, :6], rtol=1e-10)
    assert np.isnan(profile.log_norm[0, 5, :B]).all()


def test_gradient_accumulation_adds_sequences_and_repeated_backward_adds_gradients():
    module, x = make("rnn"), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        for part in (x, 2 * x):
            output, _ = module(part)
            output[-1].sum().backward(retain_graph=True)
            output[-1].sum().backward()
    profile = watcher.profile("last")
    assert profile.log_norm.shape[2] == 2 * B
    np.testing.assert_allclose(profile.log_norm[0, 0], np.log(2 * np.sqrt(H)))


def test_final_states_of_joined_and_of_separate_calls_enter_where_they_belong():
    module, x, weight = make("gru"), draw(T, B, I), draw(1, B, H, seed=2)
    at_end = torch.zeros(T, B, H, dtype=torch.float64)
    at_end[-1] = weight
    want = rnnvg.gradient_profile(module, x, output_grad=at_end)
    with rnnvg.watch(module) as watcher:
        _, state = module(x[:4])
        (module(x[4:], state)[1] * weight).sum().backward()
    same(watcher.profile("last"), want)
    with rnnvg.watch(module) as watcher:
        module(2 * x)[0][-1].sum().backward()
        (module(x)[1] * weight).sum().backward()
    np.testing.assert_allclose(watcher.profile("last").log_norm[0, :, B:], want.log_norm[0], rtol=1e-10)


def skip_without_bfloat16(module, x):
    """oneDNN has an LSTM in bfloat16 only where the processor has AVX-512; what PyTorch cannot run alone cannot be watched."""
    try:
        with torch.autocast("cpu", torch.bfloat16):
            module(x)[0].float().sum().backward()
    except RuntimeError as error:
        if "primitive" not in str(error):
            raise
        pytest.skip(f"PyTorch has no {type(module).__name__} in bfloat16 on this processor: {error}")
    module.zero_grad()


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_autocast_is_analysed_in_float32(cell):
    torch.manual_seed(0)
    module, x = cell(I, H), draw(T, B, I).float()
    skip_without_bfloat16(module, x)
    with rnnvg.watch(module) as watcher:
        with torch.autocast("cpu", torch.bfloat16):
            output, _ = module(x)
        output.float()[-1].sum().backward()
    ones = torch.ones(T, B, H)
    want = rnnvg.gradient_profile(module, x, output_grad=ones)
    np.testing.assert_allclose(watcher.profile("last").log_gain(), want.log_gain(), rtol=1e-5, atol=1e-5)


def test_a_model_with_one_recurrent_module_and_unbatched_input():
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Linear(2, I), "core": nn.GRU(I, H)}).double()
    x = draw(T, 2)
    with rnnvg.watch(model) as watcher:
        model["core"](model["embed"](x))[0].sum().backward()
    want = rnnvg.gradient_profile(
        model["core"], model["embed"](x).unsqueeze(1), output_grad=torch.ones(T, 1, H).double(), sources="all"
    )
    same(watcher.profile(), want)


def test_parametrised_weights_are_read_as_the_module_reads_them():
    module, x = make("gru"), draw(T, B, I)
    nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    with rnnvg.watch(module) as watcher:
        module(x)[0].sum().backward()
    assert watcher.profile().verify().residual < 1e-9
    want = rnnvg.gradient_profile(module, x, output_grad=torch.ones(T, B, H).double(), sources="all")
    same(watcher.profile(), want)


def test_after_an_optimiser_step_only_a_snapshot_can_be_profiled():
    module, x = make("lstm"), draw(T, B, I)
    before = rnnvg.gradient_profile(module, x, output_grad=torch.ones(T, B, H).double(), sources="all")
    optimiser = torch.optim.Adam(module.parameters(), 0.1)
    with rnnvg.watch(module) as watcher, rnnvg.watch(module, snapshot=True) as keeper:
        module(x)[0].sum().backward()
        optimiser.step()
    with pytest.raises(InputError, match="pass snapshot=True to watch"):
        watcher.profile()
    same(keeper.profile(), before)


def test_the_watcher_keeps_what_it_saw_and_the_module_nothing():
    module, x = make("lstm"), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        output, _ = module(x)
        output.sum().backward()
    kept = weakref.ref(watcher.calls[0])
    del output
    assert watcher.profile().log_norm.shape[0] == T
    del watcher
    gc.collect()
    assert kept() is None


def test_temporal_contributions_add_up_to_the_gradients_that_training_got():
    module, x, lengths = make("lstm", num_layers=2), draw(T, B, I), torch.tensor([6, 9, 2, 7])
    with rnnvg.watch(module) as watcher:
        output, (h, c) = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
        (pad_packed_sequence(output)[0].square().sum() + h.sum() + c.square().sum()).backward()
    found = watcher.temporal_contributions()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found.total[name], parameter.grad, rtol=1e-9, atol=1e-12)


def refused(match, module, train=None, **settings):
    with pytest.raises(InputError, match=match):
        with rnnvg.watch(module, **settings) as watcher:
            train(module) if train else None
        watcher.profile()


def test_what_cannot_be_watched_says_why():
    refused(r"^`module` is a list; pass a torch.nn.Module\.$", [])
    refused("runs replicas that exist for one call only", nn.DataParallel(nn.LSTM(I, H)))
    refused("a hook on a cell sees the total gradient", nn.Sequential(nn.LSTMCell(I, H)))
    refused(
        r"has 2 recurrent modules inside: a \(GRU\), b \(LSTM\); pass one",
        nn.ModuleDict({"a": nn.GRU(I, H), "b": nn.LSTM(H, H)}),
    )
    refused("has 0 recurrent modules inside; pass one", nn.Linear(2, 2))
    x = torch.randn(T, B, I)
    refused("saw no forward call", nn.GRU(I, H))
    refused("No gradient has come back", nn.GRU(I, H), lambda module: module(x))

    def overwrite(module):
        inputs = torch.randn(T, B, I)
        module(inputs)[0].sum().backward()
        inputs.zero_()

    refused("overwritten in place", nn.GRU(I, H), overwrite)

    def fork(module):
        _, state = module(x)
        (module(x, state)[0].sum() + module(x, state)[0].sum()).backward()

    refused("began two later calls", nn.GRU(I, H), fork)


def test_evaluation_inside_a_watch_is_ignored():
    module, x = make("gru"), draw(T, B, I)
    with rnnvg.watch(module) as watcher:
        with torch.no_grad():
            module(x)
        module(x)[0].sum().backward()
    assert len(watcher.calls) == 1
