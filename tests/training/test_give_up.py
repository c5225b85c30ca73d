"""The stopping rule: what it sees, where it ends a training, where it does not hold, and that it changes nothing else."""

import importlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnvg import models, tasks, training
from rnnvg.errors import InputError
from rnnvg.training import give_up

ROOT = Path(__file__).parents[2]
ADDING = tasks.make("adding", length=30)
FAMILIES = {
    "adding": ADDING,
    "copy": tasks.make("copy", delay=6),
    "delayed-recall": tasks.make("delayed-recall", delay=8),
    "temporal-order": tasks.make("temporal-order", length=20),
}


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    names = ("early_signs", "early_signs_analysis", "early_signs_option")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


def trained(task=ADDING, cell="gru", steps=40, asked=True, **more):
    torch.manual_seed(3)
    model = models.build(task, cell, hidden=6)
    settings = {"steps": steps, "batch": 8, "eval_every": 7, "eval_size": 20, "stop_when_solved": False, **more}
    return model, training.fit(model, task, generator=torch.Generator().manual_seed(4), give_up=asked, **settings)


def always(monkeypatch):
    monkeypatch.setattr(give_up, "THRESHOLD", 1e9)


def never(monkeypatch):
    monkeypatch.setattr(give_up, "THRESHOLD", -1e9)


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


# The numbers of the rule --------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_study(scripts):
    found = scripts["early_signs_option"].option(pd.read_csv(ROOT / "results/early-signs/signs.csv"))
    kept = json.loads((ROOT / "results/early-signs/give_up.json").read_text())
    assert found == pytest.approx(kept)
    here = (give_up.INTERCEPT, give_up.BY_LOSS, give_up.BY_REACH)
    assert here == pytest.approx([found[name] for name in ("intercept", "by_loss", "by_reach")], abs=6e-6)
    assert found["threshold"] - 2e-4 < give_up.THRESHOLD < found["threshold"]
    assert found["solved_kept"] >= 0.95 * found["solved"]


def test_the_rule_stops_the_runs_that_the_study_would_have_stopped(scripts):
    """Rounded and in plain units it says the same of each of the study's runs."""
    looks = pd.read_csv(ROOT / "results/early-signs/signs.csv")
    here = scripts["early_signs_analysis"].open_at(looks, 0.1)
    score = give_up.score(*(here[name].to_numpy() for name in ("loss", "horizon_state", "distance")))
    kept = json.loads((ROOT / "results/early-signs/give_up.json").read_text())
    assert (score < give_up.THRESHOLD).sum() == kept["stopped"]
    lost = (score < give_up.THRESHOLD) & here["solved"].to_numpy(bool)
    assert kept["solved"] - lost.sum() == kept["solved_kept"]


@given(st.floats(1e-3, 20), st.integers(0, 3000), st.integers(1, 3000))
def test_a_run_is_kept_from_the_horizon_on_that_is_said(loss, horizon, distance):
    score = give_up.score(loss, horizon, distance)
    if abs(score - give_up.THRESHOLD) > 1e-9:
        assert (score >= give_up.THRESHOLD) == (horizon >= give_up.horizon_needed(loss, distance))


def test_a_larger_horizon_and_a_smaller_loss_speak_for_a_run():
    assert give_up.score(0.9, 5, 50) > give_up.score(1.0, 5, 50)
    assert give_up.score(0.9, 6, 50) > give_up.score(0.9, 5, 50)
    assert give_up.score(0.9, 5, 50) > give_up.score(0.9, 5, 100)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "leaky"])
