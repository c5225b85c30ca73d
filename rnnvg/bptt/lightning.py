"""GradientMonitor as a Lightning callback. Needs the extra `lightning`; nothing else here imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rnnvg.bptt.monitor import GradientMonitor
from rnnvg.errors import InputError
from rnnvg.pytorch import named_modules, parameters, vector_norm

if TYPE_CHECKING:
    from lightning import Callback, LightningModule, Trainer
    from torch.optim import Optimizer


def callback(every: int = 100, prefix: str = "gradient/", **settings: Any) -> Callback:
    """A callback that logs GradientMonitor.metrics() through the trainer's own loggers.

    Every `every` optimiser steps it also logs the norm of the gradient of each layer's own parameters, as
    "norm/<module's name>", after unscaling and before clipping.

    Args:
        every, settings: as GradientMonitor's.
        prefix: put before each metric's name.

    Raises:
        InputError: Lightning is not installed.
    """
    try:
        from lightning import Callback
    except ImportError:
        raise InputError("Lightning is not installed; install it with: pip install 'rnnvg[lightning]'.") from None

    class LogGradients(Callback):
        """Logs the reach of the gradient after each training batch in which it was measured."""

        monitor: GradientMonitor | None = None
        _logged: dict[str, float] | None = None

        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.monitor = GradientMonitor(pl_module, every, **settings)

        def on_train_batch_end(
            self,
            trainer: Trainer,
            pl_module: LightningModule,
            outputs: object,
            batch: object,
            batch_idx: int,
            *_: object,
        ) -> None:
            assert self.monitor is not None
            found = self.monitor.metrics()
            if found and found != self._logged:
                self._logged = found
                for logger in trainer.loggers:
                    logger.log_metrics(
                        {prefix + name: value for name, value in found.items()}, step=trainer.global_step
                    )

        def on_before_optimizer_step(
            self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer, *_: object
        ) -> None:
            if trainer.global_step % every == 0:
                found = {f"{prefix}norm/{name}": value for name, value in layer_norms(pl_module).items()}
                for logger in trainer.loggers:
                    logger.log_metrics(found, step=trainer.global_step)

        def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert self.monitor is not None
            self.monitor.close()

    return LogGradients()


def layer_norms(model: nn.Module) -> dict[str, float]:
    """Module's name -> norm of the gradient of its own parameters, in float64; modules without a gradient are left out."""
    found: dict[str, float] = {}
    for name, module in named_modules(model):
        grads = [_dense(each.grad) for each in parameters(module, recurse=False) if each.grad is not None]
        if grads:
            norms = [vector_norm(grad, dtype=torch.float64) for grad in grads]
            found[name or "model"] = float(vector_norm(torch.stack([each.cpu() for each in norms])))
    return found


def _dense(grad: Tensor) -> Tensor:
    return grad.coalesce().values() if grad.is_sparse else grad
