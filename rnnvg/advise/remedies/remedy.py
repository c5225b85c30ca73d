"""Of remedies for recurrent networks: kinds of cells, and the causes that may be named (rnnvg.advise.cause). No torch."""

from __future__ import annotations

from rnnvg.training.remedy import Base, Remedy

__all__ = ["CELL", "EXPLOSION", "FOR_VANILLA", "GATED", "GATES", "MATRIX", "SATURATION", "VANILLA", "Base", "Remedy"]

VANILLA, GATED = ("rnn", "rnn-relu"), ("lstm", "gru")
MATRIX, SATURATION, GATES, EXPLOSION = "recurrent matrix", "saturation", "gates", "explosion"
# Of cells other than PyTorch's no part is told from another.
CELL = "cell"
FOR_VANILLA = "is for networks without gates"
