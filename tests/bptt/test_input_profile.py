"""input_profile: any sequence model by its input, against autograd's whole Jacobian, other profiles and exact cases."""

import copy
import dataclasses
import math
import random
import re
import types
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_models import (
    TCN,
    CausalTransformer,
    FourierConvolution,
    Noisy,
    ReadsPositions,
    StepByStep,
    TimeFirstTCN,
    TinyMamba,
)
from torch import nn

from rnnvg import GradientMonitor, GradientProfile, InputError, gradient_profile, input_profile, models, tasks, watch
from rnnvg.bptt import covariance_weighted
from rnnvg.bptt.arguments import unit_covectors


def wide(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_as_jacobian(profile, model, inputs, time_first, relative=1e-10):
    """Each source against the model's whole Jacobian by autograd; `time_first` turns outputs and inputs into [T, B, ...]."""
    jacobian = torch.autograd.functional.jacobian(model, inputs)
    out_dims = model(inputs).ndim
    jacobian = jacobian.movedim(tuple(range(out_dims)), tuple(range(out_dims)))
    axes_out, axes_in = time_first(list(range(out_dims))), time_first(list(range(out_dims, jacobian.ndim)))
    jacobian = jacobian.permute(*axes_out, *axes_in)  # [S, B, P, T, B, I]
    steps, batch, width = jacobian.shape[:3]
    covectors = unit_covectors(len(profile.sources), batch, width, None, inputs.device)
    for row, source in enumerate(profile.sources):
        for b in range(batch):
            norms = torch.einsum("p,pti->ti", covectors[row, b], jacobian[source, b, :, :, b]).norm(dim=-1)
            assert not jacobian[source, b][:, :, [other for other in range(batch) if other != b]].any()
            for k, distance in enumerate(profile.distance):
                t, found = source - distance, profile.log_norm[row, k, b]
                if not 0 <= t < steps:
                    assert math.isnan(found)
                elif norms[t] == 0:
                    assert found == -math.inf
                else:
                    assert found == pytest.approx(math.log(norms[t]), abs=relative)


# equality with what is known otherwise ----------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_recurrent_module_gives_gradient_profile_by_input(data):
    kind = data.draw(st.sampled_from([nn.RNN, nn.LSTM, nn.GRU]))
    batch_first, layers = data.draw(st.booleans()), data.draw(st.integers(1, 3))
    steps, batch, width, hidden = (data.draw(st.integers(1, 9)) for _ in range(4))
    sources = data.draw(st.sampled_from(["last", "all", 1, [0, -1]]))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    module = kind(width, hidden, layers, batch_first=batch_first, dtype=torch.float64)
    inputs = wide(*((batch, steps) if batch_first else (steps, batch)), width)
    known = gradient_profile(module, inputs, sources=sources, wrt="input")
    found = input_profile(module, inputs, sources=sources, causal=True)
    assert found.wrt == "input"
    assert found.distance[0] == -(steps - 1 - known.sources.min())
    assert found.distance[-1] == known.distance[-1]
    np.testing.assert_array_equal(found.sources, known.sources)
    np.testing.assert_allclose(found.log_norm[:, found.distance >= 0], known.log_norm, rtol=0, atol=1e-10)
    future = found.log_norm[:, found.distance < 0]
    assert np.isneginf(future[~np.isnan(future)]).all()
    assert found.note == ""


def test_float32_models_are_measured_in_float64():
    torch.manual_seed(0)
    module = nn.LSTM(2, 5)
    inputs = torch.randn(40, 3, 2)
    found = input_profile(module, inputs)
    known = gradient_profile(copy.deepcopy(module).double(), inputs.double(), wrt="input")
    np.testing.assert_allclose(found.log_norm, known.log_norm, rtol=0, atol=1e-10)


def test_a_bidirectional_layer_splits_exactly():
    torch.manual_seed(1)
    both = nn.GRU(2, 4, bidirectional=True, dtype=torch.float64)
    one = {name: nn.GRU(2, 4, dtype=torch.float64) for name in ("forward", "backward")}
    for name, module in one.items():
        weights = {key: getattr(both, key + ("_reverse" if name == "backward" else "")) for key in module.state_dict()}
        module.load_state_dict({key: value.detach() for key, value in weights.items()})
    inputs = wide(15, 3, 2)
    past = input_profile(both, inputs, sources=[6], outputs=lambda found: found[0][..., :4])
    future = input_profile(both, inputs, sources=[6], outputs=lambda found: found[0][..., 4:])
    forward = gradient_profile(one["forward"], inputs, sources=[6], wrt="input")
    backward = gradient_profile(one["backward"], inputs.flip(0), sources=[8], wrt="input")
    np.testing.assert_allclose(past.log_norm[0, 8:15], forward.log_norm[0, :7], rtol=0, atol=1e-10)
    np.testing.assert_allclose(future.log_norm[0, 8::-1], backward.log_norm[0, :9], rtol=0, atol=1e-10)
    assert np.isneginf(past.log_norm[0, :8]).all()
    assert np.isneginf(future.log_norm[0, 9:15]).all()
    assert past.note == ""
    assert future.note.startswith(
        "The model sees up to 8 steps into the future: the gradient of its output at step 6 by"
    )
    whole = input_profile(both, inputs, sources=[6])
    assert np.isfinite(whole.log_norm[0, :15]).all()
    assert whole.verify(15).residual < 1e-5
    assert whole.horizon(reference=-1).last >= 1
    assert len(whole.curve()) == 8 + 8


def test_a_transformer_encoder_sees_both_ways_and_a_masked_one_does_not():
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    inputs = torch.randn(3, 10, 8)
    found = input_profile(encoder, inputs, sources=2)
    assert "evaluation mode: dropout is off." in found.note
    assert "sees up to 5 steps into the future" in found.note
    same_as_jacobian(
        found, copy.deepcopy(encoder).double().eval(), inputs.double(), lambda axes: [axes[1], axes[0], axes[2]]
    )
    masked = input_profile(CausalTransformer(), torch.randn(10, 3, 8), sources="all", causal=True)
    assert "future" not in masked.note
    assert np.isneginf(
        masked.log_norm[:, masked.distance < 0][~np.isnan(masked.log_norm[:, masked.distance < 0])]
    ).all()
    assert masked.verify(12).residual < 1e-4


@pytest.mark.parametrize(("kind", "shape"), [(TCN, (2, 3, 20)), (TCN, (3, 3, 3)), (TimeFirstTCN, (20, 2, 3))])
def test_a_convolution_ends_where_its_kernel_does(kind, shape):
    torch.manual_seed(3)
    model = kind(3, 4 if shape != (3, 3, 3) else 3)
    found = input_profile(model, torch.randn(*shape), sources=2, causal=True)
    order = (lambda axes: axes) if kind is TimeFirstTCN else (lambda axes: [axes[2], axes[0], axes[1]])
    same_as_jacobian(
        found, copy.deepcopy(model).double(), torch.randn(*shape).double() * 0 + found.origin.inputs, order
    )
    if shape[0] == 20 or shape[2] == 20:
        assert found.horizon(1e-9).last == model.reach == 7
        assert np.isneginf(found.log_norm[1, found.distance == 8]).all()
        assert not found.horizon(1e-9).censored


def test_a_tiny_mamba():
    torch.manual_seed(4)
    model = TinyMamba()
    inputs = torch.randn(2, 12, 6)
    found = input_profile(model, inputs, sources=3, causal=True)
    same_as_jacobian(found, copy.deepcopy(model).double(), inputs.double(), lambda axes: [axes[1], axes[0], axes[2]])
    assert found.verify(12).residual < 1e-4


def test_one_output_a_sequence_belongs_to_the_last_step():
    torch.manual_seed(5)
    model = StepByStep()
    tokens = torch.randint(0, 11, (9, 4))
    found = input_profile(model, tokens)
    every = StepByStep(every=True)
    every.load_state_dict(model.state_dict())
    known = input_profile(every, tokens)
    np.testing.assert_allclose(found.log_norm, known.log_norm, rtol=0, atol=1e-12)
    assert list(found.sources) == [8]
    assert found.note == "Measured at the output of `words`."
    message = "`sources` is 'all' and `model` gives one output a sequence, which belongs to the last step; pass 'last'."
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        input_profile(model, tokens, sources="all")
    scalar = input_profile(lambda x: x.cumsum(0)[-1, :, 0], wide(6, 3, 2))
    np.testing.assert_allclose(scalar.log_norm[0, :6], 0, atol=1e-12)


# token models -----------------------------------------------------------------------------------------------------------


def test_the_embedding_that_reads_the_tokens_is_found():
    torch.manual_seed(6)
    model, tokens = ReadsPositions(), torch.randint(0, 13, (3, 8))
    found = input_profile(model, tokens, outputs="hidden", causal=True)
    assert found.note == "Measured at the output of `tokens`."
    embedded = model.tokens(tokens).detach() + model.positions(torch.arange(8)).detach() / math.sqrt(2)
    known = gradient_profile(copy.deepcopy(model.rnn).double(), embedded.double(), wrt="input")
    np.testing.assert_allclose(found.log_norm, known.log_norm, rtol=0, atol=1e-5)  # the sum was taken in float32
    by_name = input_profile(model, tokens, outputs="hidden", at="tokens")
    np.testing.assert_array_equal(by_name.log_norm, found.log_norm)
    with pytest.raises(
        InputError, match=r"^`at` has no 'tokns'\. Did you mean 'tokens'\? Pass one of: tokens, positions, rnn"
    ):
        input_profile(model, tokens, outputs="hidden", at="tokns")
    with pytest.raises(InputError, match=r"^`model` returns hidden, last; pass outputs= with one of these names\.$"):
        input_profile(model, tokens)
    none_reads = nn.Sequential(nn.Embedding(13, 4), nn.Embedding(13, 4))
    with pytest.raises(InputError, match=r"^`model` failed on `inputs` \(int64 \[3, 8\]\): "):
        input_profile(none_reads, tokens)


def test_the_models_of_this_package():
    task = tasks.make("copy", delay=5)
    model = models.build(task, cell="gru", hidden=6, embed=4)
    inputs = task.batch(3, torch.Generator().manual_seed(0)).inputs
    found = input_profile(model, inputs, sources=3, causal=True, outputs=0)
    assert found.log_norm.shape[2] == 3
    assert found.verify().residual < 1e-4
    assert (found.horizon().last, len(found.to_frame()) > 0) == (found.horizon().last, True)


@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Mamba"])
def test_hugging_face_causal_models(kind, caplog):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(7)
    sizes = {
        "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
        "Llama": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
        "Mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    }[kind]
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=40, **sizes, **ends)
    name = {"GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM")
    model = getattr(transformers, name)(config)
    tokens = torch.randint(0, 40, (2, 12))
    found = input_profile(model, tokens, sources=2, causal=True)
    assert found.log_norm.shape == (2, 6 + 1 + 12, 2)
    at = {"GPT2": "transformer.wte", "Llama": "model.embed_tokens", "Mamba": "backbone.embeddings"}[kind]
    assert f"Measured at the output of `{at}`." in found.note
    assert np.isfinite(found.log_norm[1, 6:18]).all()
    hidden = input_profile(getattr(model, model.base_model_prefix), tokens, causal=True)
    assert hidden.log_norm.shape == (1, 13, 2)
    assert found.verify(10).residual < 1e-2


# what is below the range ------------------------------------------------------------------------------------------------


def fading(decay: float) -> nn.Module:
    """h_t = decay * h_{t-1} + x_t on positive inputs."""
    module = nn.RNN(1, 1, nonlinearity="relu", bias=False)
    nn.init.constant_(module.weight_hh_l0, decay)
    nn.init.ones_(module.weight_ih_l0)
    return module


@pytest.mark.parametrize("decay", [0.5, 1e-5, 1e-30])
def test_what_float64_cannot_hold_is_not_zero(decay):
    steps = 2200 if decay == 0.5 else 150
    found = input_profile(fading(decay), torch.ones(steps, 2, 1))
    logs = found.log_norm[0, :-1]
    assert not np.isneginf(logs).any()
    seen = ~np.isnan(logs[:, 0])
    held = int(532 / -math.log10(decay))
    assert abs(seen.sum() - held) <= 4  # the end of the range is a power of two
    exact = np.arange(steps) * math.log(np.float32(decay))
    np.testing.assert_allclose(logs[seen, 0], exact[seen], rtol=1e-12)
    assert found.note == (
        f"{2 * (steps - seen.sum())} of {2 * steps} gradients are below 1e-532, where float64's range ends here: nan, "
        "which is not zero."
    )
    assert len(found.to_frame()) == 2 * seen.sum()
    assert found.horizon(1e-9).last == 1 + int(9 / -math.log10(decay))


def test_exact_zeros_are_zeros_and_come_back():
    def echo(x):  # sees x_t, x_{t-3} and x_{t-5}
        padded = torch.cat([torch.zeros_like(x[:5]), x])
        return padded[5:] + 1e-200 * padded[2:-3] + padded[: len(x)]

    found = input_profile(echo, wide(12, 2, 1))
    gone = np.isneginf(found.log_norm[0, :12, 0])
    assert list(np.flatnonzero(~gone)) == [0, 3, 5]
    assert found.log_norm[0, 3, 0] == pytest.approx(-200 * math.log(10))
    assert found.note == ""


def test_a_gradient_beyond_float64_is_measured_too():
    found = input_profile(fading(1e20), torch.ones(28, 2, 1), sources=[13, 14, 20])
    exact = np.arange(14) * math.log(np.float32(1e20))
    np.testing.assert_allclose(found.log_norm[0, found.distance >= 0][:14, 0], exact, rtol=1e-12)


def test_float32_inside_a_model_is_named():
    class Narrow(nn.Module):
        def forward(self, x):
            return (0.25 * torch.ones(400)[:, None, None] * x.float()).cumsum(0).double()

    found = input_profile(Narrow(), torch.randn(6, 2, 1)[:6].repeat(70, 1, 1)[:400])
    assert found.note == "Gradients pass through float32: relative rounding 1e-07."
    function = fading(0.5)
    as_it_is = input_profile(lambda x: function(x)[0], torch.ones(400, 2, 1))
    assert as_it_is.note.startswith(
        "The model is a function, which runs as it is: in float32, the dtype of the inputs. "
    )
    assert "below 1e-55, where float32's range ends here: nan, which is not zero." in as_it_is.note
    assert not np.isneginf(as_it_is.log_norm).any()


def test_rounding_of_a_fourier_transform_is_not_the_future():
    found = input_profile(FourierConvolution(16), torch.randn(16, 2, 3), sources=[5, 15], causal=True)
    assert found.note.startswith("Gradients by future inputs are at most ")
    assert found.note.endswith(
        "rounding, as a fast Fourier transform leaves it; values as small in the past are rounding too."
    )


# the future -------------------------------------------------------------------------------------------------------------


def test_a_leak_is_named_and_a_broken_promise_refused():
    torch.manual_seed(8)
    model = TCN(3, 4, leak=1)
    inputs = torch.randn(2, 3, 20)
    found = input_profile(model, inputs)  # the last step has no future: another is asked
    assert re.fullmatch(
        r"The model sees up to 1 step into the future: the gradient of its output at step 9 by the input 1 step later is "
        r"0?\.?[\de.-]+ of its largest\.",
        found.note,
    )
    with pytest.raises(
        InputError, match=r"^`causal` is promised and `model` sees the future: the gradient of its output at "
    ):
        input_profile(model, inputs, causal=True)
    late = nn.Sequential(nn.Identity())

    def looks_ahead_at_the_start(x):
        return torch.cat([x[:1] + x[2:3], x[1:]])

    assert input_profile(looks_ahead_at_the_start, wide(30, 2, 1)).note == ""
    with pytest.raises(InputError, match="step 0 by the input 2 steps later is 1 of its largest"):
        input_profile(looks_ahead_at_the_start, wide(30, 2, 1), causal=True)
    assert input_profile(late, torch.randn(5, 2, 3), causal=True).log_norm[0, 0].max() == pytest.approx(0)


# nothing of the user's is touched ---------------------------------------------------------------------------------------


def test_the_model_and_the_surroundings_stay_as_they_were():
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model.train()
    wrapped = Flattened(model)
    inputs = torch.randn(7, 4, 3, requires_grad=True)
    wrapped(inputs).sum().backward()
    state = {name: value.clone() for name, value in wrapped.state_dict().items()}
    grads = [parameter.grad.clone() for parameter in wrapped.parameters()]
    own, before = inputs.grad.clone(), torch.get_rng_state()
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = input_profile(wrapped, inputs, sources=2)
    assert found.note.startswith(
        "Measured in evaluation mode: batch normalisation uses its running averages and dropout is off."
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy)
    assert torch.get_default_dtype() == torch.float32
    assert all(each.training for each in wrapped.modules())
    assert all(torch.equal(value, wrapped.state_dict()[name]) for name, value in state.items())
    assert all(torch.equal(a, b.grad) for a, b in zip(grads, wrapped.parameters(), strict=True))
    assert torch.equal(inputs.grad, own)
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in wrapped.parameters())


