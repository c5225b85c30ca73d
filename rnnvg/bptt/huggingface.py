"""GradientMonitor as a callback of Hugging Face's Trainer. Nothing else here imports transformers."""

from __future__ import annotations

from typing import Any

from rnnvg.bptt.monitor import GradientMonitor
from rnnvg.errors import InputError


def callback(trainer: Any, every: int = 100, prefix: str = "gradient/", **settings: Any) -> Any:
    """A TrainerCallback that logs GradientMonitor.metrics() through the trainer: its history, TensorBoard, whatever it has.

        trainer = transformers.Trainer(model=model, ...)
        trainer.add_callback(callback(trainer, every=100))
        trainer.train()

    Numbers are logged after the step in which they were measured, whatever the trainer's own logging interval.

    Args:
        trainer: the transformers.Trainer, whose model has one recurrent module inside.
        every, settings: as GradientMonitor's.
        prefix: put before each metric's name, so that none overwrites the trainer's own.

    Raises:
        InputError: transformers is not installed, or as GradientMonitor.
    """
    try:
        from transformers import TrainerCallback
    except ImportError:
        raise InputError("transformers is not installed; install it with: pip install transformers.") from None

    class LogGradients(TrainerCallback):
        """Logs the reach of the gradient after each step in which it was measured."""

        def __init__(self) -> None:
            self.monitor = GradientMonitor(trainer.model, every, **settings)
            self._logged: dict[str, float] = {}

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found = self.monitor.metrics()
            if not found or found == self._logged:
                return
            self._logged = found
            due = control.should_log  # logging ours would take the trainer's own turn
            trainer.log({prefix + name: value for name, value in found.items()})
            control.should_log = due

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.monitor.close()

    return LogGradients()
