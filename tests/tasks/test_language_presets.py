"""The presets of published language models: what they stand for, and that their recipe trains and is taken up again."""

import tomllib

import pytest
import torch

from rnnvg import models, tasks, training
from rnnvg.bench import grid
from rnnvg.text.manifest import data_file

PRESETS = {"small-lstm": (20, 0.0, 0.5), "word-language-model": (35, 0.2, 0.25)}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_published_recipe(name):
    bptt, dropout, decay = PRESETS[name]
    # The text itself is anyone's; one that is read at once.
    data = tomllib.loads(grid.find(name).read_text(encoding="utf-8"))
    specs = grid.from_dict(data | {"task": data["task"] | {"text": str(data_file("agreement.txt"))}}, name).runs()
    assert [spec.cell for spec in specs[:3]] == ["lstm", "gru", "rnn"]
    assert len(specs) == 9
    first = specs[0]
    assert (first.hidden, first.layers, first.embed, first.dropout) == (200, 2, 200, dropout)
    recipe = first.training
    assert (recipe.optimizer, recipe.lr, recipe.clip, recipe.decay, recipe.batch) == ("sgd", 20.0, 0.25, decay, 20)
    assert first.task["bptt"] == bptt
    assert recipe.steps % recipe.eval_every == 0


class Killed(Exception):
    pass


def test_sgd_with_decay_and_dropout_goes_on_after_a_kill_to_the_same_numbers(tmp_path):
    task = tasks.make("next-word", text=data_file("agreement.txt"), bptt=7)
    recipe = {"steps": 40, "batch": 8, "lr": 20.0, "clip": 0.25, "optimizer": "sgd", "decay": 0.25, "eval_every": 10}

    def train(resume=None, kill_at=None):
        def progress(step, steps, loss):
            if step == kill_at:
                raise Killed

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = models.build(task, "lstm", hidden=16, layers=2, tied=True, dropout=0.3)
            result = training.fit(
                model,
                task,
                **recipe,
                generator=torch.Generator().manual_seed(0),
                on_progress=progress,
                resume=resume,
                resume_every=1e-9,
            )
        return result, model

    whole, one = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "resume", kill_at=20)
    assert (tmp_path / "resume").exists()
    again, two = train(tmp_path / "resume")
    assert again.score == whole.score
    assert again.history.equals(whole.history)
    for (name, a), (_, b) in zip(one.state_dict().items(), two.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
