"""GradientMonitor: a few numbers about the reach of the gradient, every so many training steps.

Weights & Biases:       if (found := monitor.metrics()): wandb.log(found, step=step)
Hugging Face Trainer:   a TrainerCallback whose on_log(..., logs=None, **_) does logs.update(monitor.metrics())
TensorBoard:            monitor.to_tensorboard(writer, step)
Lightning:              Trainer(callbacks=[rnnvg.bptt.lightning.callback(every=100)])
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from rnnvg.bptt.watch import Watcher, find_recurrent
from rnnvg.errors import check_float, check_int

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

    from rnnvg.bptt.profile import GradientProfile

DISTANCES = (1, 10, 100)
SOURCES = 8
MAJORITY = 0.5


class GradientMonitor:
    """Watches one training step in every `every` and turns it into numbers for a log.

        monitor = rnnvg.GradientMonitor(model, every=100)
        for step, batch in enumerate(batches):
            ...                                   # forward, backward, optimiser, as they are
            if (found := monitor.metrics()):
                log(found, step)

    Only the watched steps cost anything: their weights are copied, and `metrics` follows the gradients of up to 8 of the
    steps that have a loss. A step is a forward call of the recurrent module in training mode with gradients enabled.

    Args:
        model: an nn.RNN, nn.LSTM or nn.GRU, or a model with exactly one of them inside.
        every: watch the first step and then one in so many.
        distance: how many steps back a source counts as vanished or exploded; shorter sequences count at their start.
        vanished, exploded: gains, relative to one step back, below and above which a source counts so at that distance.

    Raises:
        InputError: as `watch`, or a number out of range.
    """

    def __init__(
        self, model: nn.Module, every: int = 100, *, distance: int = 100, vanished: float = 1e-3, exploded: float = 1e3
    ) -> None:
        self.every = check_int("every", every, least=1)
        self.distance = check_int("distance", distance, least=2)
        self.vanished = check_float("vanished", vanished, above=0, below=1)
        self.exploded = check_float("exploded", exploded, above=1)
        self.module = find_recurrent(model)
        self.step = -1
        self._watcher: Watcher | None = None
        self._metrics: dict[str, float] = {}
        self._handle = self.module.register_forward_pre_hook(self._count, with_kwargs=True)

    def metrics(self) -> dict[str, float]:
        """The numbers of the latest watched step whose gradients have come back; {} where there is none yet.

        Keys: "horizon" (steps, at 1/e, relative to one step back) and "horizon_censored" (1.0: read "more than");
        "gain_1", "gain_10", "gain_100" (geometric mean, relative to the gradient at the loss's own step; absent beyond the
        sequence); "vanished", "exploded" (shares of sources); "verdict" (-1 vanishing, 1 exploding, 0 neither: the share
        that decides is more than "verdict_threshold"); "step" (the forward call that was watched).
        """
        watcher = self._watcher
        if watcher is not None and any(call.reached for call in watcher.calls):
            watcher.__exit__()
            self._metrics = self._measure(watcher)
            self._watcher = None
        return dict(self._metrics)

    def verdict(self) -> Literal["vanishing", "exploding", "neither", "not measured"]:
        """The verdict of `metrics` as a word."""
        found = self.metrics()
        if not found:
            return "not measured"
        return "vanishing" if found["verdict"] < 0 else "exploding" if found["verdict"] > 0 else "neither"

    def to_tensorboard(self, writer: SummaryWriter, step: int, prefix: str = "gradient/") -> None:
        """Write the numbers of `metrics` as scalars at `step`."""
        for name, value in self.metrics().items():
            writer.add_scalar(prefix + name, value, step)

    def close(self) -> None:
        """Take the hook off the model."""
        self._handle.remove()
        if self._watcher is not None:
            self._watcher.__exit__()

    def _count(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return None
        self.step += 1
        if self._watcher is not None:
            self._watcher.__exit__()  # one call is enough, and the module should carry nothing between watched steps
        if self.step % self.every == 0:
            self._watcher = _OneCall(self.module, self.step)
            # PyTorch chose this call's pre-hooks before it ran the first one: the new watcher's own is not among them.
            return self._watcher.before(module, args, kwargs)
        return None

    def _measure(self, watcher: Watcher) -> dict[str, float]:
        from rnnvg.bptt.watched import steps_with_gradient

        steps = steps_with_gradient(watcher)
        chosen = steps[np.unique(np.linspace(0, len(steps) - 1, min(SOURCES, len(steps))).round().astype(int))]
        profile = watcher.profile([int(step) for step in chosen])
        horizon = profile.horizon() if profile.log_norm.shape[1] > 1 and _observed(profile) else None
        found = {"step": float(watcher.step if isinstance(watcher, _OneCall) else self.step)}
        if horizon is not None:
            found |= {"horizon": float(horizon.last), "horizon_censored": float(horizon.censored)}
        from_loss = profile.log_gain(reference=0)
        for distance in DISTANCES:
            if distance < from_loss.shape[1]:
                gains = from_loss[:, distance][~np.isnan(from_loss[:, distance])]
                if gains.size:
                    found[f"gain_{distance}"] = float(np.exp(gains.mean()))
        vanished, exploded = self._shares(profile)
        found |= {"vanished": vanished, "exploded": exploded, "verdict_threshold": MAJORITY}
        found["verdict"] = -1.0 if vanished > MAJORITY else 1.0 if exploded > MAJORITY else 0.0
        return found

    def _shares(self, profile: GradientProfile) -> tuple[float, float]:
        """Of the sources and sequences with a gradient, the shares that are vanished and exploded at `distance`."""
        gain = profile.log_gain()[:, : self.distance + 1]
        seen = ~np.isnan(gain)
        counted = seen.any(1)
        if not counted.any():
            return 0.0, 0.0
        last = gain.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
        at_last = np.take_along_axis(gain, last[:, None], 1)[:, 0][counted]
        return float((at_last < math.log(self.vanished)).mean()), float((at_last > math.log(self.exploded)).mean())


class _OneCall(Watcher):
    """A watcher already entered, with the number of the step it watches."""

    def __init__(self, module: nn.RNNBase, step: int) -> None:
        super().__init__(module, snapshot=True)
        self.step = step
        self.__enter__()


def _observed(profile: GradientProfile) -> bool:
    return bool((~np.isnan(profile.log_gain())).any())