def test_the_look_sees_what_the_study_saw(name, cell, scripts):
    task = FAMILIES[name]
    torch.manual_seed(1)
    model = models.build(task, cell, hidden=5)
    verdict = give_up.look(model, task, 4, 40, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    batch, many = task.batch(32, generator), task.batch(256, generator)
    signs = scripts["early_signs"].signs(model, task, batch, many) if cell != "leaky" else None
    if signs is not None:
        assert verdict.horizon == signs["horizon_state"]
        assert verdict.loss == pytest.approx(signs["loss"], rel=1e-6)
    assert verdict.distance == scripts["early_signs"].own_distance(task)
    assert verdict.applied
    assert verdict.score == give_up.score(verdict.loss, verdict.horizon, verdict.distance)
    assert verdict.given_up == (verdict.score < give_up.THRESHOLD)
    assert (verdict.step, verdict.share) == (4, 0.1)


def test_the_families_are_the_tasks_of_the_study(scripts):
    assert {settings["name"] for settings in scripts["early_signs"].TASKS.values()} == {*give_up.FAMILIES}


# In a training ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "due"), [(40, 4), (60, 6), (9, 1), (2, 1), (5, 1), (1500, 150)])
def test_it_looks_at_a_tenth_of_the_budget(steps, due):
    assert give_up.due(steps) == due


@pytest.mark.parametrize("checkpoints", [(), (0, 5), (0, 4, 40)])
def test_a_hopeless_training_ends_at_exactly_that_step(checkpoints, monkeypatch):
    always(monkeypatch)
    looks = []
    _, result = trained(checkpoints=checkpoints, on_checkpoint=lambda step, _: looks.append(step))
    assert (result.status, result.steps, result.solved_at) == ("given-up", 4, None)
    assert looks == [step for step in checkpoints if step < 4] + [4]
    assert result.verdict["given_up"]
    assert result.reason == result.verdict["because"]
    assert result.reason.startswith("At step 4 of 40 the horizon is ")
    assert math.isfinite(result.score["mse"])
    assert result.history["step"].max() == 4


def test_the_weights_there_are_those_of_a_training_that_was_so_far(monkeypatch):
    always(monkeypatch)
    given_up, _ = trained()
    short, _ = trained(steps=4, asked=False)
    assert torch.equal(weights(given_up), weights(short))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_that_is_kept_is_the_same_in_every_bit(name, monkeypatch):
    never(monkeypatch)
    plain, kept = (trained(FAMILIES[name], "lstm", asked=asked) for asked in (False, True))
    assert torch.equal(weights(plain[0]), weights(kept[0]))
    assert plain[1].history.equals(kept[1].history)
    assert (plain[1].score, plain[1].status) == (kept[1].score, kept[1].status) == (plain[1].score, "ok")
    assert plain[1].verdict is None
    assert kept[1].verdict["applied"]
    assert not kept[1].verdict["given_up"]


def test_dropout_is_drawn_as_without_it(monkeypatch):
    never(monkeypatch)
    found = []
    for asked in (False, True):
        torch.manual_seed(5)
        model = models.build(ADDING, "lstm", hidden=5, layers=2, dropout=0.3)
        training.fit(model, ADDING, steps=20, batch=4, generator=torch.Generator().manual_seed(1), give_up=asked)
        found.append(weights(model))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("task", "cell", "settings", "because"),
    [
        (ADDING, "attention", {}, "the rule looks at the horizon of a state, and this network has none"),
        (ADDING, "tcn", {}, "the rule looks at the horizon of a state, and this network has none"),
        (
            tasks.make("next-word", text="agreement", n_words=500, distance=3, bptt=5),
            "gru",
            {},
            "the study of its rule has no task next-word (it has adding, copy, delayed-recall, temporal-order)",
        ),
        (
            tasks.make("parity", length=6),
            "gru",
            {},
            "the study of its rule has no task parity (it has adding, copy, delayed-recall, temporal-order)",
        ),
        (ADDING, "gru", {"steps": 1}, "a budget of 1 has no tenth to look at"),
    ],
)
def test_where_it_does_not_hold_the_training_goes_on_and_says_why(task, cell, settings, because, monkeypatch):
    always(monkeypatch)
    steps = settings.get("steps", 12)
    _, result = trained(task, cell, steps=steps)
    assert (result.status, result.steps) == ("ok", steps)
    assert result.verdict == give_up.not_applied(because).to_dict()


def test_what_is_solved_is_not_given_up(monkeypatch):
    always(monkeypatch)
    monkeypatch.setattr(type(ADDING), "solved", lambda self, score: True)
    _, result = trained(steps=80, eval_every=3)
    assert (result.status, result.steps, result.solved_at) == ("ok", 80, 0)
    assert result.verdict["because"] == "the task was solved by step 0"


