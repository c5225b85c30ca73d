"""A remedy in one file: an orthogonal recurrent matrix that makes up for a part of what tanh takes."""

from rnnvg.training.remedy import MATRIX, SATURATION, Remedy

GAIN = 1.1

REMEDY = Remedy(
    "stretched",
    f"orthogonal recurrent matrix times {GAIN:g}",
    ("rnn",),
    (MATRIX, SATURATION),
    lambda base: {"init": "orthogonal", "gain": GAIN},
    not_for="is for tanh units without gates",
    predict=lambda network, **inputs: None,  # no theory is claimed for it
    source="made up",
)
