"""Training one model on one task: loss curve, checkpoints, status, and going on after an interruption."""

from rnnvg.training.fit import OPTIMIZERS, TrainingResult, fit
from rnnvg.training.schedule import checkpoint_steps

__all__ = ["OPTIMIZERS", "TrainingResult", "checkpoint_steps", "fit"]
