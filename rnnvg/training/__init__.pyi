from .fit import OPTIMIZERS as OPTIMIZERS
from .fit import TrainingResult as TrainingResult
from .fit import fit as fit
from .schedule import checkpoint_steps as checkpoint_steps
