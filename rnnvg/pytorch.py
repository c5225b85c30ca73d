"""PyTorch's functions that have no types there, or private names alone: here, and nowhere else, with their types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import CodeType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

fork_rng: Callable[..., AbstractContextManager[None]] = torch.random.fork_rng
from_numpy: Callable[[np.ndarray], Tensor] = torch.from_numpy
block_diag: Callable[..., Tensor] = torch.block_diag
vector_norm: Callable[..., Tensor] = torch.linalg.vector_norm
qr: Callable[[Tensor], tuple[Tensor, Tensor]] = torch.linalg.qr
eigh: Callable[[Tensor], tuple[Tensor, Tensor]] = torch.linalg.eigh
lu_factor_ex: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] = torch.linalg.lu_factor_ex


# Private names are looked up where they are used: what does without one goes on where a version of PyTorch lacks it.
def graph_task_id() -> int:
    """The number of the backward pass under way, -1 for none."""
    return torch._C._current_graph_task_id()


def will_execute(node: torch.autograd.graph.Node) -> bool:
    """Whether the backward pass under way will reach a node."""
    return torch._C._will_engine_execute_node(node)


def queue_callback(call: Callable[[], None]) -> None:
    """`call` at the end of the backward pass under way."""
    torch.autograd.Variable._execution_engine.queue_callback(call)


def func_transform() -> object | None:
    """The transform of torch.func that is under way."""
    from torch._C._functorch import peek_interpreter_stack

    return peek_interpreter_stack()


def tracing() -> object | None:
    """What torch.jit is tracing."""
    return torch._C._get_tracing_state()


DROPOUTS: tuple[type[nn.modules.dropout._DropoutNd]] = (nn.modules.dropout._DropoutNd,)
BATCH_NORMS: tuple[type[nn.modules.batchnorm._BatchNorm]] = (nn.modules.batchnorm._BatchNorm,)


def gradients(
    output: Tensor, inputs: Sequence[Tensor], covector: Tensor | None = None, retain: bool = False, create: bool = False
) -> tuple[Tensor | None, ...]:
    """torch.autograd.grad, with None for what the output does not depend on; `create` keeps the graph too."""
    keep = retain or create
    return torch.autograd.grad(output, inputs, covector, retain_graph=keep, create_graph=create, allow_unused=True)


def named_modules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(module.named_modules())


def parameters(module: nn.Module, recurse: bool = True) -> list[nn.Parameter]:
    return list(module.parameters(recurse))


def weight_names(module: nn.RNNBase) -> list[str]:
    """In the order in which the module's kernel takes them."""
    return list(module._flat_weights_names)


def flat_weights(module: nn.RNNBase) -> list[tuple[str, Tensor | None]]:
    """What the module's kernel is called with, None for a weight that is gone."""
    return list(zip(module._flat_weights_names, module._flat_weights, strict=True))


def forward_pre_hooks(module: nn.Module) -> list[Callable[..., object]]:
    return list(module._forward_pre_hooks.values())


def apply(module: nn.Module, convert: Callable[[Tensor], Tensor]) -> None:
    """`convert` every parameter and buffer in place, as module.to() does."""
    module._apply(convert)


def leave_uncompiled(code: CodeType) -> None:
    """Tell torch.compile to run a function as it is, with all that it calls, once it comes to it at a graph break."""
    from torch._C._dynamo import eval_frame

    if hasattr(eval_frame, "set_code_exec_strategy"):
        skip = eval_frame._FrameAction.SKIP
        eval_frame.set_code_exec_strategy(code, eval_frame._FrameExecStrategy(skip, skip))
    elif hasattr(eval_frame, "skip_code"):  # before 2.7
        eval_frame.skip_code(code)  # pyright: ignore[reportAttributeAccessIssue]


def pruned(hook: BasePruningMethod, module: nn.Module) -> dict[str, Tensor]:
    """The weight that pruning writes before a call, by its name."""
    return {hook._tensor_name: hook.apply_mask(module)}
