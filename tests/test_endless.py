"""An iterator that never ends, given to each argument that is read whole: one sentence. One that ends is like its list."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import rnnvg
from rnnvg import InputError, bench, depth, errors, functional, models, report, tasks, text, training
from rnnvg.advise import advise
from rnnvg.bench.published import verdicts
from rnnvg.depth import clip_threshold
from rnnvg.functional.quadrants import count_quadrants
from rnnvg.text import torch_text, vocabulary
from rnnvg.text.statistics import mutual_information
from rnnvg.text.vocabulary import Vocabulary

LSTM, INPUTS = nn.LSTM(3, 4), torch.zeros(6, 2, 3)
SUM, SUM_STEP, START = (lambda x, h: x.cumsum(0)), (lambda x, h: x + h), torch.zeros(2, 3)
ONES = torch.ones(2, 1)
BOTH_WAYS = nn.LSTM(3, 4, bidirectional=True)
HORIZON = rnnvg.MemoryHorizon(0.37, 3, 4, False, -0.3, None)
RECALL = functional.RecallHorizon(8.0, False, 1.0, 0.25, 0.0)


def network(name="delayed-recall", **settings):
    task = tasks.make(name, **settings)
    return models.build(task, "rnn", hidden=4), task


def watched(sources):
    lstm = nn.LSTM(3, 4)
    with rnnvg.watch(lstm) as watcher:
        lstm(INPUTS)[0].sum().backward()
    return watcher.profile(sources=sources)


def fitted(checkpoints, name="adding"):
    model, task = network(name, length=5)
    generator = torch.Generator().manual_seed(0)
    seen = []
    training.fit(
        model, task, steps=2, batch=2, eval_size=2, generator=generator, checkpoints=checkpoints,
        on_checkpoint=lambda step, model: seen.append(step),
    )  # fmt: skip
    return seen


def asked(delays):
    model, task = network(delay=4, n_symbols=4)
    return functional.recall_curve(model, task, delays, n=4).delay.tolist()


def reading(call):
    model, _ = network("embedded-reber")
    return call(model, [0, 1, 2, 1, 0, 2])


def grid():
    return bench.read("compare").select(tasks=["adding"], cells=["rnn"], seeds=1)


def columns(frame):
    return frame.to_dict("list")


# Function and argument -> (the argument's name in the sentence, a call with it, a value of which there is an endless number,
# right values).
CALLS = {
    "gradient_profile": ("sources", lambda v: rnnvg.gradient_profile(LSTM, INPUTS, sources=v).sources.tolist(), 1, [1, 3]),
    "gradient_profile both ways": (
        "sources",
        lambda v: rnnvg.gradient_profile(BOTH_WAYS, INPUTS, sources=v, direction="forward").sources.tolist(),
        1, [1, 3],
    ),
    "check_backward": ("sources", lambda v: type(rnnvg.check_backward(SUM, SUM_STEP, INPUTS, START, sources=v)), 1, [1, 3]),
    "input_profile": ("sources", lambda v: rnnvg.input_profile(LSTM, INPUTS, sources=v).sources.tolist(), 1, [1, 3]),
    "Watcher.profile": ("sources", lambda v: watched(v).sources.tolist(), 1, [1, 3]),
    "suggest_clip": (
        "batches", lambda v: rnnvg.suggest_clip(LSTM, v, lambda m, x: m(x)[0].sum()).norms.tolist(), INPUTS, [INPUTS] * 3,
    ),
    "pool_horizons": ("horizons", lambda v: rnnvg.pool_horizons(v).n, HORIZON, [HORIZON] * 3),
    "horizon_survival": ("horizons", lambda v: str(rnnvg.horizon_survival(v)), HORIZON, [HORIZON] * 3),
    "compare_horizons first": ("first", lambda v: str(rnnvg.compare_horizons(v, [HORIZON] * 3)), HORIZON, [HORIZON] * 3),
    "compare_horizons second": ("second", lambda v: str(rnnvg.compare_horizons([HORIZON] * 3, v)), HORIZON, [HORIZON] * 3),
    "pool_recall": ("horizons", lambda v: functional.pool_recall(v).n, RECALL, [RECALL] * 3),
    "count_quadrants": ("found", count_quadrants, "latched", ["latched", "unused"]),
    "recall_curve": ("delays", asked, 3, [2, 3]),
    "fit": ("checkpoints", fitted, 1, [0, 2]),
    "context_loss": (
        "contexts",
        lambda v: reading(lambda model, ids: sorted(functional.context_loss(model, ids, v).changed["dropped"])), 1, [1, 2],
    ),
    "Influence.to_frame": (
        "words",
        lambda v: columns(reading(lambda model, ids: functional.influence(model, ids).to_frame(v)))["word"],
        "a", list("abcdef"),
    ),
    "mutual_information": ("distances", lambda v: columns(mutual_information(np.arange(99) % 3, v)), 2, [1, 2]),
    "Vocabulary": ("words", lambda v: Vocabulary(v).words, "a", ["a", "b"]),
    "Vocabulary.decode": ("ids", lambda v: Vocabulary(["a", "b"]).decode(v), 1, [1, 0]),
    "from_torchtext": ("source", lambda v: text.from_torchtext(v).vocabulary.words, "to be or", None),
    "layer_profile": ("blocks", lambda v: depth.layer_profile(v, ONES).log_norm.shape, torch.tanh, [torch.tanh] * 3),
    "layer_gradients": ("blocks", lambda v: len(depth.layer_gradients(v, ONES).log_activation), torch.tanh, [torch.tanh] * 3),
    "Grid.select tasks": ("tasks", lambda v: bench.read("compare").select(tasks=v).tasks, "adding", ["adding", "copy"]),
    "Grid.select cells": ("cells", lambda v: grid().select(cells=v).cells, "rnn", ["rnn", "gru"]),
    "Grid.select seeds": ("seeds", lambda v: grid().select(seeds=v).seeds, 1, [1, 4]),
    "compare tasks": ("tasks", lambda v: rnnvg.compare(v, "rnn", seeds=0, quiet=True), "adding", None),
    "compare cells": ("cells", lambda v: rnnvg.compare("adding", v, seeds=0, quiet=True), "rnn", None),
    "advise": ("remedies", lambda v: advise("adding", seeds=2, remedies=v), "none", None),
    "merge": ("directories", lambda v: bench.merge(v, "out"), "nowhere", None),
    "verdicts": ("places", lambda v: columns(verdicts(v))["paper"], "copy-memory", None),
    "run_all": ("specs", lambda v: bench.run_all(v, "out"), None, None),
    "report.write": ("parts", None, None, None),
}  # fmt: skip
RUN = bench.run_spec(
    {"name": "adding", "length": 5}, "rnn", hidden=2, training={"steps": 1, "batch": 2, "eval_size": 2}
)


@pytest.fixture(autouse=True)
def low_bounds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "MOST_ITEMS", 500)
    monkeypatch.setattr(clip_threshold, "MOST_BATCHES", 20)
    monkeypatch.setattr(torch_text, "MOST_LINES", 500)
    monkeypatch.setattr(vocabulary, "MOST_WORDS", 500)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [name for name in CALLS if CALLS[name][1] is not None])
@pytest.mark.parametrize("endless", [itertools.repeat, lambda value: (value for _ in itertools.count())])
def test_an_endless_iterator_is_refused_in_a_sentence(name, endless):
    argument, call, value, _ = CALLS[name]
    most = 20 if name == "suggest_clip" else 500
    with pytest.raises(InputError) as raised:
        call(endless(RUN if name == "run_all" else value))
    flagged = str(raised.value).replace("--", "")
    assert flagged == f"`{argument}` has no end after {most}; pass a list, or itertools.islice({argument}, 200)."


@pytest.mark.parametrize("name", [name for name in CALLS if CALLS[name][3] is not None])
def test_an_iterator_that_ends_is_like_its_list(name):
    _, call, _, values = CALLS[name]
    torch.manual_seed(0)
    wanted = call(values)
    torch.manual_seed(0)
    assert call(iter(values)) == wanted


def test_the_sections_of_a_report_end(tmp_path):
    from rnnvg.report.sections import COMPARISON

    bench.execute(RUN, tmp_path / "out")
    with pytest.raises(InputError, match="`parts` has no end after 500"):
        report.write(tmp_path / "out", parts=itertools.repeat(COMPARISON[0]))
    assert not (tmp_path / "out" / "report.html").exists()


def test_lines_that_end_are_a_corpus():
    lines = ["to be or not"] * 50
    assert text.from_torchtext(iter(lines)).vocabulary.words == text.from_torchtext((lines,)).vocabulary.words


def test_a_loader_with_a_length_may_still_be_endless():
    class Endless(IterableDataset):
        def __iter__(self):
            return itertools.repeat(torch.zeros(3))

    loader = DataLoader(Endless(), batch_size=2)
    with pytest.raises(InputError, match="`batches` has no end after 20"):
        rnnvg.suggest_clip(nn.Linear(3, 1), loader, lambda model, x: model(x).sum())


def test_a_list_is_never_too_long():
    assert Vocabulary(["a", "b"]).decode([0] * 2000) == ["a"] * 2000
    assert rnnvg.pool_horizons([HORIZON] * 2000).n == 2000
    assert Vocabulary(["a", "b"]).decode(np.zeros(2000, dtype=int)) == ["a"] * 2000