def test_a_dead_gradient_is_no_horizon_of_zero(monkeypatch):
    always(monkeypatch)
    model = models.build(ADDING, "rnn-relu", hidden=4)
    with torch.no_grad():
        model.core.bias_ih_l0.fill_(-1e6)
    found = give_up.look(model, ADDING, 4, 40, torch.Generator().manual_seed(0))
    assert (found.applied, found.given_up) == (False, False)
    assert found.because.startswith("at step 4 there is no horizon: ")


def test_a_loss_that_is_not_finite_is_not_judged(monkeypatch):
    always(monkeypatch)
    monkeypatch.setattr(type(ADDING), "loss", lambda self, outputs, batch: outputs.sum() * math.inf)
    model = models.build(ADDING, "gru", hidden=4)
    found = give_up.look(model, ADDING, 4, 40, torch.Generator().manual_seed(0))
    assert not found.given_up
    assert found.because.startswith("at step 4 the loss is ")


# Interrupted and taken up -------------------------------------------------------------------------------------------------


def interrupted(path, at, asked=True, **more):
    def on_progress(step, *_):
        if step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(steps=210, asked=asked, resume=path, on_progress=on_progress, **more)


@pytest.mark.parametrize("threshold", [1e9, -1e9])
@pytest.mark.parametrize("at", [20, 40])
def test_taken_up_it_comes_to_the_same(at, threshold, tmp_path, monkeypatch):
    monkeypatch.setattr(give_up, "THRESHOLD", threshold)
    whole = trained(steps=210)
    if whole[1].steps > at:
        interrupted(tmp_path / "resume", at)
        again = trained(steps=210, resume=tmp_path / "resume")
        assert torch.equal(weights(whole[0]), weights(again[0]))
        assert whole[1].history.equals(again[1].history)
        assert whole[1].verdict == again[1].verdict
        assert (whole[1].status, whole[1].steps) == (again[1].status, again[1].steps)


def test_interrupted_in_the_middle_of_the_look(tmp_path, monkeypatch):
    always(monkeypatch)
    whole = trained(steps=210)
    with monkeypatch.context() as patch:

        def stopped(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(give_up, "gradient_profiles", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(steps=210, resume=tmp_path / "resume")
    again = trained(steps=210, resume=tmp_path / "resume")
    assert torch.equal(weights(whole[0]), weights(again[0]))
    assert whole[1].verdict == again[1].verdict
    assert (again[1].status, again[1].steps) == ("given-up", 21)


def test_asked_for_after_its_step_it_is_not_applied(tmp_path, monkeypatch):
    always(monkeypatch)
    interrupted(tmp_path / "resume", 40, asked=False)
    _, result = trained(steps=210, resume=tmp_path / "resume")
    assert (result.status, result.steps) == ("ok", 210)
    assert result.verdict["because"] == "the training was past step 21 when it was asked for"


def test_no_longer_asked_for_a_kept_training_goes_on(tmp_path, monkeypatch):
    never(monkeypatch)
    interrupted(tmp_path / "resume", 40)
    model, result = trained(steps=210, asked=False, resume=tmp_path / "resume")
    plain, _ = trained(steps=210, asked=False)
    assert torch.equal(weights(model), weights(plain))
    assert result.verdict is None


def test_the_resume_file_of_a_training_that_was_given_up_is_no_start_for_a_whole_one(tmp_path, monkeypatch):
    always(monkeypatch)
    path = tmp_path / "resume"
    kind = type(ADDING)
    with monkeypatch.context() as patch:

        def stopped(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(kind, "final_score", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(steps=210, resume=path)
    with pytest.raises(InputError) as caught:
        trained(steps=210, asked=False, resume=path)
    assert str(caught.value) == (
        f"`resume` {path} belongs to a training that was given up. Pass give_up=True, another path, or delete the file to "
        "start again."
    )
    assert trained(steps=210, resume=path)[1].status == "given-up"


def test_arrays_and_numbers_score_alike():
    loss, horizon, distance = np.array([0.5, 1.0]), np.array([3, 9]), np.array([20, 40])
    every = give_up.score(loss, horizon, distance)
    assert every.tolist() == [give_up.score(0.5, 3, 20), give_up.score(1.0, 9, 40)]
