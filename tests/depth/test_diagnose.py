"""diagnose(): every planted defect by its name, no alarm on healthy networks, and a model that is left as it was."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rnnvg
from rnnvg.depth.planted import PLANTED, check, planted
from rnnvg.depth.probe import observe
from rnnvg.errors import InputError
from rnnvg.tasks.images import digits


@pytest.fixture(scope="module")
def images():
    return digits()


@pytest.fixture(scope="module")
def batch(images):
    return images.train_x[:64], images.train_y[:64]


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def perceptron(activation, depth, seed=0):
    torch.manual_seed(seed)
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(64, 64), activation()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("verdict", PLANTED)
def test_planted_defects_are_named(images, verdict, seed):
    assert check(planted(verdict, images, seed=seed), images, seed).verdict == verdict


@pytest.mark.acceptance
@pytest.mark.parametrize("verdict", PLANTED)
def test_planted_defects_are_named_in_twenty_of_twenty_seeds(images, verdict):
    found = [check(planted(verdict, images, seed=seed), images, seed).verdict for seed in range(20)]
    assert found == [verdict] * 20


def biased(activation, bias, seed):
    model = perceptron(activation, 4, seed)
    for module in model[:-1]:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.bias, bias)
    return model


def drawn(activation, std, seed):
    model = perceptron(activation, 4, seed)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, std)
    return model


class Convolutional(nn.Module):
    """Activations as function calls, none of them a module."""

    def __init__(self, bias=0.0):
        super().__init__()
        self.one, self.two, self.out = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3), nn.Linear(256, 10)
        nn.init.constant_(self.two.bias, bias)

    def forward(self, x):
        x = F.relu(self.one(x.view(-1, 1, 8, 8)))
        return self.out(self.two(x).relu_().flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind, steps=64, **options):
        super().__init__()
        self.core, self.out, self.steps = getattr(nn, kind)(1, 16, **options), nn.Linear(16, 10), steps

    def forward(self, x):
        sequence = x[:, : self.steps].T.unsqueeze(-1)
        return self.out(self.core(sequence)[0][-1])


class Unrolled(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.RNNCell(1, 16), nn.Linear(16, 10)

    def forward(self, x):
        h = None
        for t in range(x.shape[1]):
            h = self.cell(x[:, t : t + 1], h)
        return self.out(h)


class Detached(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.below, self.above, self.how = nn.Linear(64, 32), nn.Linear(32, 10), how

    def forward(self, x):
        if self.how == "detach":
            return self.above(torch.relu(self.below(x)).detach())
        with torch.no_grad():
            a = torch.relu(self.below(x))
        return self.above(a)


MODELS = {
    "default relu": (lambda seed: perceptron(nn.ReLU, 4, seed), "healthy"),
    "default tanh": (lambda seed: perceptron(nn.Tanh, 3, seed), "healthy"),
    "gelu": (lambda seed: perceptron(nn.GELU, 3, seed), "healthy"),
    "in place": (lambda seed: perceptron(lambda: nn.ReLU(inplace=True), 3, seed), "healthy"),
    "convolutions": (lambda seed: Convolutional(), "healthy"),
    "lstm": (lambda seed: Recurrent("LSTM"), "healthy"),
    "gru": (lambda seed: Recurrent("GRU"), "healthy"),
    "two layers of lstm with dropout": (lambda seed: Recurrent("LSTM", num_layers=2, dropout=0.2), "healthy"),
    "short rnn": (lambda seed: Recurrent("RNN", steps=5), "healthy"),
    "attention": (
        lambda seed: nn.Sequential(
            nn.Unflatten(1, (8, 8)),
            nn.TransformerEncoderLayer(8, 2, 32, batch_first=True),
            nn.Flatten(),
            nn.Linear(64, 10),
        ),
        "healthy",
    ),
    "dead by their biases": (lambda seed: biased(nn.ReLU, -10.0, seed), "dead-relus"),
    "dead channels": (lambda seed: Convolutional(-50.0), "dead-relus"),
    "sigmoids at their ceiling": (lambda seed: biased(nn.Sigmoid, 10.0, seed), "saturated-units"),
    "tanh at its walls": (lambda seed: drawn(nn.Tanh, 3.0, seed), "saturated-units"),
    "tiny sigmoids": (lambda seed: drawn(nn.Sigmoid, 0.01, seed), "tiny-initialisation"),
    "tiny relus": (lambda seed: drawn(nn.ReLU, 1e-3, seed), "tiny-initialisation"),
    "tiny tanh": (lambda seed: drawn(nn.Tanh, 1e-5, seed), "tiny-initialisation"),
    "deep sigmoids": (lambda seed: perceptron(nn.Sigmoid, 8, seed), "vanishing-gradients"),
    "rnn over pixels": (lambda seed: Recurrent("RNN"), "vanishing-through-time"),
    "unrolled cell": (lambda seed: Unrolled(), "vanishing-through-time"),
    "detached": (lambda seed: Detached("detach"), "frozen-layer"),
    "under no_grad": (lambda seed: Detached("no_grad"), "frozen-layer"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(2))
def test_any_module_gets_the_right_name(batch, name, seed):
    make, verdict = MODELS[name]
    torch.manual_seed(seed)
    found = rnnvg.diagnose(make(seed), batch, loss)
    assert found.verdict == verdict, str(found)
    assert found.healthy == (verdict == "healthy")


def test_a_healthy_network_stays_so_with_its_last_gains_at_zero_and_a_readout_of_zeros(images, batch):
    from rnnvg.depth.networks import build

    options = {"depth": 20, "activation": "relu", "init": "he", "norm": "batch", "residual": "block"}
    assert rnnvg.diagnose(build(64, 10, zero_last=True, **options), batch, loss).healthy
    model = perceptron(nn.ReLU, 3)
    nn.init.zeros_(model[-1].weight)
    assert rnnvg.diagnose(model, batch, loss).healthy


def test_weights_that_stay_at_zero_or_fall_towards_it(batch):
    model = perceptron(nn.Tanh, 3)
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[4].weight)
    assert rnnvg.diagnose(model, batch, loss).verdict == "collapsed-weights"
    model = perceptron(nn.ReLU, 2)
    falling = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=5.0)
    found = rnnvg.diagnose(model, batch, loss, optimizer=falling)
    assert found.verdict == "collapsed-weights"
    assert found.layers[0].gain_after < 0.5 * found.layers[0].gain


def test_what_the_optimiser_leaves_out_is_frozen(batch):
    model = perceptron(nn.ReLU, 2)
    part = torch.optim.Adam([*model[2].parameters(), *model[4].parameters()])
    found = rnnvg.diagnose(model, batch, loss, optimizer=part)
    assert found.verdict == "frozen-layer"
    assert found.findings[0].evidence == "The weights of 0 cannot move: the optimiser does not hold them."
    assert found.layers[0].update_ratio == 0
    assert found.layers[1].update_ratio > 0
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    found = rnnvg.diagnose(model, batch, loss, optimizer=still)
    assert (
        found.findings[0].evidence == "The weights of 0, 2, 4 cannot move: the optimiser's learning rate for them is 0."
    )


def test_a_loss_that_is_not_finite_is_a_verdict(batch):
    found = rnnvg.diagnose(perceptron(nn.ReLU, 2), batch, lambda m, b: loss(m, b) / 0)
    assert found.verdict == "non-finite-loss"
    assert found.findings[0].evidence == (
        "The loss is inf on this batch, with weights that are finite. Every layer gives out finite numbers, so it is the "
        "loss itself that does not."
    )


def test_update_ratios_are_those_of_gradient_descent(batch):
    model = perceptron(nn.Tanh, 2)
    found = rnnvg.diagnose(model, batch, loss, lr=0.1, updates=1)
    loss(model, batch).backward()
    for layer, module in zip(found.layers, model[::2], strict=True):
        expected = 0.1 * module.weight.grad.norm() / module.weight.norm()
        assert layer.update_ratio == pytest.approx(float(expected.detach()), rel=1e-3)
        assert layer.log10_gradient == pytest.approx(math.log10(float(module.weight.grad.norm())), abs=1e-5)
    assert found.loss[1] < found.loss[0]


def test_adjoints_are_gradients_at_the_layers_outputs(batch):
    model = perceptron(nn.ReLU, 2)
    found = rnnvg.diagnose(model, batch, loss)
    one = model[0](batch[0])
    one.retain_grad()
    F.cross_entropy(model[1:](one), batch[1]).backward()
    assert found.layers[0].log10_adjoint == pytest.approx(math.log10(float(one.grad.norm())), abs=1e-5)


def test_what_happens_in_place_afterwards_does_not_change_an_adjoint(batch):
    found = [rnnvg.diagnose(perceptron(partial(nn.ReLU, inplace=each), 2), batch, loss) for each in (False, True)]
    assert found[0].to_frame().equals(found[1].to_frame())


def test_dead_and_saturated_shares_are_counted(batch):
    model = perceptron(nn.ReLU, 2)
    nn.init.constant_(model[2].bias[:48], -100.0)
    found = rnnvg.diagnose(model, batch, loss)
    alive = torch.relu(model[2](torch.relu(model[0](batch[0])))).ne(0).any(0)
    assert found.layers[1].dead == pytest.approx(1 - float(alive.double().mean()))
    assert found.verdict == "dead-relus"
    assert math.isnan(found.layers[1].saturated)
    model = perceptron(nn.Sigmoid, 1)
    model[0].weight.data *= 5
    found = rnnvg.diagnose(model, batch, loss)
    s = torch.sigmoid(model[0](batch[0]))
    assert found.layers[0].saturated == pytest.approx(float((4 * s * (1 - s) < 0.05).double().mean()))


def test_gradients_beyond_float32_are_found(batch):
    tiny = nn.Sequential(*[drawn(nn.Sigmoid, 1e-5, seed)[:-1] for seed in range(3)], drawn(nn.Sigmoid, 1e-5, 4)[-1])
    found = rnnvg.diagnose(tiny, batch, loss)
    # Sigmoids at 0.5: every one of the 12 steps down leaves 0.25 x 1e-5 x sqrt(64).
    assert found.layers[0].log10_adjoint == pytest.approx(
        found.layers[-1].log10_adjoint + 12 * math.log10(2e-5), abs=1.5
    )
    assert found.layers[0].log10_adjoint < -50
    assert found.verdict == "tiny-initialisation"


class Remembering(nn.Module):
    """Everything that must not move: buffers, random numbers, a mode, gradients, hooks."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))

    def forward(self, x):
        return self.body(x + 0.01 * torch.randn_like(x))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was_bit_for_bit(batch, training):
    model = Remembering().train(training)
    model.body[1].eval()
    optimizer = torch.optim.Adam(model.parameters())
    loss(model, batch).backward()
    optimizer.step()
    weights = {name: (value, value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    grads = [(each.grad, each.grad.clone()) for each in model.parameters()]
    state = copy.deepcopy(optimizer.state_dict())
    modes = [each.training for each in model.modules()]
    given = [each.clone() for each in batch]
    random = torch.get_rng_state()
    rnnvg.diagnose(model, batch, loss, optimizer=optimizer)
    assert torch.equal(random, torch.get_rng_state())
    for name, value in model.state_dict(keep_vars=True).items():
        assert value is weights[name][0]
        assert torch.equal(value, weights[name][1])
    for each, (grad, was) in zip(model.parameters(), grads, strict=True):
        assert each.grad is grad
        assert torch.equal(grad, was)
    after = optimizer.state_dict()
    for key, values in state["state"].items():
        assert all(
            torch.equal(torch.as_tensor(values[name]), torch.as_tensor(after["state"][key][name])) for name in values
        )
    assert [each.training for each in model.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(batch, given, strict=True))
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_the_same_model_gets_the_same_diagnosis(batch):
    model = Remembering()
    one, other = rnnvg.diagnose(model, batch, loss), rnnvg.diagnose(model, batch, loss)
    assert one.to_frame().equals(other.to_frame())
    assert one.loss == other.loss


def test_observing_takes_its_hooks_away_even_when_the_model_fails():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with pytest.raises(RuntimeError):
        observe(model, lambda: model(torch.ones(1, 4)).sum())
    assert not model[0]._forward_hooks


def test_results_read_well(batch):
    sick = rnnvg.diagnose(biased(nn.ReLU, -10.0, 0), batch, loss)
    assert str(sick).startswith("dead-relus: 100% of the ReLUs after 0 are 0 for every item of the batch")
    frame = sick.to_frame()
    assert frame["name"].tolist() == ["0", "2", "4", "6", "8"]
    assert frame["dead"].iloc[0] == 1
    axes = sick.plot()
    assert axes.get_title() == "dead-relus"
    assert sum(line.get_label() == "_at fault" for line in axes.lines) == len(set(sick.findings[0].layers))
    well = rnnvg.diagnose(perceptron(nn.ReLU, 2), batch, loss)
    assert str(well).startswith("healthy: 3 layers, the first gets 0.")


def test_notes_say_what_could_not_be_judged(batch):
    small = batch[0][:4], batch[1][:4]
    found = rnnvg.diagnose(biased(nn.ReLU, -10.0, 0), small, loss)
    assert found.notes[0] == "Dead and saturated units need at least 8 items; the batch has 4."
    assert "dead-relus" not in [each.name for each in found.findings]
    gated = rnnvg.diagnose(Recurrent("LSTM"), batch, loss)
    assert gated.notes[0].startswith("The first of 64 steps of core get 10^-")
    idle = perceptron(nn.ReLU, 1)
    idle.spare = nn.Linear(3, 3)
    found = rnnvg.diagnose(idle, batch, lambda m, b: F.cross_entropy(m[2](m[1](m[0](b[0]))), b[1]))
    assert found.notes == ("Never called: spare.",)


def test_a_model_without_matrices_is_not_an_error():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.factor * x

    found = rnnvg.diagnose(Scale(), torch.ones(8, 2), lambda m, x: m(x).square().mean())
    assert found.notes == ("No module owns a weight matrix, so no layer could be judged.",)


def one(model, batch):
    return model(batch).mean()


LINEAR = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("model", "batch", "compute", "message"),
    [
        (nn.ReLU(), torch.ones(8, 3), one, "`model` is a ReLU without parameters; pass one that can learn."),
        ("net", torch.ones(8, 3), one, "`model` is a str; pass an nn.Module."),
        (
            LINEAR,
            torch.ones(8, 3),
            lambda m, b: m(b),
            "What `loss` returns has shape [8, 2]; return a scalar tensor, for example its mean.",
        ),
        (
            LINEAR,
            torch.ones(8, 3),
            lambda m, b: float(m(b).detach().mean()),
            "What `loss` returns is a float; return a scalar tensor, for example its mean.",
        ),
        (
            LINEAR,
            torch.ones(8, 3),
            lambda m, b: b.mean(),
            "`loss` does not depend on the model's parameters; compute it from the model that it is handed (a copy), outside "
            "no_grad, with at least one parameter that requires a gradient.",
        ),
        (
            LINEAR,
            torch.ones(8, 3),
            lambda m, b: LINEAR(b).mean(),
            "`loss` does not depend on the model's parameters; compute it from the model that it is handed (a copy), outside "
            "no_grad, with at least one parameter that requires a gradient.",
        ),
        (LINEAR, torch.ones(0, 3), one, "`batch` is empty; pass at least one item."),
        (LINEAR, (), one, "`batch` is empty; pass at least one item."),
        (LINEAR, {"x": torch.ones(0, 3)}, one, "`batch` is empty; pass at least one item."),
        (LINEAR, torch.ones(8, 3), None, "`loss` is a NoneType; pass a function loss(model, batch) -> scalar tensor."),
    ],
)
def test_bad_input(model, batch, compute, message):
    with pytest.raises(InputError) as caught:
        rnnvg.diagnose(model, batch, compute)
    assert str(caught.value) == message


def test_weights_that_are_not_finite_and_models_that_cannot_be_copied(batch):
    model = perceptron(nn.ReLU, 1)
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    found = rnnvg.diagnose(model, batch, loss)
    assert found.verdict == "non-finite-weights"
    assert found.findings[0].evidence == "1 of 640 values of 2.weight are not finite, the first is nan at [0, 0]."
    model = perceptron(nn.ReLU, 1)
    model.cache = model[0](batch[0])
    with pytest.raises(InputError, match="cannot be copied"):
        rnnvg.diagnose(model, batch, loss)
    with pytest.raises(InputError, match="`updates` must be a whole number of at least 1; got 0"):
        rnnvg.diagnose(perceptron(nn.ReLU, 1), batch, loss, updates=0)
