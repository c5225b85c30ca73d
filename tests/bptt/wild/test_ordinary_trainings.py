"""Ordinary training scripts with a monitor attached: the same bits, and every answer right or an honest "not measured".

What comes back is held against `.grad`, which knows nothing of the analyzer, and against float64 autograd by `verify`.
"""

import contextlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import rnnvg
from rnnvg import InputError

PATH = Path(__file__).parents[3] / "scripts" / "ordinary_trainings.py"
spec = importlib.util.spec_from_file_location("ordinary_trainings", PATH)
assert spec is not None
assert spec.loader is not None
trainings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trainings)

STEPS = 50
MODELS = trainings.OWN_LOOPS


def train(kind, attach):
    loop = trainings.Loop(kind)
    monitor, heard = None, []
    with contextlib.suppress(InputError):
        monitor = rnnvg.GradientMonitor(loop.model, every=7) if attach else None
    for step in range(STEPS):
        loop.step()
        if monitor is not None and step % 3 != 1:
            heard.append((monitor.metrics(), monitor.verdict(), monitor.reason))
    return [*loop.weights(), torch.rand(3)], heard


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
    rounding = 2e-2 if kind is trainings.Accumulated else 1e-4
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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "package"), [("Lightning", "lightning"), ("Hugging Face", "transformers")])
def test_a_librarys_trainer_too(name, package):
    pytest.importorskip(package)
    run = trainings.LIBRARIES[name]
    plain, nothing = run(STEPS, None)
    attached, monitor = run(STEPS, STEPS)
    assert nothing is None
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), attached.parameters(), strict=True))
    found = monitor.metrics()
    assert found["step"] == 0
    x, weights = attached.first
    again = trainings.Regression()
    again.load_state_dict(weights)
    again, x = again.double(), x.double()
    output = again.core(x)[0].detach().requires_grad_()
    again.readout(output[:, -1]).sum().backward()  # a factor for each sequence leaves gains as they are
    wanted = rnnvg.gradient_profile(again.core, x, output_grad=output.grad)
    assert found["gain_10"] == pytest.approx(float(np.exp(wanted.log_gain(0)[0, 10].mean())), rel=1e-4)
    assert found["horizon"] == wanted.horizon().last
