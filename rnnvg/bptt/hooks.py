"""A hook on a module that can neither stop the program nor be compiled into it: its errors are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch._C._dynamo import eval_frame


class Hook:
    """A hook whose errors go to `failures` and no further.

    A copy of the module that it sits on, deep or pickled, carries a callable of the standard library that does nothing.
    """

    def __init__(self, run: Callable[..., Any], failures: list[Exception]) -> None:
        self.run, self.failures = run, failures

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, *result: Any
    ) -> Any:
        if torch.compiler.is_compiling():  # being traced into a graph, where nothing can be kept
            return None
        if not isinstance(kwargs, dict):  # taken off while the call was under way: PyTorch then leaves kwargs out
            return None
        try:
            return self.run(module, args, kwargs, *result)
        except Exception as error:
            keep_first(error, self.failures)
            return None

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


def _leave_uncompiled(code: CodeType) -> None:
    """Tell torch.compile to run a function as it is, with all that it calls, once it comes to it at a graph break."""
    if hasattr(eval_frame, "set_code_exec_strategy"):
        skip = eval_frame._FrameAction.SKIP
        eval_frame.set_code_exec_strategy(code, eval_frame._FrameExecStrategy(skip, skip))
    elif hasattr(eval_frame, "skip_code"):  # before 2.7
        eval_frame.skip_code(code)  # pyright: ignore[reportAttributeAccessIssue]


_leave_uncompiled(Hook.__call__.__code__)


def keep_first(error: Exception, failures: list[Exception]) -> None:
    if not failures:  # the first one says what went wrong; its traceback would keep the frames' tensors alive
        failures.append(error.with_traceback(None))
