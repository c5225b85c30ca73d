"""fit(): the same steps as a loop written by hand, history, checkpoints, status, and what is refused."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_text import FakeText
from torch import nn

from rnnvg import models, tasks, training
from rnnvg.errors import InputError
from rnnvg.tasks import Task
from rnnvg.training import loop

ADDING = tasks.make("adding", length=6)


def model_for(task, cell="gru", seed=0, **more):
    torch.manual_seed(seed)
    return models.build(task, cell, hidden=8, **more)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def small(task=ADDING, model=None, **more):
    """A training of a second or less."""
    settings = {"steps": 30, "batch": 10, "eval_every": 10, "eval_size": 20, "stop_when_solved": False}
    model = model_for(task) if model is None else model
    return training.fit(model, task, **{**settings, "generator": generator(), **more})


def as_a(kind, **settings):
    """The adding task as one of another class."""
    return kind(**{**vars(ADDING), "settings": settings})


BY_HAND = {
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01),
    "sgd": lambda p: torch.optim.SGD(p, 0.01),
}


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
@pytest.mark.parametrize("clip", [0.05, None])
def test_the_same_weights_as_a_loop_by_hand(optimizer, clip):
    model, other = model_for(ADDING), model_for(ADDING)
    result = small(model=model, optimizer=optimizer, clip=clip, lr=0.01)
    draw, steps, losses = generator(), BY_HAND[optimizer](other.parameters()), []
    for _ in range(30):
        batch = ADDING.batch(10, draw)
        loss = ADDING.loss(other(batch.inputs)[0], batch)
        steps.zero_grad()
        loss.backward()
        if clip:
            norm = torch.sqrt(sum(p.grad.square().sum() for p in other.parameters()))
            for p in other.parameters():
                p.grad.mul_(min(1.0, clip / (norm + 1e-6)))  # PyTorch's guard against 0
        steps.step()
        losses.append(loss.item())
    torch.testing.assert_close(weights(model), weights(other), atol=1e-5, rtol=1e-4)
    kept = result.history.query("split == 'train'")
    assert kept.step.tolist() == [20, 30]
    np.testing.assert_allclose(kept.value, [np.mean(losses[:20]), np.mean(losses[20:])], rtol=1e-5)


def test_a_text_is_read_on_with_its_state_carried_and_cut():
    task = FakeText(words=120)
    model, other = model_for(task), model_for(task)
    small(task, model, batch=4, bptt=6, lr=0.01, clip=None)
    adam, done = torch.optim.Adam(other.parameters(), 0.01), 0
    while done < 30:
        state = torch.zeros(1, 4, 8)
        for batch in task.stream(4, 6, "train"):
            if done == 30:
                break
            outputs, state = other(batch.inputs, state)
            adam.zero_grad()
            task.loss(outputs, batch).backward()
            adam.step()
            state, done = state.detach(), done + 1
    torch.testing.assert_close(weights(model), weights(other), atol=1e-6, rtol=1e-5)


def test_a_text_ends_with_its_whole_test_split():
    task = FakeText()
    model = model_for(task)
    result = small(task, model, steps=20, batch=4)
    assert task.scored == [("valid", 200)] * 3 + [("test", None)]
    assert result.score == task.score(model, None, 0, "test", None)
    assert result.history.query("split == 'test'").value.tolist() == list(result.score.values())


def test_the_real_text_task_is_trained_and_scored_alike():
    task = tasks.make("next-word", text="agreement", n_words=2000, distance=3, bptt=10)
    model = model_for(task, "lstm", tied=True)
    result = small(task, model, steps=40, batch=8, lr=0.05)
    assert result.score == task.score(model, split="test", max_words=None)
    valid = result.history.query("split == 'valid' and metric == 'perplexity'").value
    assert valid.iloc[-1] < 0.5 * valid.iloc[0]


@pytest.mark.parametrize("task", [ADDING, tasks.make("copy", delay=4, n_symbols=3), FakeText()], ids=lambda t: t.name)
def test_the_same_seeds_give_the_same_bits(task):
    one, two = (model_for(task, "lstm", dropout=0.3, layers=2) for _ in range(2))
    torch.manual_seed(11)
    first = small(task, one)
    torch.manual_seed(11)
    second = small(task, two)
    assert torch.equal(weights(one), weights(two))
    assert first.history.equals(second.history)
    assert first.score == second.score
    torch.manual_seed(12)
    three = model_for(task, "lstm", dropout=0.3, layers=2)
    assert not small(task, three, generator=generator(1)).history.equals(first.history)


def test_looking_more_often_does_not_change_how_it_learns():
    one, two = (model_for(ADDING, dropout=0.3) for _ in range(2))

    def look(step, model):
        model.eval()
        torch.rand(5)
        model(torch.rand(3, 1, 2))[0].sum().backward()

    torch.manual_seed(1)
    rare = small(model=one, eval_every=30, eval_size=1)
    torch.manual_seed(1)
    often = small(model=two, eval_every=3, eval_size=50, checkpoints=range(31), on_checkpoint=look)
    assert torch.equal(weights(one), weights(two))
    rows = [each.history.query("split == 'train'").reset_index(drop=True) for each in (rare, often)]
    assert rows[0].equals(rows[1])


def test_held_out_data_are_fixed_and_other_than_the_training_data():
    seen = []

    class Spy(Task):
        def score(self, model, generator, n):
            seen.append(self.batch(n, generator).inputs)
            return {"loss": 1.0, "mse": 1.0}

    small(as_a(Spy), steps=20)
    first, second, third, test = seen
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert not torch.equal(first, test)
    train = ADDING.batch(20, generator()).inputs
    assert not torch.equal(first, train)
    assert not torch.equal(test, train)


def test_history_is_tidy_and_in_order():
    history = small().history
    assert list(history.columns) == ["step", "split", "metric", "value"]
    assert history.step.is_monotonic_increasing
    assert history.step.dtype == np.int64
    valid = history.query("split == 'valid' and metric == 'mse'")
    assert valid.step.tolist() == [0, 10, 20, 30]
    assert history.query("split == 'test'").step.unique().tolist() == [30]
    assert not history.duplicated(["step", "split", "metric"]).any()


def test_stops_at_the_first_score_that_is_solved():
    class Easy(Task):
        def score(self, model, generator, n):
            return {"loss": 1.0 if len(calls) < 2 else 0.0, "mse": calls.append(1) or float(len(calls) < 3)}

    calls = []
    result = small(as_a(Easy), stop_when_solved=True, steps=100)
    assert (result.steps, result.solved_at, result.status) == (20, 20, "ok")
    calls = []
    result = small(as_a(Easy), steps=100)
    assert (result.steps, result.solved_at) == (100, 20)


def test_checkpoints_are_handed_out_once_each_and_at_the_end():
    seen = []
    small(checkpoints=[0, 7, 20], on_checkpoint=lambda step, model: seen.append((step, weights(model))))
    assert [step for step, _ in seen] == [0, 7, 20, 30]
    assert torch.equal(seen[0][1], weights(model_for(ADDING)))
    again = []
    small(checkpoints=[30], on_checkpoint=lambda step, model: again.append(step))
    assert again == [30]


def test_a_budget_of_nothing_measures_and_scores():
    model, seen = model_for(ADDING), []
    result = small(model=model, steps=0, checkpoints=[0], on_checkpoint=lambda step, model: seen.append(step))
    assert (result.steps, result.solved_at, seen) == (0, None, [0])
    assert result.history.split.tolist() == ["valid", "valid", "test", "test"]
    assert torch.equal(weights(model), weights(model_for(ADDING)))


def test_progress_is_told_now_and_then_and_at_the_last(monkeypatch):
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    told = []
    small(steps=50, on_progress=lambda *each: told.append(each))
    assert [step for step, _, _ in told] == [20, 40, 50]
    assert {steps for _, steps, _ in told} == {50}
    assert all(math.isfinite(loss) for _, _, loss in told)


def test_the_models_mode_is_left_as_it_was():
    model = model_for(ADDING).eval()
    small(model=model)
    assert not model.training


class Sick(Task):
    """Adding whose loss, or whose gradient alone, stops being finite at one call."""

    def loss(self, outputs, batch):
        calls = self.settings["calls"]
        calls.append(outputs.requires_grad)
        if outputs.requires_grad and sum(calls) == self.settings["at"]:
            return outputs.sum() * math.nan if self.settings["what"] == "loss" else Spoil.apply(outputs.sum())
        return super().loss(outputs, batch)


class Spoil(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.inf


@pytest.mark.parametrize(
    ("what", "reason"),
    [("loss", "The loss was nan at step 13."), ("gradient", "The gradient's norm was nan at step 13.")],
)
def test_a_loss_or_gradient_that_is_not_finite_ends_the_training_as_diverged(what, reason):
    model, twin, seen = model_for(ADDING), model_for(ADDING), []
    result = small(
        as_a(Sick, at=13, what=what, calls=[]),
        model,
        checkpoints=[0, 20],
        on_checkpoint=lambda step, model: seen.append(step),
    )
    assert (result.status, result.reason, result.steps) == ("diverged", reason, 12)
    assert seen == [0, 12]
    small(model=twin, steps=12, eval_every=100)
    assert torch.equal(weights(model), weights(twin))  # the bad step was not taken
    assert result.score["mse"] > 0
    train = result.history.query("split == 'train'")
    assert train.step.tolist() == [13]
    assert math.isnan(train.value.item()) == (what == "loss")


def test_weights_that_stop_being_finite_are_noticed_at_the_end_and_not_measured():
    class Steep(Task):
        def loss(self, outputs, batch):
            return 1e6 * super().loss(outputs, batch)

    model, seen = model_for(ADDING, "rnn-relu"), []
    looks = {"checkpoints": [0], "on_checkpoint": lambda step, model: seen.append(step)}
    result = small(as_a(Steep), model, steps=1, lr=1e38, optimizer="sgd", clip=None, **looks)
    assert (result.status, result.reason, result.steps) == ("diverged", "A weight was not finite after step 1.", 1)
    assert seen == [0]
    assert not math.isfinite(result.score["mse"])


def test_an_exploding_network_is_a_status_and_not_an_exception():
    result = small(model=model_for(ADDING, "rnn-relu"), optimizer="sgd", lr=1e6, clip=None)
    assert result.status == "diverged"
    assert "at step" in result.reason


def test_decay_shrinks_the_rate_after_each_held_out_loss_that_is_not_the_lowest():
    losses = iter([3.0, 2.0, 2.0, 1.0, math.nan, 1.5, 0.5])

    class Told(Task):
        def score(self, model, generator, n):
            return {"loss": (value := next(losses)), "mse": value}

    rates, step = [], torch.optim.SGD.step

    def spy(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", spy)
        small(as_a(Told), steps=5, eval_every=1, optimizer="sgd", lr=1.0, decay=0.5)
    # 3.0, 2.0 lowest; 2.0 not; 1.0 lowest; nan not; 1.5 comes after the last step.
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_decay_every_so_many_steps_whatever_the_held_out_loss(tmp_path):
    rates, step = [], torch.optim.SGD.step

    def spy(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    settings = {"eval_every": 1, "optimizer": "sgd", "lr": 0.8, "decay": 0.5, "decay_every": 3, "steps": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", spy)
        whole = small(**settings)
        assert rates == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2]
        rates.clear()

        def stop(step, steps, loss):
            if step >= 4:
                raise KeyboardInterrupt

        file = tmp_path / "resume"
        patch.setattr(loop, "TELL_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            small(**settings, resume=file, on_progress=stop)
        again = small(**settings, resume=file)
        assert rates == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2]
    assert again.score == whole.score


def test_seconds_leave_on_checkpoint_out(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now

    def pass_time(seconds):
        clock.now += seconds

    monkeypatch.setattr(loop, "time", clock)
    result = small(
        steps=40,
        checkpoints=[0, 1],
        on_checkpoint=lambda step, model: pass_time(1000),
        on_progress=lambda step, steps, loss: pass_time(1),
    )
    assert result.seconds == 40  # a second a step is slow enough to be told of each


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "`steps` must be a whole number of at least 0; got -1."),
        ({"batch": 0}, "`batch` must be a whole number of at least 1; got 0."),
        ({"lr": 0.0}, "`lr` must be a finite number above 0; got 0."),
        ({"lr": math.nan}, "`lr` must be a finite number above 0; got nan."),
        ({"clip": -1.0}, "`clip` must be a finite number above 0; got -1."),
        ({"eval_every": 0}, "`eval_every` must be a whole number of at least 1; got 0."),
        ({"eval_size": 0}, "`eval_size` must be a whole number of at least 1; got 0."),
        ({"decay": 1.0}, "`decay` must be a number strictly between 0 and 1; got 1."),
        ({"decay": 0.5, "decay_every": 0}, "`decay_every` must be a whole number of at least 1; got 0."),
        (
            {"decay_every": 5},
            "`decay_every` says when `decay` comes, and `decay` is None. Pass decay=0.5, for example.",
        ),
        ({"resume_every": 0}, "`resume_every` must be a finite number above 0; got 0."),
        ({"checkpoints": [0, 31]}, "`checkpoints` must be a whole number from 0 to 30; got 31."),
        (
            {"optimizer": "adamw"},
            "`optimizer` has no 'adamw'. Did you mean 'adam'? Pass one of: adam, rmsprop, sgd.",
        ),
        ({"bptt": 5}, "`bptt` cuts a text into windows; task 'adding' is not a text. Pass bptt=None."),
        (
            {"resume": "/no/such/folder/file"},
            "`resume` /no/such/folder/file is in a folder that does not exist. Make it, or pass another path.",
        ),
        (
            {"generator": 3},
            "`generator` must be a torch.Generator on the CPU; got 3. Pass torch.Generator().manual_seed(0).",
        ),
        (
            {"task": tasks.make("copy", n_symbols=3)},
            "`model` takes numbers, 2 in and 1 out; task 'copy' has tokens, 5 in and 4 out. "
            "Pass the task that it was made for, or build another model.",
        ),
    ],
)
def test_misuse_is_one_sentence(arguments, message):
    with pytest.raises(InputError) as raised:
        small(**{"task": ADDING, "model": model_for(ADDING), **arguments})
    assert str(raised.value) == message


def test_a_text_that_is_too_short_is_one_sentence():
    with pytest.raises(InputError) as raised:
        small(FakeText(words=30), batch=10, bptt=5)
    assert str(raised.value) == (
        "The training text is too short for one window of 5 steps in each of 10 sequences. "
        "Pass a smaller batch or bptt, or a longer text."
    )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_is_trained_where_it_is():
    model = model_for(ADDING).to("cuda")
    assert small(model=model).status == "ok"
    assert all(isinstance(p, nn.Parameter) and p.is_cuda for p in model.parameters())
