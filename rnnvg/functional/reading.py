"""A language model reading one text: checks of the two, and what is known of every word it predicts.

Axes: T predicted words, V vocabulary, H hidden units, E the embedding's width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnvg.errors import InputError
from rnnvg.models import SequenceModel
from rnnvg.models.sequence_model import State
from rnnvg.pytorch import from_numpy


@dataclass(frozen=True)
class Reading:
    """One text read by a model in evaluation mode, without a graph.

    Attributes:
        embedded: [T, 1, E] what the core was handed, one word before each prediction.
        loss: [T] float64, nats: the price of each word but the first.
        output_grad: [T, 1, H] float64, each loss's own gradient by the core's output at the step that predicts the word.
        first_choice: [T] the id that the model finds likeliest.
    """

    embedded: Tensor
    loss: np.ndarray
    output_grad: Tensor
    first_choice: np.ndarray


def check_text(model: object, ids: Any, argument: str = "ids", least: int = 2) -> Tensor:
    """The words as int64 [N], at least so many, where `model` reads words and knows them all.

    Raises:
        InputError: a model that reads numbers, fewer than two words, an id that the model does not have.
    """
    if not isinstance(model, SequenceModel) or model.spec["kind"] != "tokens":
        found = f"one that reads {model.spec['kind']}" if isinstance(model, SequenceModel) else type(model).__name__
        raise InputError(f"`model` must be a SequenceModel that reads words; got {found}.")
    numbers = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.array(ids)
    numbers = numbers.astype(np.int64) if numbers.shape == (0,) else numbers
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise InputError(
            f"`{argument}` must be word ids, whole numbers in one row; got {numbers.dtype} {numbers.shape}."
        )
    if len(numbers) < least:
        raise InputError(
            f"`{argument}` needs at least {least} words, one to read and one to predict; got {len(numbers)}."
        )
    known = model.spec["n_inputs"]
    strange = numbers[(numbers < 0) | (numbers >= known)]
    if len(strange):
        raise InputError(f"`{argument}` holds {int(strange[0])}, and the model knows the ids 0 to {known - 1}.")
    return from_numpy(numbers.astype(np.int64))


def read(model: SequenceModel, ids: Tensor, state: State = None) -> Reading:
    """Reads `ids` [T + 1] on from `state`; the model must be in evaluation mode.

    The readout and its softmax are computed in float64: a word that is nearly certain has a tiny gradient, not none.

    Raises:
        InputError: a loss that is not finite.
    """
    device = next(model.parameters()).device
    with torch.no_grad():
        embedded = model.encode(ids[:-1, None].to(device))
        hidden, _ = model.core(embedded, state)
        weight, due = model.readout.weight.double(), ids[1:].to(device)
        logits = hidden[:, 0].double() @ weight.T + model.readout.bias.double()
        log_p = logits.log_softmax(-1)
        loss = -log_p.gather(1, due[:, None])[:, 0]
        broken = (~loss.isfinite()).nonzero()
        if len(broken):
            raise InputError(
                f"The model's loss at word {int(broken[0]) + 1} is {loss[broken[0]].item()}; "
                "pass a model whose training stayed finite."
            )
        # dL/dlogits = p - onehot. The due word's entry, p - 1, is minus the sum of the others: no cancellation near 1.
        error = log_p.exp()
        error.scatter_(1, due[:, None], 0.0)
        error.scatter_(1, due[:, None], -error.sum(1, keepdim=True))
        return Reading(embedded, loss.cpu().numpy(), (error @ weight)[:, None], logits.argmax(-1).cpu().numpy())


def state_after(model: SequenceModel, ids: Tensor) -> State:
    """The state that reading `ids` [N] from the beginning leaves; None for no words. Evaluation mode is the caller's."""
    if not len(ids):
        return None
    device = next(model.parameters()).device
    with torch.no_grad():
        return model.core(model.encode(ids[:, None].to(device)))[1]
