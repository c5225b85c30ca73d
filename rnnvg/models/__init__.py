"""Networks that remember: recurrent cores with an encoder and a readout, their initialisers and weight files."""

from rnnvg.models.build import build, check_fits, check_task, count_parameters, matched_hidden
from rnnvg.models.constraint import unconstrain
from rnnvg.models.evaluation import encoded, loss_gradient
from rnnvg.models.initialisers import INITS
from rnnvg.models.own_cells import OWN_CELLS, has_recurrence, recurrence
from rnnvg.models.sequence_model import CELLS, EVERY_CELL, SequenceModel, check_cell
from rnnvg.models.weights import load, read_header, save

__all__ = [
    "CELLS",
    "EVERY_CELL",
    "INITS",
    "OWN_CELLS",
    "SequenceModel",
    "build",
    "check_cell",
    "check_fits",
    "check_task",
    "count_parameters",
    "encoded",
    "has_recurrence",
    "load",
    "loss_gradient",
    "matched_hidden",
    "read_header",
    "recurrence",
    "save",
    "unconstrain",
]
