"""What the analyzer asks of a recurrence with closed forms. Each cell answers in a file of its own.

Axes: c steps of a segment, B sequences, I input, n adjoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from rnnvg.bptt.cells.parts import Buffers, Gate, Part, StateViews, Trajectory
from rnnvg.bptt.gaussian import Theory

Paths = Mapping[str, tuple[Tensor | None, ...]]  # path -> what it brings to each part of s_{t-1}, None for nothing


class Cell:
    """One layer of a recurrence: its forward equations, and the factors of its step Jacobian, by name.

    `factors` gives a named tuple of tensors [c, B, ...]. The products below take either one step of them, [B, ...], with n
    adjoints [n, B, ...], or all of them, [c, B, ...], with one adjoint a step [c, B, ...]: elementwise operations and
    products with matrices do both as they are.

    Attributes:
        modules: the nn.Module classes of which this is the closed form.
        names: of the weights that its constructor takes, where the module is one layer of them alone.
        changes: names of the changed backward passes that `factors` offers, for counterfactuals.
        chain: where the pullback is one chain, elementwise factors and then a matrix, what attribution calls the two; () for
            a sum of `paths`. A chain has one path and a state of one part, and `into_gates` leaves first in `delta` what
            the elementwise factors make of its adjoint.
        by_runs: `pull_run` is there.
        by_outputs: `retrace` is there.
        lasting: what `factors` returns comes from `Buffers.lasting` and `Buffers.kept`, so that it may outlive a trajectory.
        carry_gate: the name of the gate that keeps the state, or None.
        theory: the name in `theories` of the wide limit that holds for this one, or None.
        parts: blocks of the state in order; the first is what the layer above and the outside read.
        n_inputs: I.
        like: one of its weights, for dtype and device.
        widest, kept: numbers per step and sequence of its widest tensor, and of its whole trajectory.
    """

    modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    names: ClassVar[tuple[str, ...]] = ()
    changes: ClassVar[tuple[str, ...]] = ()
    chain: ClassVar[tuple[str, ...]] = ()
    by_runs: ClassVar[bool] = False
    carry_gate: ClassVar[str | None] = None
    by_outputs: ClassVar[bool] = False
    lasting: ClassVar[bool] = False
    theory: str | None = None

    parts: tuple[Part, ...]
    n_inputs: int
    like: Tensor
    widest: int
    kept: int

    @classmethod
    def read(cls, module: nn.Module, weights: Mapping[str, Tensor], reverse: bool = False) -> Sequence[Self]:
        """The layers of a module, bottom first, over the `weights` by name; `reverse` asks for a bidirectional
        module's backward direction."""
        return [cls(*map(weights.__getitem__, cls.names))]  # pyright: ignore[reportCallIssue]

    @property
    def state_dtype(self) -> torch.dtype:
        return self.like.dtype

    def run(self, x: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        """The trajectory over inputs [c, B, I] from the parts of a state [B, width]; large tensors come from `new`."""
        raise NotImplementedError

    def retrace(self, x: Tensor, hidden: Tensor, state: tuple[Tensor, ...], new: Buffers) -> Trajectory:
        """`run` where the outputs [c, B, P] are known: each step starts from the output before it as it is known.

        The trajectory's own outputs are what the equations make of that: the same numbers if the known ones obey them.
        """
        raise NotImplementedError

    def factors(self, path: Trajectory, new: Buffers, change: str | None = None) -> Any:
        """Named factors of the step Jacobians along a trajectory, [c, B, ...] each; one of `changes` changes them."""
        raise NotImplementedError

    def new_delta(self, like: Tensor, new: Buffers) -> Any:
        """Memory for what a pull leaves: adjoints of the preactivations, for n adjoints `like` [n, B, width]."""
        raise NotImplementedError

    def into_gates(self, step: Any, a: StateViews, delta: Any, above: Tensor | None) -> None:
        """From the adjoint of the state after a step to those of its preactivations, in `delta`.

        `above` is the adjoint that the layer above sends to the first part, [n, B, width]; None for the top layer.
        """
        raise NotImplementedError

    def pull(self, step: Any, a: StateViews, out: StateViews, delta: Any, above: Tensor | None) -> None:
        """J^T a into `out`, by way of `into_gates`."""
        raise NotImplementedError

    def pull_dense(self, step: Any, a: StateViews, out: StateViews, above: Tensor | None, new: Buffers) -> bool:
        """J^T a through the explicit Jacobian, leaving nothing in `delta`; False where `pull` is the better way."""
        return False

    def pull_run(self, factors: Any, vectors: Tensor, inputs: bool) -> Tensor | None:
        """Pulls through c steps at once, as `Segment.pull_run`: of the top layer, alone. `factors` [c, ...] are in order of
        time, `vectors` and what comes back against it."""
        raise NotImplementedError

    def input_adjoint(self, delta: Any) -> Tensor:
        """The adjoint of the step's input, [n, B, I], from what `into_gates` left."""
        raise NotImplementedError

    def push(self, step: Any, v: tuple[Tensor, ...], v_x: Tensor | None) -> tuple[Tensor, ...]:
        """J v for the parts of a tangent [n, B, width]; `v_x` is the tangent of the input, None for zero."""
        raise NotImplementedError

    def gates(self, path: Trajectory) -> list[Gate]:
        """What its gates are along a trajectory; of a candidate or a plain unit the absolute value."""
        return []

    def paths(self, step: Any, a: StateViews, delta: Any, above: Tensor | None) -> Paths:
        """What each path brings to the parts of s_{t-1} (None: nothing), after `into_gates`: they add up to the pullback."""
        raise NotImplementedError

    def contributions(
        self, x: Tensor, path: Trajectory, a: StateViews, delta: Any, above: Tensor | None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Parameter name -> (left [c, B, R], right [c, B, Q]), after `into_gates` over all steps.

        A step's gradient of the parameter is the sum over sequences of left (x) right; a vector has Q = 1.
        """
        raise NotImplementedError

    def recurrent(self) -> Tensor | None:
        """The matrix whose entries a wide limit takes as random, [G H, H]."""
        return None

    def carry_bias(self) -> Tensor | None:
        """The bias of the gate that keeps the state, [H]."""
        return None

    @staticmethod
    def theories() -> dict[str, Theory]:
        """Name -> wide limit of a network with PyTorch's initialisation."""
        return {}


def steps_of(factors: NamedTuple) -> list[Any]:
    """Named factors [c, B, ...] step by step."""
    return list(map(type(factors), *(each.unbind() for each in factors)))
