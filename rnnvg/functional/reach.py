"""reach(): how much of a gradient is left at each distance in words, averaged over windows of a task's held-out text."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from rnnvg.bptt import gradient_profile
from rnnvg.models import SequenceModel, check_fits, encoded, loss_gradient
from rnnvg.tasks.scoring import evaluating


def reach(model: SequenceModel, task: Any, *, windows: int = 8, seed: int = 0) -> pd.DataFrame:
    """The gradient of a word's loss by the embedding of the words before it, against distance, over a whole text.

    As `influence`, of the task's own loss, at the steps `task.probe_sources` of windows drawn from its held-out text, and in
    the model's own precision.

    Args:
        model: reads the task's words.
        task: next-word.
        windows: how many to average over.
        seed: draws them.

    Returns:
        A row per distance in words, from 1: distance, log10_gain (geometric mean, relative to the word right before), low,
        high (10 and 90 %), n.

    Raises:
        InputError: the model and the task do not fit.

    >>> from rnnvg import models, tasks
    >>> task = tasks.make("next-word", text="agreement", distance=[2, 4], n_words=4000)
    >>> model = models.build(task, "gru", hidden=8)
    >>> reach(model, task, windows=1).columns.tolist()[:2]
    ['distance', 'log10_gain']
    """
    check_fits(model.spec, task)
    probe = task.probe(windows, torch.Generator().manual_seed(seed))
    # A mean over words: each word's own gradient is scaled alike, and a gain is a ratio.
    output_grad = loss_gradient(model, task, probe)
    inputs = encoded(model, probe.inputs)
    with evaluating(model):
        profile = gradient_profile(model.core, inputs, output_grad=output_grad, sources=task.probe_sources, wrt="input")
    frame: Any = profile.curve(reference=0)
    frame["distance"] += 1
    return frame[frame["n"] > 0][["distance", "log10_gain", "low", "high", "n"]].reset_index(drop=True)
