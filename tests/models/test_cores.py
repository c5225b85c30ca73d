"""Cores beside PyTorch's own, against their papers' formulas written step by step in float64; causality; profiles."""

import math

import numpy as np
import pytest
import torch

from rnnvg import gradient_profile, input_profile, models, tasks
from rnnvg.bench import execute, measure, run_spec
from rnnvg.bptt.cells import cell_of
from rnnvg.errors import InputError
from rnnvg.models.cores import CORES
from rnnvg.models.cores.attention import positions

T, B, INPUTS, H = 9, 3, 2, 8
RECURRENT = ("mingru", "lru", "lem")


def made(cell, layers=1):
    torch.manual_seed(0)
    core = CORES[cell](INPUTS, H, layers).double()
    return core, torch.randn(T, B, INPUTS, dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numbers(module):
    return {name: each.detach().numpy() for name, each in module.named_parameters()}


def mingru(w, x):
    weight, bias = w["gate_and_candidate.weight"], w["gate_and_candidate.bias"]
    h, found = np.zeros((B, H)), []
    for u in x:
        z = sigmoid(u @ weight[:H].T + bias[:H])
        h = (1 - z) * h + z * (u @ weight[H:].T + bias[H:])
        found.append(h)
    return np.stack(found)


def lru(w, x):
    eigenvalues = np.exp(-np.exp(w["nu"]) + 1j * np.exp(w["theta"]))
    b = (w["b"][:H] + 1j * w["b"][H:]) * np.exp(w["gamma"])[:, None]
    c = w["c"][:, :H] - 1j * w["c"][:, H:]
    h, found = np.zeros((B, H), complex), []
    for u in x:
        h = eigenvalues * h + u @ b.T
        y = (h @ c.T).real + u @ w["d"].T
        v = torch.nn.functional.gelu(torch.tensor(y)).numpy()
        found.append(v * sigmoid(v @ w["gate.weight"].T + w["gate.bias"]))
    return np.stack(found)


def lem(w, x):
    v1, v2, vz, vy = np.split(w["weight_ih"], 4)
    b1, b2, bz, by = np.split(w["bias"], 4)
    w1, w2, wz = np.split(w["weight_y"], 3)
    y, z, found = np.zeros((B, H)), np.zeros((B, H)), []
    for u in x:
        t1, t2 = sigmoid(y @ w1.T + u @ v1.T + b1), sigmoid(y @ w2.T + u @ v2.T + b2)
        z = (1 - t1) * z + t1 * np.tanh(y @ wz.T + u @ vz.T + bz)
        y = (1 - t2) * y + t2 * np.tanh(z @ w["weight_z"].T + u @ vy.T + by)
        found.append(y)
    return np.stack(found)


@pytest.mark.parametrize("cell", RECURRENT)
def test_outputs_are_the_formulas(cell):
    core, inputs = made(cell)
    slowly = {"mingru": mingru, "lru": lru, "lem": lem}[cell](numbers(core), inputs.numpy())
    np.testing.assert_allclose(core(inputs)[0].detach().numpy(), slowly, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", RECURRENT)
def test_single_steps_and_a_state_that_is_carried_are_the_whole(cell):
    core, inputs = made(cell)
    whole, last = core(inputs)
    state = core.start(inputs)
    for x in inputs:
        state = core.step(x, state)
    torch.testing.assert_close(state, last)
    first, carried = core(inputs[:4])
    torch.testing.assert_close(torch.cat([first, core(inputs[4:], carried)[0]]), whole)


def test_lru_starts_inside_the_unit_circle_with_states_of_one_size():
    torch.manual_seed(0)
    core = CORES["lru"](1, 2000)
    real, imaginary = (each.detach() for each in core.constants())
    modulus = torch.hypot(real, imaginary).double()
    # Uniform on the disk: the squared modulus is uniform.
    assert abs(float((modulus**2).mean()) - 0.5) < 4 * math.sqrt(1 / 12 / 2000)
    assert float(modulus.max()) < 1
    torch.testing.assert_close(core.gamma.detach().exp().double() ** 2, 1 - modulus**2, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cell", ["attention", "tcn"])
def test_a_core_without_recurrence_does_not_see_the_future(cell):
    core, inputs = made(cell, layers=2)
    assert not models.has_recurrence(core)
    profile = input_profile(core, inputs, sources="all", layout="TBI", causal=True)
    past = profile.log_norm[-1, (profile.distance >= 0) & (profile.distance < T)]
    assert np.isfinite(past).all()


def test_convolutions_reach_as_far_as_they_say():
    torch.manual_seed(0)
    core = CORES["tcn"](INPUTS, H).double()
    with torch.no_grad():
        for each in core.convolutions:  # every unit passes
            each.weight.abs_()
            each.bias.fill_(1)
    profile = input_profile(core, torch.rand(100, 1, INPUTS, dtype=torch.float64), layout="TBI")
    gain = profile.log_norm[0, :, 0]
    assert np.isfinite(gain[(profile.distance >= 0) & (profile.distance < 64)]).all()
    assert np.isneginf(gain[(profile.distance >= 64) & (profile.distance < 100)]).all()


def test_attention_is_the_softmax_of_products_over_the_past():
    core, inputs = made("attention")
    block = core.blocks[0]
    x = core.enter(inputs) + positions(T, H)[:, None]
    q, k, v = block.queries_keys_values(block.before(x)).split(H, -1)
    seen = torch.zeros_like(x)
    for sequence in range(B):
        for head in range(4):
            part = slice(2 * head, 2 * head + 2)
            for t in range(T):
                scores = (q[t, sequence, part] * k[: t + 1, sequence, part]).sum(-1) / math.sqrt(2)
                seen[t, sequence, part] = (scores.softmax(0)[:, None] * v[: t + 1, sequence, part]).sum(0)
    x = x + block.leave(seen)
    x = x + block.narrow(torch.nn.functional.gelu(block.wide(block.between(x))))
    torch.testing.assert_close(core(inputs)[0], core.norm(x))


@pytest.mark.parametrize("cell", RECURRENT)
def test_the_profile_of_a_run_is_the_gradient_of_the_unrolled_network(cell):
    task = tasks.make("adding", length=5)
    torch.manual_seed(1)
    model = models.build(task, cell, hidden=6).double()
    probe = task.probe(2, torch.Generator().manual_seed(0))
    inputs = probe.inputs.double()
    core, state = models.recurrence(model.core, inputs)
    found = gradient_profile(core, inputs, state, generator=torch.Generator().manual_seed(0))
    assert found.verify().residual < 1e-10
    by_input = measure.profile(model, task, type(probe)(inputs, probe.targets, probe.weight), "input", 0)
    assert by_input.wrt == "input"
    assert by_input.verify().residual < 1e-6  # of finite differences


@pytest.mark.parametrize("cell", ["mingru", "lru", "lem"])
@pytest.mark.parametrize("wrt", ["state", "input"])
def test_the_closed_form_of_a_core_is_the_route_of_its_steps(cell, wrt):
    torch.manual_seed(3)
    core = CORES[cell](5, 6, 1).double()
    inputs = torch.randn(40, 3, 5, dtype=torch.float64)
    drawn = torch.get_rng_state()
    closed, state = models.recurrence(core, inputs)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert cell_of(closed) is not None
    own = {id(each) for each in core.parameters()}
    assert {id(each) for each in closed.parameters()} <= own
    routes = []
    for route in (closed, core.step):
        generator = torch.Generator().manual_seed(0)
        routes.append(gradient_profile(route, inputs, state, sources=4, wrt=wrt, generator=generator))
    np.testing.assert_allclose(routes[0].log_norm, routes[1].log_norm, rtol=0, atol=1e-10)
    certificate = routes[0].verify()
    assert certificate.residual < 1e-10
    assert max(certificate.weights.values()) < 1e-10
    assert certificate.weights.keys() == dict(closed.named_parameters()).keys()


@pytest.mark.parametrize("cell", CORES)
def test_every_core_is_trained_and_measured_in_a_benchmark(cell, tmp_path):
    training = {"steps": 4, "batch": 4, "eval_every": 4, "eval_size": 10, "checkpoints": (0, 4)}
    spec = run_spec({"name": "adding", "length": 6}, cell, hidden=8, training=training, measure={"sequences": 2})
    result = execute(spec, tmp_path)
    assert result["status"] == "ok", result["reason"]
    assert result["recurrence"] == (cell in RECURRENT)
    assert result["verify"]["residual"] < 1e-3
    wrt = {line.split(",")[1] for line in (tmp_path / "runs" / spec.id / "curve.csv").read_text().splitlines()[1:]}
    assert wrt == ({"state", "input"} if cell in RECURRENT else {"input"})


def test_a_text_is_read_by_every_core():
    task = tasks.make("next-word", n_words=2000, distance=3, bptt=10)
    for cell in CORES:
        torch.manual_seed(0)
        model = models.build(task, cell, hidden=8)
        assert math.isfinite(task.score(model)["loss"])


def test_a_recurrence_of_one_layer_says_so():
    for cell in RECURRENT:
        with pytest.raises(InputError) as caught:
            models.build(tasks.make("adding"), cell, hidden=8, layers=2)
        assert str(caught.value) == f"`layers` must be 1 for cell '{cell}'; got 2."