class Flattened(nn.Module):
    """A model of rows on every step of every sequence."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def test_the_default_dtype_comes_back_after_an_error():
    with pytest.raises(InputError):
        input_profile(nn.Linear(3, 2), torch.randn(4, 2, 5))
    assert torch.get_default_dtype() == torch.float32


def test_what_watches_the_model_does_not_see_it():
    module = nn.LSTM(2, 4)
    model = nn.Sequential(module)
    monitor = GradientMonitor(module, every=1)
    with watch(module) as watcher:
        module(torch.randn(5, 2, 2))[0].sum().backward()
        before = watcher.profile().log_norm.copy()
        input_profile(module, torch.randn(9, 3, 2))
        np.testing.assert_array_equal(watcher.profile().log_norm, before)
    assert monitor.metrics()
    assert len(list(model.parameters())) == 4


def test_hooks_are_left_out_and_named():
    module = nn.utils.spectral_norm(nn.Linear(3, 3))  # a hook of PyTorch's that sets the weight
    module(torch.randn(4, 3))
    module.eval()(torch.randn(4, 3))
    module.register_forward_hook(lambda *_: pytest.fail("called on the copy"))
    found = input_profile(nn.Sequential(module), torch.randn(4, 2, 3))
    assert found.note == "Measured without the model's 1 hooks; a function of the inputs keeps them."
    known = input_profile(copy_of(module), torch.randn(4, 2, 3))
    np.testing.assert_allclose(found.log_norm, known.log_norm, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_an_old_weight_norm_can_be_copied():
    torch.manual_seed(11)
    normed = nn.utils.weight_norm(nn.Linear(3, 3))
    known = input_profile(copy_of(normed), torch.randn(4, 2, 3))
    np.testing.assert_allclose(input_profile(normed, torch.randn(4, 2, 3)).log_norm, known.log_norm, rtol=0, atol=1e-5)


def copy_of(linear):
    plain = nn.Linear(3, 3)
    plain.weight, plain.bias = nn.Parameter(linear.weight.detach()), nn.Parameter(linear.bias.detach())
    return plain


def test_in_inference_mode_and_of_a_compiled_or_bound_model():
    module = nn.GRU(2, 3, dtype=torch.float64)
    with torch.inference_mode():
        inputs = wide(6, 2, 2)
        found = input_profile(module, inputs)
    known = gradient_profile(module, wide(6, 2, 2), wrt="input")
    np.testing.assert_allclose(found.log_norm, known.log_norm, rtol=0, atol=1e-10)
    bound = input_profile(module.forward, wide(6, 2, 2))
    np.testing.assert_allclose(bound.log_norm, known.log_norm, rtol=0, atol=1e-10)


def test_random_numbers_of_the_model_are_one_draw():
    found = input_profile(Noisy(), torch.randn(8, 2, 3))
    assert "The model draws random numbers: this is the gradient along one draw of them." in found.note
    np.testing.assert_array_equal(found.log_norm, input_profile(Noisy(), torch.randn(8, 2, 3)).log_norm)
    assert found.verify().residual < 1e-6


# what comes back --------------------------------------------------------------------------------------------------------


def test_a_profile_by_the_input_has_all_that_profiles_have(tmp_path):
    torch.manual_seed(10)
    found = input_profile(nn.GRU(2, 4, bidirectional=True), torch.randn(12, 3, 2), sources=3)
    assert isinstance(found, GradientProfile)
    found.save(tmp_path / "found.npz")
    loaded = GradientProfile.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(loaded.log_norm, found.log_norm)
    assert (loaded.note, loaded.wrt, list(loaded.distance)) == (found.note, "input", list(found.distance))
    assert set(found.to_frame()["distance"]) == set(range(-8, 12))
    assert found.plot().get_ylabel() == "log10 gain of the gradient, wrt input"
    with pytest.raises(InputError, match="This profile was loaded from a file"):
        loaded.verify()
    with pytest.raises(InputError, match=r"^`profile` has no recurrence with it"):
        covariance_weighted(found)


def test_verify_sees_a_wrong_profile_and_a_changed_weight():
    module = nn.GRU(2, 3, dtype=torch.float64)
    found = input_profile(module, wide(6, 2, 2), sources=2)
    certificate = found.verify(20)
    assert certificate.residual < 1e-6
    assert certificate.route == "finite differences"
    assert re.match(r"\d+ entries of the float64 profile agree with finite differences to ", str(certificate))
    found.log_norm[:] += 0.01
    assert found.verify(20).residual == pytest.approx(0.01, rel=0.05)
    with torch.no_grad():
        module.bias_ih_l0.add_(1)
    with pytest.raises(InputError, match="A weight of `model` has changed since the profile was measured"):
        found.verify()


def test_verify_sees_a_backward_pass_that_is_wrong():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.cumsum(0)

        @staticmethod
        def backward(ctx, grad):
            return grad.cumsum(0)  # should run backwards in time

    found = input_profile(Wrong.apply, wide(8, 2, 3), sources=[3])
    assert found.verify(16).residual > 0.5


# bad input --------------------------------------------------------------------------------------------------------------

UNBATCHED = (
    "`inputs` has shape [4, 2], a number for each step and sequence, and `model` mixes them along both axes; for one sequence "
    "without a batch axis pass inputs.unsqueeze(1), or inputs.unsqueeze(0) where the model takes the batch first; otherwise "
    "take out what looks across the batch."
)


@dataclasses.dataclass
class One:
    y: object
    steps: int = 4


@dataclasses.dataclass
class Two:
    first: torch.Tensor
    second: torch.Tensor


@dataclasses.dataclass(slots=True)
class Usual:
    hidden: torch.Tensor
    logits: torch.Tensor


def broken_lstm():
    module = nn.LSTM(2, 3)
    nn.init.constant_(module.weight_ih_l0, math.nan)
    return module


@pytest.mark.parametrize(
    "returned",
    [
        lambda y: One(y),
        lambda y: Usual(y * 0, y),
        lambda y: types.SimpleNamespace(y=y, count=3),
        lambda y: {"y": y},
        lambda y: (y, None),
        lambda y: [None, y],
    ],
)
def test_what_a_model_returns_by_name_is_looked_into(returned):
    inputs = wide(5, 2, 3)
    found = input_profile(lambda x: returned(x.cumsum(0) ** 2), inputs)
    np.testing.assert_array_equal(found.log_norm, input_profile(lambda x: x.cumsum(0) ** 2, inputs).log_norm)


REFUSALS: list = [
    (lambda: input_profile(3, wide(4, 2, 1)), "`model` is a int; pass an nn.Module or a function of the inputs."),
    (
        lambda: input_profile(nn.Identity(), [1.0]),
        "`inputs` is a list; pass a tensor [T, B, I], or token ids [T, B].",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(4)),
        "`inputs` has shape [4]; pass [T, B, I] or token ids [T, B], or both with the batch first.",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(4, 2, 1) / 0),
        "`inputs` holds a value that is not finite; pass finite numbers.",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(4, 2, 1) > 0),
        "`inputs` has dtype torch.bool; pass floating numbers or whole token ids.",
    ),
    (
        lambda: input_profile(lambda x: torch.ones(4, 2, 1), wide(4, 2, 1)),
        "`model`'s output does not depend on `inputs`; pass outputs= or at= where another tensor is meant.",
    ),
    (
        lambda: input_profile(lambda x: x.detach() * 2, wide(4, 2, 1)),
        "`model`'s output changes with `inputs`, but autograd cannot follow it: take torch.no_grad(), .detach() and .item() "
        "out of the model.",
    ),
    (
        lambda: input_profile(lambda x: x * 0 + 1, wide(4, 2, 1)),
        "`model`'s output at the sources does not depend on `inputs`: the gradient is exactly zero at every step; pass "
        "outputs= or at= where another tensor is meant.",
    ),
    (
        lambda: input_profile(lambda x: torch.ones(4, 2, 1, requires_grad=True) * 1, wide(4, 2, 1)),
        "`model`'s output at the sources does not depend on `inputs`: the gradient is exactly zero at every step; pass "
        "outputs= or at= where another tensor is meant.",
    ),
    (
        lambda: input_profile(lambda x: x - x.mean((0, 1)), wide(4, 3, 1)),
        "`model` mixes its sequences: the gradient of one sequence's output reaches the input of another, so a batch cannot "
        "be measured at once; take out what looks across the batch, or pass one sequence at a time.",
    ),
    (
        lambda: input_profile(lambda x: x.repeat(2, 2, 1), wide(4, 3, 1)),
        "`model` turns [4, 3, 1] into [8, 6, 1], which is neither an output for every step nor one for every sequence; pass "
        "outputs= with a function that gives [T, B, ...], [B, T, ...] or [B, ...].",
    ),
    (
        lambda: input_profile(lambda x: x.cumsum(0), torch.ones(4, 2, dtype=torch.int64)),
        "`inputs` are token ids and `model` is a function, whose modules are not known; pass the nn.Module itself, or the "
        "numbers that its embedding gives.",
    ),
    (
        lambda: input_profile(lambda x: x.cumsum(0), wide(4, 2, 1), at="embedding"),
        "`at` is 'embedding' and `model` is a function, whose modules are not known; pass the nn.Module itself, or the "
        "numbers that its embedding gives.",
    ),
    (
        lambda: input_profile(nn.Linear(2, 2), torch.ones(4, 2, dtype=torch.int64)),
        "`inputs` are token ids and `model` has no nn.Embedding; pass at= with the name of the module that reads them.",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(4, 2, 1), outputs=[0]),
        "`outputs` is a list; pass the name or the index of the model's output to follow, or a function that picks it.",
    ),
    (
        lambda: input_profile(nn.LSTM(1, 2).double(), wide(4, 2, 1), outputs=2),
        "`outputs` is 2 and `model` returns a tuple of 2; pass None or a function.",
    ),
    (
        lambda: input_profile(nn.LSTM(1, 2).double(), wide(4, 2, 1), outputs=1),
        "`outputs` picks a tuple of 2 of what `model` returns; pick a tensor.",
    ),
    (
        lambda: input_profile(lambda x: x.argmax(-1), wide(4, 2, 3)),
        "`model`'s output has dtype torch.int64, which has no gradient; pass outputs= with what comes before it.",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(4, 2, 1), layout="TIB"),
        "`layout` has no 'TIB'. Pass one of: TBI, BTI, BIT.",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(4, 2, 1), dtype=torch.float16),
        "`dtype` is torch.float16; pass torch.float64, torch.float32, or None for the model's own.",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(4, 2, 1), generator=3),
        "`generator` is a int; pass a torch.Generator, or None for one seeded 0.",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(4, 2, 1), sources=[4]),
        "`sources` holds step 4; pass indices from -4 to 3 for 4 steps.",
    ),
    (
        lambda: input_profile(nn.Identity(), wide(100, 2, 1), sources="all", max_bytes=1000),
        "`sources` needs 100 sources x 200 distances x 2 sequences, 0.0 GiB; pass fewer sources (an int), or "
        "max_bytes=320000 if there is room.",
    ),
]


REFUSALS += [
    (
        lambda: input_profile(lambda x: Two(x, x.cumsum(0)), wide(4, 2, 1)),
        "`model` returns first, second; pass outputs= with one of these names.",
    ),
    (
        lambda: input_profile(lambda x: One([x]), wide(4, 2, 1)),
        "`model` returns a One, which holds no tensor itself; pass outputs= with a function that picks one.",
    ),
    (
        lambda: input_profile(lambda x: None, wide(4, 2, 1)),
        "`model` returns a NoneType, which holds no tensor itself; pass outputs= with a function that picks one.",
    ),
    (
        lambda: input_profile(lambda x: ({"y": x}, [x]), wide(4, 2, 1)),
        "`model` returns a tuple of 2, which holds no tensor itself; pass outputs= with a function that picks one.",
    ),
    *(
        (lambda module=module: input_profile(module, wide(4, 2)), UNBATCHED)
        for module in (nn.LSTM(2, 3), nn.GRU(2, 3, batch_first=True), nn.TransformerEncoderLayer(2, 1, 4))
    ),
    (lambda: input_profile(nn.GRU, wide(4, 2, 3)), "`model` is the class GRU; pass an instance of it."),
    (
        lambda: input_profile(torch.jit.trace(nn.Linear(3, 3), torch.zeros(1, 3)), wide(4, 2, 3)),
        "`model` cannot be copied (requires_grad_ is not supported on ScriptModules); pass a function of the inputs, which is "
        "run as it is.",
    ),
    (
        lambda: input_profile(lambda x: x.cumsum(0)[-1, :1], wide(4, 2)),
        "`model` turns [4, 2] into [1], which is neither an output for every step nor one for every sequence; for one "
        "sequence without a batch axis pass inputs.unsqueeze(1), or inputs.unsqueeze(0) where the model takes the batch "
        "first; pass outputs= with a function that gives [T, B, ...], [B, T, ...] or [B, ...].",
    ),
    (
        lambda: input_profile(lambda x: x.cumsum(0) * math.nan, wide(4, 2, 1)).horizon(),
        "No gradient was observed: the output of all 2 sequences is inf or nan, first at step 0; pass inputs and weights "
        "under which it is finite.",
    ),
    (
        lambda: input_profile(lambda x: x.cumsum(0), wide(1, 2, 1)).horizon(),
        "No gradient was observed at distance 1, which all others are relative to; pass sequences of more steps, later "
        "sources, or another reference=.",
    ),
    (
        lambda: input_profile(lambda x: x * 2, wide(4, 2, 1)).horizon(),
        "The gradient at distance 1, which all others are relative to, is exactly zero; pass another reference=.",
    ),
    (
        lambda: gradient_profile(broken_lstm(), torch.randn(4, 2, 2)).horizon(),
        "No gradient was observed: the state of all 2 sequences is inf or nan, first at step 0; pass inputs and weights under "
        "which it is finite.",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSALS, ids=[message[:40] for _, message in REFUSALS])
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        call()


def test_a_model_that_fails_says_so_and_what_else_to_pass():
    class Fixed(nn.Module):
        def forward(self, x):
            return x @ torch.ones(1, 1, dtype=torch.float32)

    with pytest.raises(
        InputError, match=r"^`model` failed on `inputs` \(float64 \[4, 2, 1\]\): RuntimeError: .*dtype=None"
    ):
        input_profile(Fixed(), torch.randn(4, 2, 1))
    found = input_profile(Fixed(), torch.randn(4, 2, 1), dtype=None)
    assert found.note == "Gradients pass through float32: relative rounding 1e-07."
    with pytest.raises(
        InputError, match=r"^`at` names 'unused', which the model does not call; pass a module that it runs\.$"
    ):
        input_profile(WithUnused(), torch.randn(4, 2, 1), at="unused")


class WithUnused(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        return x.cumsum(0)


def test_outputs_that_are_not_finite_are_data():
    def breaks(x):
        h = x.cumsum(0)
        h = h.clone()
        h[3:, 1] = h[3:, 1] / 0
        return h

    found = input_profile(breaks, wide(6, 3, 2), sources=[2, 5])
    assert list(found.first_nonfinite) == [-1, 3, -1]
    assert np.isnan(found.log_norm[1, :, 1]).all()
    assert np.isfinite(found.log_norm[0, 3:6][:, [0, 2]]).all()
    assert np.isfinite(found.log_norm[1, 3:9][:, [0, 2]]).all()
    assert "The output of 1 of 3 sequences is not finite." in found.note
    assert "The gradient of 1 of 6 sources and sequences is not finite." in found.note


class Turning(nn.Module):
    """A complex linear recurrence with one eigenvalue, r exp(i phase)."""

    def __init__(self):
        super().__init__()
        self.eigenvalue = nn.Parameter(torch.polar(torch.tensor([0.9]), torch.tensor([1.2])))
        self.register_buffer("into", torch.ones(1, 1, dtype=torch.complex64))

    def forward(self, x):
        h, outputs = torch.zeros(x.shape[1], 1, dtype=self.eigenvalue.dtype), []
        for u in x:
            h = self.eigenvalue * h + u.to(h.dtype) @ self.into
            outputs.append(h.real)
        return torch.stack(outputs)


def test_complex_weights_keep_their_imaginary_parts():
    model, kept = Turning(), copy.deepcopy(Turning().state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = input_profile(model, wide(20, 2, 1))
    value = complex(model.eigenvalue.detach().to(torch.complex128))
    expected = [math.log(abs((value**k).real)) for k in range(20)]
    np.testing.assert_allclose(found.log_norm[0, :20, 0], expected, rtol=0, atol=1e-10)
    assert found.note == ""
    assert all(torch.equal(kept[name], each) for name, each in model.state_dict().items())


def test_an_output_of_another_length_is_said_to_be_one_output():
    model = nn.Conv1d(3, 4, 4, stride=2, padding=1)
    found = input_profile(model, torch.randn(2, 3, 30), layout="BIT")
    assert found.note == (
        "The output [2, 4, 15] has no axis of 30 steps: all of it is taken as one output of each sequence; pass outputs= for "
        "a part of it."
    )
    assert input_profile(model, torch.randn(2, 3, 30), layout="BIT", outputs=lambda y: y[..., -1]).note == ""
