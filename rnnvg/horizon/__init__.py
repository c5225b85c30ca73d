"""Memory horizons: how many steps back a given fraction of the gradient survives, and what many models say together.

Log gains in, small frozen results out. No networks, tasks or files here.

    memory.py    one curve's horizon          decay.py      whether an exponential fits it
    pooling.py   models together, also where many are censored
    paired.py    two networks, seed by seed    spread.py   one number of several models, as readers see it
"""

from rnnvg.horizon.decay import NATS_PER_DECADE, DecayFit, decay_fit, half_life, slope
from rnnvg.horizon.memory import THRESHOLDS, MemoryHorizon, memory_horizon
from rnnvg.horizon.paired import PairedHorizons, compare_horizons, least_p, sign_flip
from rnnvg.horizon.pooling import CONFIDENCE, HorizonEstimate, HorizonSurvival, horizon_survival, pool_horizons
from rnnvg.horizon.spread import Bounded, Spread, mark, spread

__all__ = [
    "CONFIDENCE",
    "NATS_PER_DECADE",
    "THRESHOLDS",
    "Bounded",
    "DecayFit",
    "HorizonEstimate",
    "HorizonSurvival",
    "MemoryHorizon",
    "PairedHorizons",
    "Spread",
    "compare_horizons",
    "decay_fit",
    "half_life",
    "horizon_survival",
    "least_p",
    "mark",
    "memory_horizon",
    "pool_horizons",
    "sign_flip",
    "slope",
    "spread",
]
