"""Penalties against slow references; warm-up; and trainings with them that are taken up again."""

import numpy as np
import pytest
import torch
from torch import nn

import rnnvg
from rnnvg import InputError, models, tasks, training
from rnnvg.training import penalties

TASK = tasks.make("adding", length=8)


def built(cell="rnn", hidden=6, task=TASK, **options):
    torch.manual_seed(0)
    return models.build(task, cell, hidden=hidden, **options).double()


def batch_of(task=TASK, size=5):
    batch = task.batch(size, torch.Generator().manual_seed(1))
    return type(batch)(
        batch.inputs.double(), batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    )


def total_gradients(model, task, batch):
    """dL/dh_t of the whole loss with every later step in it, by autograd through an unrolled network: [T, B, H]."""
    core = model.core
    h, states = torch.zeros(batch.inputs.shape[1], core.hidden_size, dtype=torch.float64), []
    activation = torch.tanh if core.nonlinearity == "tanh" else torch.relu
    for x in batch.inputs:
        h = activation(x @ core.weight_ih_l0.T + core.bias_ih_l0 + h @ core.weight_hh_l0.T + core.bias_hh_l0)
        states.append(h)
    grads = torch.autograd.grad(task.loss(model.readout(torch.stack(states)), batch), states)
    return torch.stack(states).detach(), torch.stack(grads)


@pytest.mark.parametrize("cell", ["rnn", "rnn-relu"])
def test_omega_and_its_gradient_are_those_of_the_definition(cell):
    model, batch = built(cell), batch_of()
    states, grads = total_gradients(model, TASK, batch)
    slopes = 1 - states**2 if cell == "rnn" else (states > 0).double()
    W = model.core.weight_hh_l0
    terms = []
    for t in range(1, len(states)):
        for b in range(states.shape[1]):
            if grads[t, b].norm() > 0:
                step = W.T @ torch.diag(slopes[t, b]) @ grads[t, b]
                terms.append((step.norm() / grads[t, b].norm() - 1) ** 2)
    expected = torch.stack(terms).mean()
    found = penalties.omega(model, TASK, batch)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, W)[0] for each in (found, expected)))


