"""Training, pre-training, slopes, clipping, remedies and cells: small budgets, exact bookkeeping."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rnnvg.depth.gated import cell_frame, compare_cells
from rnnvg.depth.gradients import network_gradients
from rnnvg.depth.networks import build, slopes_along
from rnnvg.depth.remedies import REMEDIES, compare_clipping, compare_remedies, remedy_frame, treat
from rnnvg.depth.training import fit, pretrain
from rnnvg.errors import InputError
from rnnvg.tasks.images import digits
from rnnvg.training.remedy import Base


@pytest.fixture(scope="module")
def images():
    return digits()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(**options):
    return build(64, 10, **{"depth": 3, "width": 24, "activation": "relu", "init": "he", **options})


def test_the_same_seed_gives_the_same_training_and_learns(images):
    runs = [fit(network(), images, steps=120, measure_every=50, generator=seeded(1)) for _ in range(2)]
    assert runs[0].history.equals(runs[1].history)
    assert runs[0].gradients.equals(runs[1].gradients)
    assert runs[0].history["step"].tolist() == [1, 50, 100, 120]
    assert runs[0].accuracy > 0.85
    assert runs[0].steps_to(0.5) in (50, 100)
    assert runs[0].steps_to(0.999) is None
    assert runs[0].status == "ok"
    assert math.isnan(runs[0].clipped)


def test_the_first_gradients_are_those_of_a_backward_pass(images):
    net = network()
    run = fit(net, images, steps=1, lr=1e-9, generator=seeded())
    order = torch.randperm(len(images.train_y), generator=seeded())[:64]
    loss = cross_entropy(net(images.train_x[order]), images.train_y[order])
    net.zero_grad()
    loss.backward()
    expected = [math.log10(float(block.linear.weight.grad.norm())) for block in net.blocks]
    np.testing.assert_allclose(run.gradients["log10_norm"], expected, atol=1e-5)
    assert run.history["loss"].iloc[0] == pytest.approx(float(loss.detach()), rel=1e-5)


def test_every_image_comes_once_before_any_comes_again(images):
    seen = []
    net = network()
    hook = net.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]) if net.training else None)
    fit(net, images, steps=22, generator=seeded())
    hook.remove()
    first = torch.cat(seen)
    assert len(torch.unique(first, dim=0)) >= len(first) - 5  # a few of the digits are alike to the pixel


def test_divergence_is_a_status_not_a_crash(images):
    run = fit(network(gain=30.0), images, steps=50, lr=10.0, generator=seeded())
    assert run.status == "diverged"
    assert run.reason in [f"The loss is {value} at step {run.steps}." for value in ("nan", "inf")]
    assert run.steps < 50


def test_zero_steps_and_mode(images):
    net = network().eval()
    run = fit(net, images, steps=0)
    assert run.history.empty
    assert 0 < run.accuracy < 0.3
    assert not net.training


def test_adam_and_bad_input(images):
    assert fit(network(), images, steps=60, lr=0.01, optimizer="adam").accuracy > 0.7
    for options, message in (
        ({"optimizer": "adm"}, "`optimizer` has no 'adm'. Did you mean 'adam'? Pass one of: sgd, adam."),
        ({"lr": 0}, "`lr` must be a finite number above 0; got 0."),
        ({"batch": 0}, "`batch` must be a whole number of at least 1; got 0."),
        ({"clip": -1.0}, "`clip` must be a finite number above 0; got -1."),
    ):
        with pytest.raises(InputError) as caught:
            fit(network(), images, **{"steps": 1, **options})
        assert str(caught.value) == message


def test_pre_training_brings_a_sick_network_to_life_without_labels(images):
    sick = build(64, 10, depth=4, width=32)
    readout = sick.readout.weight.detach().clone()
    before = network_gradients(sick, images.train_x[:64], images.train_y[:64]).log_ratio()
    done = pretrain(sick, images, steps=60)
    after = network_gradients(sick, images.train_x[:64], images.train_y[:64]).log_ratio()
    assert before < math.log(1e-4)
    assert after > math.log(0.05)
    assert torch.equal(readout, sick.readout.weight)
    assert done.steps == 240
    assert len(done.unexplained) == 4
    assert max(done.unexplained) < 0.6


def test_slopes_along_a_network_are_those_at_its_preactivations(images):
    x = images.train_x[:32]
    net = network(activation="tanh", init="xavier", norm="batch")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    table = slopes_along(net, x)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    a = x
    for row, block in zip(table.itertuples(), net.blocks, strict=True):
        z = nn.functional.batch_norm(block.linear(a), None, None, training=True)
        a = torch.tanh(z)
        slope = (1 - a**2).detach().double()
        assert row.mean_slope == pytest.approx(float(slope.mean()), rel=1e-5)
        assert row.rms_slope == pytest.approx(float(slope.square().mean().sqrt()), rel=1e-5)
        assert row.flat == pytest.approx(float((slope < 0.01).double().mean()), abs=1e-6)
        assert row.dead == 0


def test_slopes_see_dead_units(images):
    net = network()
    nn.init.constant_(net.blocks[1].linear.bias[:6], -100.0)
    assert slopes_along(net, images.train_x[:64])["dead"].tolist()[1] >= 6 / 24


def test_clipping_shortens_the_gradient_and_changes_no_share(images):
    found = {(each.network, each.clip): each for each in compare_clipping(images, depth=6, width=32, steps=60)}
    for each in found.values():
        assert each.log10_ratio[0] == pytest.approx(each.log10_ratio[1], abs=1e-5)
    free, clipped = found["exploding", None], found["exploding", 1.0]
    assert free.log10_norm[0] == free.log10_norm[1] > 1
    assert clipped.log10_norm[1] == pytest.approx(0, abs=1e-4)
    assert clipped.status == "ok"
    vanishing = found["vanishing", 1.0]
    assert vanishing.clipped == 0
    assert vanishing.log10_norm[0] == vanishing.log10_norm[1]
    assert vanishing.accuracy < 0.3
    assert math.isnan(free.clipped)


def test_without_clipping_the_exploding_network_diverges(images):
    free = compare_clipping(images, steps=10)[2]
    assert (free.network, free.clip, free.status) == ("exploding", None, "diverged")


def test_a_remedy_changes_what_it_says_and_nothing_else():
    sick = {"activation": "sigmoid", "init": "gaussian", "norm": "none", "residual": "none", "depth": 10}
    for name, remedy in REMEDIES.items():
        changes = remedy.changes(Base(t_max=10, lr=0.02, steps=400))
        network = {key: value for key, value in changes.items() if key in sick}
        assert {key: value for key, value in network.items() if sick[key] != value} == network, name
        assert changes.keys() - network.keys() <= {"pretrained", "training.steps", "training.clip"}, name


def test_remedies_on_a_small_budget(images):
    names = ["none", "relu-he", "pre-training", "clipping"]
    told = []
    treated = compare_remedies(images, names, depth=5, width=32, steps=100, on_progress=told.append)
    assert told == names
    frame = remedy_frame(treated).set_index("remedy")
    assert frame.loc["none", "measured"] == pytest.approx(frame.loc["none", "predicted"], abs=0.3)
    assert frame.loc["none", "accuracy"] < 0.2
    assert frame.loc["relu-he", "accuracy"] > 0.8
    assert frame.loc["pre-training", "measured"] > -1.5
    assert math.isnan(frame.loc["pre-training", "predicted"])
    assert math.isnan(frame.loc["none", "steps_to_90"])
    assert (frame["seconds"] > 0).all()
    assert frame.loc["clipping", "measured"] == frame.loc["none", "measured"]


def test_ten_times_the_steps_of_the_sick_network_buy_nothing(images):
    treated = treat(images, "faster-hardware", depth=10, width=16, steps=30)
    assert treated.training.steps == 300
    assert treated.training.accuracy < 0.2


def test_cells_are_the_same_story_through_time():
    runs = compare_cells(["rnn", "gru"], length=12, hidden=16, steps=40)
    frame = cell_frame(runs).set_index("cell")
    assert frame.loc["rnn", "predicted"] == pytest.approx(-0.5 * 11 * math.log10(3))
    # A wide network near zero state: within a factor 10 at width 16 and with inputs.
    assert frame.loc["rnn", "measured"] == pytest.approx(frame.loc["rnn", "predicted"], abs=1)
    assert math.isnan(frame.loc["gru", "predicted"])
    assert frame["baseline"].iloc[0] == pytest.approx(1 / 6)
    assert runs[0].checkpoints == (10, 20, 30)
    assert len(runs[0].opening) == 3
    assert runs[1].parameters == 3 * (2 * 16 + 16 * 16 + 2 * 16) + 17


def test_unknown_names(images):
    with pytest.raises(InputError) as caught:
        treat(images, "batchnorm")
    assert str(caught.value).startswith("`remedy` has no 'batchnorm'. Did you mean 'batch-norm'? Pass one of: none, ")
    with pytest.raises(InputError, match=r"`cells` has no 'lstn'\. Did you mean 'lstm'"):
        compare_cells(["lstn"])
