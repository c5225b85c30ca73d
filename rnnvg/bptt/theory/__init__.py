"""What theory says about gradients of untrained networks: mean field for tanh, and wide limits of PyTorch's initialisation.

A prediction is a curve like the measured one, in nats relative to one step back; `overlay` sets the two side by side.
"""

from rnnvg.bptt.theory.mean_field import MeanField, critical_sigma_w, mean_field
from rnnvg.bptt.theory.overlay import Overlay, overlay
from rnnvg.bptt.theory.prediction import CELLS, WidePrediction, predict, predict_for

__all__ = [
    "CELLS",
    "MeanField",
    "Overlay",
    "WidePrediction",
    "critical_sigma_w",
    "mean_field",
    "overlay",
    "predict",
    "predict_for",
]