def test_exponents_are_those_of_the_definition_and_their_gradient_is_that_of_differences():
    model = built()
    inputs = model.encode(batch_of(size=3).inputs).detach()
    found = penalties.exponents(model.core, inputs, 4)
    outputs = model.core(inputs)[0].detach().numpy()
    sums = np.zeros((3, 4))
    for b in range(3):
        q = np.eye(6, 4)
        for h in outputs[:, b]:
            q, r = np.linalg.qr(np.diag(1 - h**2) @ model.core.weight_hh_l0.detach().numpy() @ q)
            sums[b] += np.log(np.abs(np.diag(r)))
    np.testing.assert_allclose(found.detach(), sums.mean(0) / len(inputs), atol=1e-10)
    # All of them add up to ln|det J|, from whatever directions they are measured.
    every = penalties.exponents(model.core, inputs, 6).sum().detach()
    whole = rnnvg.lyapunov_spectrum(model.core, inputs).exponents.mean(0).sum()
    assert float(every) == pytest.approx(whole, abs=1e-9)
    W = model.core.weight_hh_l0
    (grad,) = torch.autograd.grad(penalties.flossing(model.core, inputs), W)
    step = 1e-6
    for place in ((0, 0), (2, 5)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                W[place] += sign * step
            values.append(float(penalties.flossing(model.core, inputs).detach()))
            with torch.no_grad():
                W[place] -= sign * step
        assert float(grad[place]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_flossing_brings_the_leading_exponents_to_zero():
    torch.manual_seed(0)
    task = tasks.make("adding", length=15)
    model = models.build(task, "rnn", hidden=16)
    inputs = task.probe(8, torch.Generator().manual_seed(3)).inputs
    rates = [rnnvg.gradient_profile(model.core, inputs).horizon().rate]
    penalties.floss(model, task, 60, torch.Generator().manual_seed(0))
    rates.append(rnnvg.gradient_profile(model.core, inputs).horizon().rate)
    assert rates[0] < -0.3
    assert abs(rates[1]) < 0.1
    assert all(each.grad is None for each in model.parameters())


def test_warm_up_raises_the_rate_evenly():
    """Plain gradient descent on one batch: the k-th of n steps moves by k/n of the gradient."""
    task = tasks.make("adding", length=4)
    moves = {}
    for warmup in (None, 4):
        torch.manual_seed(0)
        model = models.build(task, "rnn", hidden=4)
        start = model.readout.weight.detach().clone()
        training.fit(
            model,
            task,
            steps=1,
            lr=0.1,
            optimizer="sgd",
            clip=None,
            warmup=warmup,
            generator=torch.Generator().manual_seed(0),
        )
        moves[warmup] = model.readout.weight.detach() - start
    torch.testing.assert_close(moves[4], moves[None] / 4, rtol=1e-4, atol=1e-7)


class StopError(Exception):
    pass


@pytest.mark.parametrize("options", [{"warmup": 10, "decay": 0.5}, {"omega": 0.5}, {"flossing": 3}])
def test_what_is_taken_up_again_is_the_same(tmp_path, options):
    def trained(resume=None, until=None):
        torch.manual_seed(0)
        model = models.build(TASK, "rnn", hidden=5)

        def stop(step, steps, loss):
            if until is not None and step >= until:
                raise KeyboardInterrupt

        training.fit(
            model,
            TASK,
            steps=24,
            eval_every=6,
            generator=torch.Generator().manual_seed(0),
            on_progress=stop,
            resume=resume,
            **options,
        )
        return model.state_dict()

    whole = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "kept", until=20)
    again = trained(tmp_path / "kept")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_omega_lets_the_gradient_reach_back():
    """Over seven networks: of one alone the horizon is anything from 3 to 60 with the penalty, and 1 or 2 without."""
    task = tasks.make("adding", length=15)
    reach = {None: [], 1.0: []}
    for seed in range(7):
        for omega, horizons in reach.items():
            torch.manual_seed(seed)
            model = models.build(task, "rnn", hidden=16)
            training.fit(model, task, steps=80, omega=omega, clip=None, generator=torch.Generator().manual_seed(seed))
            inputs = task.probe(8, torch.Generator().manual_seed(3)).inputs
            horizons.append(rnnvg.gradient_profile(model.core, inputs).horizon().last)
    assert sum(reach[1.0]) >= 4 * sum(reach[None]), reach


def test_a_constraint_stays_through_training_and_leaves_a_plain_network():
    torch.manual_seed(0)
    model = models.build(TASK, "rnn", hidden=6, constraint="orthogonal")
    training.fit(model, TASK, steps=20, lr=0.05, generator=torch.Generator().manual_seed(0))
    models.unconstrain(model.core)
    W = model.core.weight_hh_l0.detach()
    torch.testing.assert_close(W @ W.T, torch.eye(6), atol=1e-5, rtol=0)
    assert type(model.core) is nn.RNN
    assert isinstance(model.core.weight_hh_l0, nn.Parameter)


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        (
            "lstm",
            {"omega": 1.0},
            "`omega` is for networks of one recurrent matrix; got cell 'lstm'. It fits: rnn, rnn-relu.",
        ),
        (
            "rnn-relu",
            {"flossing": 2},
            "`flossing` is for networks of one recurrent matrix; got cell 'rnn-relu'. It fits: rnn.",
        ),
        ("rnn", {"omega": -1.0}, "`omega` must be a finite number above 0; got -1."),
        ("rnn", {"warmup": 0}, "`warmup` must be a whole number of at least 1; got 0."),
    ],
)
def test_bad_input(cell, options, message):
    model = models.build(TASK, cell, hidden=4)
    with pytest.raises(InputError) as caught:
        training.fit(model, TASK, steps=1, generator=torch.Generator(), **options)
    assert str(caught.value) == message


def test_layers_and_gates_are_refused():
    deep = models.build(TASK, "rnn", hidden=4, layers=2)
    with pytest.raises(InputError, match=r"`omega` is for one recurrent layer; got 2\. Pass layers=1\."):
        training.fit(deep, TASK, steps=1, generator=torch.Generator(), omega=1.0)
    with pytest.raises(InputError) as caught:
        models.build(TASK, "gru", hidden=4, constraint="orthogonal")
    assert str(caught.value) == (
        "`constraint` 'orthogonal' keeps one square recurrent matrix orthogonal and does not fit cell 'gru'. It fits: rnn, "
        "rnn-relu."
    )
