"""Backward passes as they come back: which of them an answer is about, and whether it accounts for all of `.grad`.

One forward pass may be differentiated several times: retained graphs, autograd.grad beside the loss, gradient penalties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rnnvg.errors import InputError, check_int
from rnnvg.pytorch import from_numpy, graph_task_id, parameters, queue_callback, vector_norm, will_execute

if TYPE_CHECKING:
    from rnnvg.bptt.calls import Recorder
    from rnnvg.bptt.why.contributions import TemporalContributions


@dataclass(eq=False)
class Pass:
    """One backward pass: its place among all that came back, and what it was for.

    accumulates: it added to some parameter's `.grad` (loss.backward(), not autograd.grad); creates_graph: it was itself
    recorded, so a later pass may go through it; fresh: no parameter of the module had a `.grad` before it; finished: it came
    to its end (an error in a hook or a function of the program stops it half-way).
    """

    index: int
    accumulates: bool
    creates_graph: bool
    fresh: bool
    finished: bool = False

    def finish(self) -> None:
        self.finished = True


def pass_under_way(passes: dict[int, Pass], module: nn.Module | None) -> int:
    """The engine's number of the backward pass under way, described in `passes` when it is new."""
    task = graph_task_id()
    if task not in passes:
        filled = [each for each in ([] if module is None else parameters(module)) if each.requires_grad]
        passes[task] = Pass(
            index=len(passes),
            accumulates=not filled or any(_is_accumulated(each) for each in filled),
            creates_graph=torch.is_grad_enabled(),
            fresh=all(each.grad is None for each in filled),
        )
        queue_callback(passes[task].finish)
    return task


def _is_accumulated(parameter: Tensor) -> bool:
    """Whether the backward pass under way will add to the parameter's `.grad`."""
    with torch.enable_grad():  # PyTorch 2.3 finds a leaf's node through a view of it
        node = torch.autograd.graph.get_gradient_edge(parameter).node
    try:
        return will_execute(node)
    except RuntimeError:  # torch.autograd.grad asks for this very parameter
        return False


def chosen_passes(recorder: Recorder, backward: int | None) -> set[int]:
    """The engine's numbers of the passes that `backward` names; all that added to `.grad`, or the only one, for None.

    Raises:
        InputError: nothing was seen or came back, a hook failed, the choice is open, or second derivatives are in it.
    """
    if recorder.failures:
        error = recorder.failures[0]
        raise InputError(
            f"A hook of the watcher failed and left the program alone, so what it kept is incomplete "
            f"({type(error).__name__}: {error}); there is no complete record to compute from."
        ) from error
    left_out = f" Calls were left out because {' and '.join(sorted(recorder.unseen))}." if recorder.unseen else ""
    if not recorder.calls:
        raise InputError(
            "The watcher saw no forward call that can be differentiated; run the model inside `with watch(...)`."
            + left_out
        )
    passes = recorder.passes
    begun = {task for call in recorder.calls for task in call.gradients}
    tasks = sorted((task for task in begun if passes[task].finished), key=lambda task: passes[task].index)
    if not tasks:
        stopped = " The backward pass that began did not come to its end." if begun else ""
        raise InputError(
            "No gradient has come back to the recurrent module's output, h_n or c_n; call loss.backward() before profile()."
            + stopped
            + left_out
        )
    if backward is not None:
        chosen = {tasks[check_int("backward", backward, least=0, most=len(tasks) - 1)]}
    else:
        chosen = {task for task in tasks if passes[task].accumulates} or set(tasks)
        if not any(passes[task].accumulates for task in chosen) and any(len(c.gradients) > 1 for c in recorder.calls):
            raise InputError(
                f"{len(tasks)} backward passes came back and none of them added to .grad (torch.autograd.grad); pass "
                f"backward=0 to {len(tasks) - 1}, in the order they came."
            )
        _refuse_a_penalty_alone(recorder, chosen)
    _refuse_second_derivatives(recorder, chosen)
    return chosen


def _refuse_a_penalty_alone(recorder: Recorder, chosen: set[int]) -> None:
    """`.grad` came from the graph of a recorded pass alone, which shows at no output here."""
    passes = [recorder.passes[task] for task in chosen]
    filled = any(each.grad is not None for each in recorder.module.parameters())
    if filled and all(each.creates_graph and each.fresh and not each.accumulates for each in passes):
        raise InputError(
            "What is in .grad came through the graph of a backward pass with create_graph=True (a gradient penalty?): second "
            "derivatives, which are no gradient of an output; pass backward=0 for the pass that was recorded."
        )


def _refuse_second_derivatives(recorder: Recorder, chosen: set[int]) -> None:
    for call in recorder.calls:
        recorded = [recorder.passes[task].index for task in call.gradients if recorder.passes[task].creates_graph]
        for task in chosen & call.gradients.keys():
            if recorded and recorder.passes[task].index > min(recorded):
                raise InputError(
                    "A backward pass with create_graph=True (a gradient penalty?) went through the module before this one, "
                    "which may reach the weights through that one's graph too: second derivatives, which are no gradient of "
                    f"an output; pass backward={min(recorded)} for the first, or watch a call without the penalty."
                )


def check_sum(recorder: Recorder, found: TemporalContributions) -> None:
    """Refuse contributions that do not add up to `.grad`, where that can be known: one pass, into empty `.grad`.

    `.grad` may have been scaled since (clip_grad_norm_, GradScaler.unscale_): one factor for all parameters is left free.
    """
    passes = [each for each in recorder.passes.values() if each.finished]
    if len(passes) != 1 or not (passes[0].accumulates and passes[0].fresh) or torch.distributed.is_initialized():
        return
    pairs = _by_parameter(recorder, found)
    along = sum(float((total * grad).sum()) for _, total, grad, _ in pairs)
    square = sum(float(grad.square().sum()) for _, _, grad, _ in pairs)
    if not square > 0:  # zeroed since, or nothing is left to compare
        return
    eps = max(torch.finfo(call.narrowest).eps for call in recorder.calls)
    bound = eps * (64 + 4 * found.n_steps)
    for name, total, grad, size in pairs:
        apart = float(vector_norm(total - along / square * grad))
        if apart > bound * size:
            raise InputError(
                f"The contributions to `{name}` do not add up to its .grad (apart by {apart / size:.1e} of their size), so "
                "something besides the outputs seen here reached the weights: a call outside the watch, a penalty on the "
                "weights in the loss, a second use of them; or .grad was changed since (clip_grad_value_); then call "
                "profile() before that."
            )


def _by_parameter(recorder: Recorder, found: TemporalContributions) -> list[tuple[str, Tensor, Tensor, float]]:
    """(name, total, .grad, sum of the steps' norms) in float64 for each parameter that is a leaf with a gradient."""
    rows: dict[int, tuple[str, Tensor, Tensor, float]] = {}
    own = dict(recorder.module.named_parameters(recurse=False, remove_duplicate=False))
    for name in found.names:
        parameter = own.get(name)
        if parameter is None or parameter.grad is None:
            continue
        total = found.total[name].double()
        size = float(from_numpy(found.log_norm[name]).exp().sum())
        if id(parameter) in rows:  # one parameter under two names
            _, other, _, more = rows[id(parameter)]
            total, size = total + other, size + more
        rows[id(parameter)] = name, total, parameter.grad.detach().double(), size
    return list(rows.values())
